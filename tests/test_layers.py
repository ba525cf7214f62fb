"""Imports go strictly downward, from floor to floor; a floor is a folder of `dwm_jax/`, or a file that stands there."""

import ast
import re
from pathlib import Path

import pytest

import dwm_jax

PACKAGE = Path(dwm_jax.__file__).parent

# From the bottom up. What shares a floor knows nothing of its neighbours; files inside a folder may.
FLOORS = [
    {"starting"},
    {"__init__", "types"},
    {"maths", "runtime"},
    {"networks", "data"},
    {"world_models", "learners"},
    {"registry", "imagination"},
    {"limits"},
    {"config"},
    {"results", "recipes", "config_files"},
    {"phases"},
    {"command_line", "workdir", "sharing"},
    {"train", "evaluate", "share"},
]
FILES = sorted(PACKAGE.rglob("*.py"))
# Below, whatever is decided by the config arrives as an argument.
READS_THE_CONFIG = {"train", "config", "limits", "command_line", "workdir", "phases", "recipes", "config_files"}


def room(path):
    """The folder or file of the package that `path` belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name):
    (number,) = [number for number, names in enumerate(FLOORS) if name in names]
    return number


def imports(path):
    """Every module or name that a file imports, anywhere in it, dotted."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a module lives"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_rooms(path):
    """The folders and files of the package that a file imports from."""
    dotted = [name.split(".") for name in imports(path) if name.startswith("dwm_jax.")]
    rooms = {parts[1] for parts in dotted}
    return {name if name in set().union(*FLOORS) else "__init__" for name in rooms}


def label(path):
    return str(path.relative_to(PACKAGE))


def test_every_folder_and_file_stands_on_one_floor():
    standing = [name for floor in FLOORS for name in floor]
    assert sorted(standing) == sorted({room(path) for path in FILES})


@pytest.mark.parametrize("path", FILES, ids=label)
def test_imports_go_downward(path):
    upward = {name for name in imported_rooms(path) - {room(path)} if floor(name) >= floor(room(path))}
    assert not upward, f"{label(path)} imports from {sorted(upward)}, on its own floor or above"


@pytest.mark.parametrize("path", FILES, ids=label)
def test_the_package_knows_no_experiments(path):
    assert not {name for name in imports(path) if name.startswith("experiments")}


@pytest.mark.parametrize("package", ["world_models", "learners"])
def test_the_contract_of_a_package_imports_none_of_those_who_keep_it(package):
    assert package not in imported_rooms(PACKAGE / package / "base.py")


@pytest.mark.parametrize("path", [path for path in FILES if room(path) not in READS_THE_CONFIG], ids=label)
def test_only_the_joinery_reads_the_config(path):
    libraries = {name.split(".")[0] for name in imports(path)}
    assert "ml_collections" not in libraries
    assert "absl" not in libraries or label(path) == "runtime/cluster.py"
    tree = ast.parse(path.read_text())
    assert not {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in ("config", "FLAGS")}
    assert not {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg) and node.arg == "config"}


@pytest.mark.parametrize("path", [path for path in FILES if room(path) == "maths"], ids=label)
def test_the_mathematics_knows_no_networks_and_no_files(path):
    assert not {name.split(".")[0] for name in imports(path)} & {"flax", "optax", "os", "pathlib", "json"}


# What is used of modules that their owners may change without a word, and where.
PRIVATE = {("dwm_jax/runtime/processes.py", "jax._src.distributed")}


def test_private_modules_of_others_are_few_and_named():
    found = set()
    root = PACKAGE.parent
    for path in [*PACKAGE.rglob("*.py"), *(root / "experiments").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names if node.module != "__future__"]
            else:
                continue
            private = [name for name in names if re.search(r"(^|\.)_[^_]", name)]
            found |= {(str(path.relative_to(root)), name) for name in private}
    assert found == PRIVATE
