"""A run moves between machines: begun on eight devices it ends on one, and the other way round."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dwm_jax.checkpoint import Checkpoints
from dwm_jax.train import train
from tests import tiny

ROOT = Path(__file__).parents[1]
METHOD = "DWM-TD3BC"


class StoppedError(Exception):
    """Stands for a kill."""


def run(workdir: Path, stop_at: int | None = None) -> None:
    """The run on the devices there are; with `stop_at`, up to the checkpoint of that update of the policy."""
    save = Checkpoints.save

    def save_then_stop(self: Checkpoints, step: int, state: object) -> None:
        save(self, step, state)
        if (self.directory.name, step) == (METHOD, stop_at):
            raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_then_stop)
        train(tiny.config(methods=METHOD), workdir)


ON_EIGHT = """
import jax, pathlib, sys
from tests import test_moves
assert jax.local_device_count() == 8
workdir, stop_at = pathlib.Path(sys.argv[1]), int(sys.argv[2])
try:
    test_moves.run(workdir, stop_at or None)
except test_moves.StoppedError:
    assert stop_at
else:
    assert not stop_at
"""


def run_on_eight(workdir: Path, stop_at: int | None = None) -> str:
    """`run` in a process with eight virtual devices; what it said."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    process = subprocess.run(
        [sys.executable, "-c", ON_EIGHT, str(workdir), str(stop_at or 0)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run on one device."""
    folder = tmp_path_factory.mktemp("one_device")
    run(folder / "run")
    return folder


@pytest.fixture
def folder(undisturbed: Path, tmp_path: Path) -> Path:
    """A place for another run, where the world model is found: what moves is policy learning."""
    shutil.copytree(undisturbed / "world_models", tmp_path / "world_models")
    return tmp_path


def assert_equal_up_to_rounding(folder: Path, undisturbed: Path) -> None:
    expected, arrays = tiny.final_arrays(undisturbed), tiny.final_arrays(folder)
    assert expected.keys() == arrays.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(arrays[name], array, rtol=1e-3, atol=2e-5, err_msg=name)
    assert len((folder / "run" / "results.csv").read_text().splitlines()) == len(
        (undisturbed / "run" / "results.csv").read_text().splitlines()
    )


def test_begun_on_eight_devices_it_ends_on_one(
    undisturbed: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_on_eight(folder / "run", stop_at=10)
    run(folder / "run")
    assert f"{METHOD}: resuming from step 10" in capsys.readouterr().err
    assert_equal_up_to_rounding(folder, undisturbed)


def test_begun_on_one_device_it_ends_on_eight(undisturbed: Path, folder: Path) -> None:
    with pytest.raises(StoppedError):
        run(folder / "run", stop_at=10)
    assert f"{METHOD}: resuming from step 10" in run_on_eight(folder / "run")
    assert_equal_up_to_rounding(folder, undisturbed)
