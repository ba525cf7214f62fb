"""Imports go strictly downward."""

import ast
from pathlib import Path

import pytest

import dwm_jax

PACKAGE = Path(dwm_jax.__file__).parent

# From the bottom up. A name stands for a module, or for a package and all in it; the longest name that fits counts.
# A module imports from lower floors, and from its own package.
FLOORS = [
    ["dwm_jax", "dwm_jax.types", "dwm_jax.runtime.processes"],
    [
        "dwm_jax.maths.returns",
        "dwm_jax.maths.losses",
        "dwm_jax.maths.diffusion",
        "dwm_jax.maths.normalizers",
        "dwm_jax.runtime.locks",
        "dwm_jax.runtime.progress",
        "dwm_jax.runtime.provenance",
    ],
    ["dwm_jax.networks", "dwm_jax.networks.optimization", "dwm_jax.runtime.interruption"],
    ["dwm_jax.world_models", "dwm_jax.learners"],
    ["dwm_jax.maths.value_expansion", "dwm_jax.data", "dwm_jax.registry"],
    ["dwm_jax.imagination.sources", "dwm_jax.results.diagnostics", "dwm_jax.results.policy_files"],
    ["dwm_jax.artifacts"],
    [
        "dwm_jax.runtime.parallel",
        "dwm_jax.runtime.checkpoints",
        "dwm_jax.runtime.row_files",
        "dwm_jax.results.evaluator",
    ],
    ["dwm_jax.results.scores", "dwm_jax.runtime.non_finite", "dwm_jax.runtime.mirrors"],
    ["dwm_jax.results.pictures", "dwm_jax.config"],
    ["dwm_jax.phases.loop", "dwm_jax.imagination.relabelling", "dwm_jax.runtime.cluster", "dwm_jax.imagination.supply"],
    ["dwm_jax.phases.policy_updates"],
    ["dwm_jax.phases.pretraining", "dwm_jax.phases.policy_learning", "dwm_jax.phases.planning"],
    ["dwm_jax.results.summary", "dwm_jax.command_line"],
    ["dwm_jax.train", "dwm_jax.evaluate"],
    ["experiments"],
]
READS_THE_CONFIG = {
    "dwm_jax.train",
    "dwm_jax.config",
    "dwm_jax.command_line",
    "dwm_jax.phases.loop",
    "dwm_jax.runtime.cluster",
    "dwm_jax.phases.pretraining",
    "dwm_jax.phases.policy_learning",
    "dwm_jax.imagination.supply",
    "dwm_jax.phases.planning",
    "dwm_jax.results.summary",
}


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Every module that a file imports, anywhere in it; of `from package import module` the module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a module lives"
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                found.add(longer if longer in FILES else node.module)
    return found


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(module):
    """The longest name among the floors that holds the module."""
    names = [name for floor in FLOORS for name in floor if name != "dwm_jax"]
    fitting = [name for name in names if module == name or module.startswith(name + ".")]
    if module == "dwm_jax":
        return module
    assert fitting, f"{module} stands on no floor: give it one here and in the design"
    return max(fitting, key=len)


def floor(module):
    return next(number for number, names in enumerate(FLOORS) if room(module) in names)


def own(modules):
    return {module for module in modules if module.split(".")[0] in ("dwm_jax", "experiments")}


@pytest.mark.parametrize("module", FILES)
def test_imports_go_downward(module):
    upward = {
        target
        for target in own(imports(FILES[module]))
        if floor(target) >= floor(module) and room(target) != room(module)
    }
    assert not upward, f"{module} imports {sorted(upward)}, which stand on its own floor or above"


@pytest.mark.parametrize("package", ["dwm_jax.world_models", "dwm_jax.learners"])
def test_the_contract_of_a_package_imports_none_of_those_who_keep_it(package):
    assert not {m for m in imports(FILES[f"{package}.base"]) if m.startswith(package)}


def test_learners_and_world_models_know_nothing_of_each_other():
    for one, other in [("learners", "world_models"), ("world_models", "learners")]:
        for module, path in FILES.items():
            if module.startswith(f"dwm_jax.{one}"):
                assert not {m for m in imports(path) if m.startswith(f"dwm_jax.{other}")}, module


@pytest.mark.parametrize("module", sorted(FILES.keys() - READS_THE_CONFIG))
def test_only_the_loop_and_its_door_read_the_config(module):
    names = imports(FILES[module])
    assert not {m for m in names if m.split(".")[0] in ("ml_collections", "absl")}
    assert "dwm_jax.config" not in names
    tree = ast.parse(FILES[module].read_text())
    assert not {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in ("config", "FLAGS")}
    assert not {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg) and node.arg == "config"}


def test_the_mathematics_knows_no_networks_and_no_files():
    for module in FLOORS[1]:
        if module not in ("dwm_jax.runtime.locks", "dwm_jax.runtime.progress", "dwm_jax.runtime.provenance"):
            assert not {m.split(".")[0] for m in imports(FILES[module])} & {"flax", "optax", "os", "pathlib", "json"}
