"""The D4RL tasks that are known by name: their files, where those are found, and what a score means on them.

d4rl_checksums.csv has the sizes and SHA-256 of D4RL's files, from the checksum lists of TensorFlow Datasets
(tensorflow_datasets/d4rl/*/checksums.tsv). What is in none of these lists cannot be told from another file.
"""

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from dwm_jax.data import maze2d
from dwm_jax.data.download import Known
from dwm_jax.data.environments import REFERENCE_SCORES

ORIGINAL = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
# All files in one flat folder, under their own names. No revision is named: what is downloaded is held against the
# checksums, which no revision could change.
MIRROR = "https://huggingface.co/datasets/imone/D4RL/resolve/main"
MIRRORED = ("gym_mujoco_v2", "ant_maze_v2")
# D4RL's (min, max) returns (d4rl/infos.py).
ANT_SCORES = (-325.6, 3879.7)
ADROIT_SCORES = {
    "pen": (96.262799, 3076.8331017826877),
    "hammer": (-274.856578, 12794.134825156867),
    "door": (-56.512833, 2880.5693087298737),
    "relocate": (-6.425911, 4233.877797728884),
}


class D4RLTask(NamedTuple):
    """One D4RL data set."""

    file: str
    urls: tuple[str, ...]  # the same file, in the order to try
    environment: str | None  # of the evaluation; None where there is none here: the data trains world models
    reference_scores: tuple[float, float]  # D4RL's (min, max) return
    timeouts: str = "end"  # `conversion.Layout.timeouts`


def _task(folder: str, file: str, environment: str | None, scores: tuple[float, float]) -> D4RLTask:
    mirrors = (f"{MIRROR}/{file}",) if folder in MIRRORED else ()
    return D4RLTask(file, (*mirrors, f"{ORIGINAL}/{folder}/{file}"), environment, scores)


def _locomotion() -> dict[str, D4RLTask]:
    # D4RL's Ant shows 84 contact forces, which no environment here does.
    robots = {"Hopper": "Hopper-v4", "Walker2d": "Walker2d-v4", "HalfCheetah": "HalfCheetah-v4", "Ant": None}
    qualities = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")
    return {
        f"{robot.lower()}-{quality}-v2": _task(
            "gym_mujoco_v2",
            f"{robot.lower()}_{quality.replace('-', '_')}-v2.hdf5",
            environment,
            REFERENCE_SCORES.get(robot, ANT_SCORES),
        )
        for robot, environment in robots.items()
        for quality in qualities
    }


def _maze2d() -> dict[str, D4RLTask]:
    return {
        f"{name}-v1": _task("maze2d", f"{name}-sparse-v1.hdf5", f"{name}-v1", maze.reference_scores)
        for name, maze in ((f"maze2d-{size}", maze) for size, maze in maze2d.MAZES.items())
    }


def _antmaze() -> dict[str, D4RLTask]:
    # D4RL's name: its map's name in the file's, and whether starts and goals varied while it was recorded.
    recorded = {
        "umaze": ("u-maze", False, False),
        "umaze-diverse": ("u-maze", True, True),
        "medium-play": ("big-maze", True, False),
        "medium-diverse": ("big-maze", True, True),
        "large-play": ("hardest-maze", True, False),
        "large-diverse": ("hardest-maze", True, True),
    }
    return {
        f"antmaze-{name}-v2": _task(
            "ant_maze_v2",
            f"Ant_maze_{walls}_noisy_multistart_{starts}_multigoal_{goals}_sparse_fixed.hdf5",
            f"antmaze-{name}-v2",
            (0.0, 1.0),
        )
        for name, (walls, starts, goals) in recorded.items()
    }


def _adroit() -> dict[str, D4RLTask]:
    return {
        f"{name}-{kind}-v1": _task("hand_dapg_v1", f"{name}-{kind}-v1.hdf5", f"{name}-v0", scores)
        for name, scores in ADROIT_SCORES.items()
        for kind in ("human", "cloned", "expert")
    }


def _kitchen() -> dict[str, D4RLTask]:
    # Gymnasium-Robotics' kitchen shows other observations, and fails under MuJoCo 4. The files have no time-outs:
    # terminals flag the end of every demonstration.
    files = {
        "complete": "mini_kitchen_microwave_kettle_light_slider-v0.hdf5",
        "partial": "kitchen_microwave_kettle_light_slider-v0.hdf5",
        "mixed": "kitchen_microwave_kettle_bottomburner_light-v0.hdf5",
    }
    return {
        f"kitchen-{name}-v0": _task("kitchen", file, None, (0.0, 4.0))._replace(timeouts="none")
        for name, file in files.items()
    }


# What data under a D4RL name may be.
GENUINE, OTHER, UNTOLD = "D4RL's file", "not D4RL's file", "untold"


@cache
def read_checksums() -> Mapping[str, Known]:
    """Sizes and SHA-256 of D4RL's files, by file name."""
    with open(Path(__file__).with_name("d4rl_checksums.csv"), newline="") as file:
        return {row["file"]: Known(int(row["bytes"]), row["sha256"]) for row in csv.DictReader(file)}


def find_origin(name: str, sources: Sequence[Mapping[str, Any]]) -> str | None:
    """Whether the files that data was made from are D4RL's of that name; None for other names.

    Args:
      sources: "bytes" and "sha256" of each file.

    Returns:
      GENUINE, OTHER, or UNTOLD where nobody has published what D4RL's file is.
    """
    if name not in D4RL_TASKS:
        return None
    known = read_checksums().get(D4RL_TASKS[name].file)
    if known is None:
        return UNTOLD
    return GENUINE if [Known(source["bytes"], source["sha256"]) for source in sources] == [known] else OTHER


D4RL_TASKS: dict[str, D4RLTask] = {**_locomotion(), **_maze2d(), **_antmaze(), **_adroit(), **_kitchen()}
