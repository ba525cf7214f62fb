"""The first minute elsewhere: a notebook's cell, an ASCII terminal, a home that cannot be written, a closed pipe."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )


@pytest.mark.end_to_end
def test_a_notebooks_backend_is_no_reason_to_stop(tmp_path: Path) -> None:
    listed = run("dwm_jax.data", "list", MPLBACKEND="module://no_such_package.backend")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "maze2d-umaze" in listed.stdout


@pytest.mark.end_to_end
def test_a_way_of_drawing_that_is_not_there_is_one_line_and_the_work_goes_on() -> None:
    listed = run("dwm_jax.data", "list", MUJOCO_GL="no_such_library")
    assert listed.returncode == 0
    (line,) = listed.stderr.splitlines()
    assert line.startswith("MUJOCO_GL=no_such_library cannot be used here (RuntimeError: ")
    assert line.endswith("; all but films works without")
    assert "maze2d-umaze" in listed.stdout


@pytest.mark.end_to_end
def test_a_terminal_that_knows_only_ascii_shows_a_question_mark(tmp_path: Path) -> None:
    (tmp_path / "é").mkdir()
    found = run("experiments.status", str(tmp_path / "é"), PYTHONIOENCODING="ascii")
    assert found.returncode == 2
    assert found.stderr == f"error: {tmp_path}/? holds no run: no config.json in it or below\n"


@pytest.mark.end_to_end
def test_a_reader_who_has_seen_enough_ends_the_command_in_silence() -> None:
    command = f"{sys.executable} -m dwm_jax.data list | head -n 0; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("141\n", "")


@pytest.mark.end_to_end
def test_a_home_that_cannot_be_written_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "MINARI_DATASETS_PATH"}
    refused = subprocess.run(
        [sys.executable, "-m", "dwm_jax.data", "show", "maze2d-umaze", "--num-steps", "300"],
        cwd=ROOT,
        env=environment | {"HOME": "/proc/no-home", "MPLCONFIGDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: no folder for data sets: /proc/no-home")
    assert line.endswith("name one that can be written with MINARI_DATASETS_PATH")
