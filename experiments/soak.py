"""Whether a long run keeps its memory and speed: the real command for an hour, with both recorded.

    python -m experiments.soak                                   an hour of the quickstart's DWM-TD3BC
    python -m experiments.soak --minutes 5 --workdir runs/soak   shorter, and somewhere else

The quickstart's config with far more policy updates than there is time for, so that learning, evaluation and saving go
on until the time is up; SIGTERM then ends the run, which has to leave with 143. Speed is taken from the run's own
timing.jsonl, between one checkpoint and the next; memory is the process's resident set, once in five seconds. Both
count from a minute after the first checkpoint of the policies. Prints a table by tenths of that time, writes it with
all samples to WORKDIR/soak.json, and exits with 1 where memory grew by more than 2 % from the first tenth to the last.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from dwm_jax.runtime import files, terminal
from dwm_jax.runtime.arguments import local_path
from dwm_jax.runtime.row_files import JsonLines

from .children import end_with_parent

METHOD = "DWM-TD3BC"
NUM_UPDATES = 2_000_000
LARGEST_GROWTH = 0.02
SETTLING_SECONDS = 60.0


@terminal.guard_output()
def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m experiments.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes",
        type=terminal.number_between(SETTLING_SECONDS / 60, 10_080),
        default=60.0,
        help="of policy learning, of which the first does not count (default: %(default)s)",
    )
    parser.add_argument(
        "--workdir", type=local_path, default=Path("runs/soak"), help="of the run (default: %(default)s)"
    )
    options = parser.parse_args()
    if options.workdir.exists():
        parser.error(f"--workdir {options.workdir} exists: a soak begins anew")
    samples, exit_code = soak(options.workdir, options.minutes * 60)
    if exit_code != 128 + signal.SIGTERM:
        sys.exit(f"error: the run left with {exit_code} instead of 143; its own words are above")
    try:
        measured = by_tenths(samples, checkpoints_of(options.workdir))
    except ValueError as error:
        sys.exit(f"error: {error}")
    growth = measured["memory_MiB"][-1] / measured["memory_MiB"][0] - 1
    files.write(options.workdir / "soak.json", json.dumps(measured | {"growth": growth, "samples": samples}) + "\n")
    print("  tenth   memory (MiB)   updates/s")
    for tenth, (memory, speed) in enumerate(zip(measured["memory_MiB"], measured["updates_per_second"], strict=False)):
        print(f"{tenth + 1:7}{memory:15.1f}{speed:12.1f}")
    print(f"memory grew by {100 * growth:.2f} % after the first minute")
    sys.exit(1 if growth > LARGEST_GROWTH else 0)


def soak(workdir: Path, seconds: float) -> tuple[list[tuple[float, float]], int]:
    """Runs until the policies have learnt for `seconds`; [(seconds of learning, resident MiB)], exit code."""
    settings = {"methods": METHOD, "policy.num_updates": NUM_UPDATES}
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    command = [sys.executable, "-m", "dwm_jax.train", "--config", "quickstart", *overrides]
    process = subprocess.Popen([*command, "--workdir", str(workdir)], preexec_fn=end_with_parent())
    samples: list[tuple[float, float]] = []
    began: float | None = None
    while process.poll() is None:
        if began is None and checkpoints_of(workdir):
            began = time.monotonic()
        if began is not None:
            samples.append((time.monotonic() - began, resident_mebibytes(process.pid)))
            if samples[-1][0] > seconds:
                process.send_signal(signal.SIGTERM)
                break
        time.sleep(5)
    return samples, process.wait()


def checkpoints_of(workdir: Path) -> list[tuple[float, int]]:
    """(seconds, step) at every checkpoint of the policies."""
    rows = JsonLines(workdir / "timing.jsonl").read()
    return [(row["seconds"], row["step"]) for row in rows if row["phase"] == METHOD]


def by_tenths(samples: list[tuple[float, float]], checkpoints: list[tuple[float, int]]) -> dict[str, list[float]]:
    """Mean memory and speed in ten equal parts of the time after `SETTLING_SECONDS`.

    Args:
      samples: (seconds since the first checkpoint, MiB).
      checkpoints: (seconds, step) of the first and all later ones, on a clock of their own.
    """
    memory = [mebibytes for seconds, mebibytes in samples if seconds >= SETTLING_SECONDS]
    settled = [(s, step) for s, step in checkpoints if s >= checkpoints[0][0] + SETTLING_SECONDS]
    if len(settled) < 2:
        raise ValueError("fewer than two checkpoints after the first minute: give it more --minutes")
    intervals = np.diff(np.array(settled), axis=0)
    parts = np.array_split(intervals, min(10, len(intervals)))
    return {
        "memory_MiB": [float(np.mean(part)) for part in np.array_split(memory, min(10, len(memory)))],
        "updates_per_second": [float(part[:, 1].sum() / part[:, 0].sum()) for part in parts],
    }


def resident_mebibytes(pid: int) -> float:
    """Resident set of a process (Linux: /proc/PID/statm, in pages)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
