"""How long a data set takes from Minari's local folder to device arrays, and how much memory.

    python -m experiments.measure_reading                        a million steps in episodes of 1,000
    python -m experiments.measure_reading --episode-length 77    the same in 13,000 short episodes

Writes random numbers of walker2d's sizes (observation 17, action 6) to a temporary folder as the package's own
store does, and reads them in a fresh process with the functions of a training run. Prints a table and one JSON line:

    seconds      from `workdir.load_recording` to arrays on all devices; imports and jax's start come before
    CPU seconds  in the same interval; much less than seconds means that the machine was busy
    data         bytes of the arrays of `Dataset`: what was recorded, labels and bookkeeping
    peak memory  the process's peak minus its peak before reading
    peak / data  1 is the data alone: on a CPU device its arrays are the host's own, without a copy

The file comes from the operating system's cache: it was just written.
"""

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import gymnasium as gym
import jax
import numpy as np

from dwm_jax.config import default_config
from dwm_jax.data import dataset as data
from dwm_jax.data import minari_store
from dwm_jax.runtime import parallel, terminal
from dwm_jax.types import Episode
from dwm_jax.workdir import load_recording

from .benchmark.timing import process_peak

OBSERVATION_SIZE, ACTION_SIZE = 17, 6
DATASET_ID = "dwm-measure-reading-v0"


@terminal.guard_output()
def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m experiments.measure_reading",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=1_000_000, help="recorded steps (default: %(default)s)")
    parser.add_argument("--episode-length", type=int, default=1_000, help="of each episode (default: %(default)s)")
    options = parser.parse_args()
    if not 2 <= options.episode_length <= options.steps:
        parser.error("--episode-length must be at least 2 and at most --steps")
    # A process each: what writing took is no part of the reader's memory.
    pool = ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1)
    with tempfile.TemporaryDirectory() as folder, pool:
        os.environ["MINARI_DATASETS_PATH"] = folder
        pool.submit(write, options.steps, options.episode_length).result()
        measured = pool.submit(read).result()
    steps, episodes, seconds, cpu, size, peak, ratio = measured.values()
    print("     steps  episodes   seconds  CPU seconds        data   peak memory   peak / data")
    print(
        f"{steps:10,}{episodes:10,}{seconds:10.2f}{cpu:13.2f}"
        f"{size / 2**20:8.1f} MiB{peak / 2**20:10.1f} MiB{ratio:14.2f}"
    )
    print(json.dumps(measured))


def write(num_steps: int, episode_length: int) -> None:
    """Makes the data set in MINARI_DATASETS_PATH; its last episode takes the steps that are left over."""
    rng = np.random.default_rng(0)
    count, rest = divmod(num_steps, episode_length)
    lengths = [episode_length] * (count - 1) + [episode_length + rest]
    minari_store.make_once(
        DATASET_ID,
        lambda: minari_store.Contents(
            episodes=[
                Episode(
                    rng.normal(size=(length + 1, OBSERVATION_SIZE)).astype(np.float32),
                    rng.uniform(-1, 1, size=(length, ACTION_SIZE)).astype(np.float32),
                    rng.normal(size=length).astype(np.float32),
                    terminated=bool(index % 2),
                )
                for index, length in enumerate(lengths)
            ],
            observation_space=gym.spaces.Box(-np.inf, np.inf, (OBSERVATION_SIZE,), np.float32),
            action_space=gym.spaces.Box(-1, 1, (ACTION_SIZE,), np.float32),
            reference_scores=None,
            description="random numbers of walker2d's sizes",
            algorithm="none",
            provenance={"environment": "Walker2d-v4"},
        ),
    )


def read() -> dict[str, float]:
    """Reads the data as a run does before its first update: rows, and starts of segments, on all devices."""
    config = default_config()
    config.task = DATASET_ID
    parallel.unreplicate(parallel.replicate(np.zeros(1)))  # starts jax
    peak_before, start, cpu_start = process_peak(), time.perf_counter(), time.process_time()
    _, recording = load_recording(config)
    dataset, sequence_length = recording.dataset, config.world_models.dwm.sequence_length
    starts = data.segment_rows(dataset, sequence_length, config.data.pad, recording.training_episodes)
    jax.block_until_ready(parallel.replicate((dataset, starts)))  # type: ignore[no-untyped-call]
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak = process_peak() - peak_before
    size = sum(array.nbytes for array in dataset)
    return {
        "steps": len(data.transition_rows(dataset)),
        "episodes": data.num_episodes(dataset),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "data_bytes": size,
        "peak_bytes": peak,
        "peak_over_data": round(peak / size, 2),
    }


if __name__ == "__main__":
    main()
