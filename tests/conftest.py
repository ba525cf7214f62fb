"""Shared by all tests: data made once per session in a scratch folder, compiled programs kept between them."""

import os
from collections.abc import Iterator
from pathlib import Path

from tests import commands
from tests.xla_flags import SOONEST_READY

# Before jax is imported.
os.environ.setdefault("XLA_FLAGS", SOONEST_READY)

import jax
import pytest

from dwm_jax.runtime.locks import exclusive
from dwm_jax.train import train
from tests import tiny

pytest_plugins = ["tests.times"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: where a process takes a file at a time, one that comes last keeps the others waiting."""
    items.sort(key=lambda item: not item.nodeid.startswith(("tests/whole/", "tests/world_models/")))


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all of pytest's processes have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory, common: Path) -> Iterator[Path]:
    """Minari's root, for this process and those its tests start; programs compiled by any of them are there for all."""
    folder = tmp_path_factory.mktemp("session")
    environment = pytest.MonkeyPatch()
    environment.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
    environment.setenv("JAX_COMPILATION_CACHE_DIR", str(common / "compiled"))
    environment.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    jax.config.update("jax_compilation_cache_dir", str(common / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    yield folder
    environment.undo()


@pytest.fixture(scope="session")
def on_one_device(scratch: Path, common: Path) -> Path:
    """A folder with a finished run of both kinds of model: made by that of pytest's processes which needs it first.

    It is to be read, and copied, but not written into.
    """
    folder = common / "on_one_device"
    with exclusive(folder / ".lock", wait=True):
        if not (folder / "run" / "summary.md").exists():
            train(tiny.config(methods=tiny.BULK_AND_FOLLOWING), folder / "run")
    return folder


@pytest.fixture(scope="session")
def run_module(scratch: Path) -> Iterator[commands.RunModule]:
    """`python -m MODULE ARGUMENTS`, without the imports."""
    with commands.forked() as run:
        yield run


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """Drops a module's compiled programs when it is done.

    Each takes tens of memory mappings, of which Linux allows a process 65,530; the whole suite needs more than that
    and would end in a segmentation fault.
    """
    yield
    jax.clear_caches()
