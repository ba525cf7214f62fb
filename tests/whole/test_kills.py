"""The promise: kill it at any moment, in any phase, start the same command again, and nothing has changed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests import tiny

ROOT = Path(__file__).parents[2]
# Few: `test_faults.py` tries every write; here the process is a real one, and computes when it is struck.
NUM_KILLS = 6
COMMAND = [
    sys.executable,
    "-m",
    "dwm_jax.train",
    "--config",
    "experiments/configs/smoke.py",
    "--config.methods=DWM-IQL,OneStep-TD3BC",
    "--config.diagnostics.sampling_horizons=()",
]


def start(workdir: Path, data: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "--workdir", str(workdir)],
        cwd=ROOT,
        env={**os.environ, "MINARI_DATASETS_PATH": str(data)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(folder / "run", folder / "data")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return folder


@pytest.mark.end_to_end
def test_kills_at_random_moments_change_nothing(undisturbed: Path, tmp_path: Path) -> None:
    # Moments are random in time, so that data, pretraining, imagination, learning, evaluation and saving all get
    # their share; what a kill interrupts differs from run to run, what must come out does not.
    moments, kills, seconds = random.Random(0), 0, 20.0
    kinds: dict[int, int] = {signal.SIGKILL: 0, signal.SIGTERM: 0}
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        while True:
            process = start(folder / "run", folder / "data")
            began = time.monotonic()
            number = signal.SIGKILL if kills % 2 else signal.SIGTERM
            try:
                # Late enough to get past the imports more often than not.
                _, errors = process.communicate(timeout=moments.uniform(3.0, seconds) if kills < NUM_KILLS else None)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
                _, errors = process.communicate(timeout=60)
                if process.returncode in (128 + number, -number):
                    kills, kinds[number] = kills + 1, kinds[number] + 1
                    continue
            assert process.returncode == 0, errors
            seconds = max(4.0, time.monotonic() - began)
            break
        assert tiny.files(folder) == tiny.files(undisturbed)
        expected, arrays = tiny.final_arrays(undisturbed), tiny.final_arrays(folder)
        assert expected.keys() == arrays.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(arrays[name], array, err_msg=name)
        if kills == NUM_KILLS:
            break
    assert min(kinds.values()) == NUM_KILLS // 2


@pytest.mark.end_to_end
def test_sigterm_says_how_to_go_on_and_leaves_with_143(tmp_path: Path) -> None:
    process = start(tmp_path / "run", tmp_path / "data")
    assert process.stderr is not None
    process.stderr.readline()  # a line about the data: the run has begun
    process.send_signal(signal.SIGTERM)
    # 10 seconds and the time a busy machine may take on top; the watchdog is what makes it come true.
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "stopped by SIGTERM; start the same command again to go on" in errors.splitlines()[-1]
