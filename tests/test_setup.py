"""What an installed package is made of, and that every place which says what is supported says the same."""

import importlib
import re
import tomllib
from configparser import ConfigParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from dwm_jax.runtime import terminal

ROOT = Path(__file__).parents[1]
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg")
PYTHONS = [line.rpartition(" ")[2] for line in SETUP["metadata"]["classifiers"].splitlines() if "Python ::" in line]


def in_checkout(module: str) -> str:
    """The name here of what a wheel holds as `module`."""
    return module.removeprefix("dwm_jax.") if module.startswith("dwm_jax.experiments") else module


def test_every_command_is_a_function_that_is_there() -> None:
    commands = dict(line.split(" = ") for line in SETUP["options.entry_points"]["console_scripts"].strip().splitlines())
    assert list(commands) == [f"dwm-{name}" for name in terminal.COMMANDS]
    for command, target in commands.items():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(in_checkout(module)), function)), command


def test_every_file_that_is_read_beside_the_code_is_in_the_wheel() -> None:
    patterns = SETUP["options.package_data"]
    shipped = {
        path
        for package, names in patterns.items()
        for name in names.split()
        for path in (ROOT / in_checkout(package).replace(".", "/")).glob(name)
    }
    packages = {path.parent for top in ("dwm_jax", "experiments") for path in (ROOT / top).rglob("__init__.py")}
    beside = {path for folder in packages for path in folder.rglob("*") if path.suffix in (".csv", ".html", ".typed")}
    assert shipped == {path for path in beside if ROOT / "experiments" / "measured" not in path.parents}


def test_an_installed_copy_needs_no_checkout() -> None:
    """Inside a wheel `experiments` has another name, so that nothing there may be imported by this one."""
    for path in (ROOT / "experiments").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) experiments\b", path.read_text(), re.MULTILINE), path


def test_the_pins_lie_in_the_ranges_and_the_readme_names_them() -> None:
    # requirements.txt is for the whole checkout, its reports included.
    lines = [*SETUP["options"]["install_requires"].split("\n")[1:], SETUP["options.extras_require"]["report"]]
    ranges = {one.name: one for one in map(Requirement, lines)}
    pins = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if line[:1] != "#"]
    assert {pin.name for pin in pins} == set(ranges)
    supported = (ROOT / "README.md").read_text().partition("\n## Supported\n")[2]
    for python in PYTHONS:
        environment = {"python_version": python, "python_full_version": f"{python}.0"}
        applying = {pin.name: pin for pin in pins if pin.marker is None or pin.marker.evaluate(environment)}
        version = {name: str(pin.specifier).removeprefix("==") for name, pin in applying.items()}
        assert set(applying) == set(ranges), python
        assert [name for name, pin in version.items() if Version(pin) not in ranges[name].specifier] == []
        assert f"Python {python} (jax {version['jax']}, flax {version['flax']})" in supported


def test_the_oldest_python_is_the_one_that_tools_check_for() -> None:
    oldest = min(PYTHONS, key=Version)
    assert SETUP["options"]["python_requires"] == f">={oldest}"
    assert SETUP["mypy"]["python_version"] == oldest
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert ruff["target-version"] == f"py{oldest.replace('.', '')}"
    assert f"Python {oldest} or newer" in (ROOT / "README.md").read_text()
    # Pins differ between Pythons that are named.
    marked = re.findall(r'python_version [<>=]+ "(.+?)"', (ROOT / "requirements.txt").read_text())
    assert marked
    assert set(marked) <= set(PYTHONS)
