"""The preparation of data is interrupted and killed at random moments; started again, it makes the same bytes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.data.d4rl_files import arrays_of, make_episodes, write

SIGNALS = [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGTERM]
NAME = "big-v0"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many episodes of two steps: seconds of conversion from a small file."""
    episodes = make_episodes([(2, True)] * 2_000, 11, 3)
    return write(tmp_path_factory.mktemp("source") / "big.hdf5", arrays_of(episodes), "Hopper-v5")


def start(file: Path, root: Path) -> subprocess.Popen[str]:
    """A preparation that has passed its imports: it holds the data set's lock."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dwm_jax.data", "prepare", NAME, "--file", str(file)],
        env={**os.environ, "MINARI_DATASETS_PATH": str(root)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    lock = root / f".{NAME}.lock"
    deadline = time.monotonic() + 120
    while not (lock.exists() and lock.read_text().startswith(f"{process.pid} on ")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def contents(root: Path) -> dict[str, bytes]:
    folder = root / NAME
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.end_to_end
def test_kills_while_data_is_prepared_change_nothing(file: Path, tmp_path: Path) -> None:
    undisturbed, root = tmp_path / "undisturbed", tmp_path / "root"
    process, began = start(file, undisturbed), time.monotonic()
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    seconds = time.monotonic() - began
    expected = contents(undisturbed)
    assert expected.keys() == {"data/main_data.hdf5", "data/metadata.json"}

    moments, left = random.Random(0), list(SIGNALS)
    for _ in range(3 * len(SIGNALS)):
        if not left:
            break
        process = start(file, root)
        time.sleep(moments.uniform(0, 0.9 * seconds))
        process.send_signal(left[0])
        _, errors = process.communicate(timeout=60)
        if (root / NAME).exists():
            # It was quicker than the signal; what it made is whole.
            assert contents(root) == expected
            shutil.rmtree(root / NAME)
            continue
        number = left.pop(0)
        if number == signal.SIGKILL:
            assert process.returncode == -number, errors
        else:
            assert process.returncode == 128 + number, errors
            assert errors.splitlines()[-1].startswith(
                f"stopped by {number.name}; start the same command again to go on"
            )
            assert [path.name for path in root.iterdir()] == [f".{NAME}.lock"]
    assert not left

    process = start(file, root)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert contents(root) == expected
    assert sorted(path.name for path in root.iterdir()) == [f".{NAME}.lock", NAME]
