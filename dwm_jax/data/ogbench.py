"""OGBench's files (.npz) as recordings of its single-task sets: `antmaze-large-navigate-singletask-task1-v0`.

    observations (N, O), actions (N, A), terminals (N,), qpos (N, Q)      as OGBench publishes them, without rewards
    rewards (N,), masks (N,), valids (N,), next_observations (N, O)       in what its loader returns, saved with savez

`terminals` end a trajectory that the clock cut: they are time-outs here, and the row that has one is the last state of
a trajectory, whose action leads nowhere.

*Rewards.* A published file serves many tasks; which one it is read for, the name of the data set says. As in OGBench a
state is worth 0 where the task is done, else -1 (for manipulation, minus what is left of it), and to do the task ends
it. OGBench's loader gives that reward to the transition that leaves the state; its environments, and everything here,
pay the one that leads to it. Goals of mazes are those of OGBench's locomaze/maze.py; for everything else OGBench itself
computes the rewards, and has to be installed. A file that has rewards and masks keeps them as they are.
"""

import importlib.util
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dwm_jax.data import flat_arrays
from dwm_jax.data.flat_arrays import FlatArrays
from dwm_jax.runtime import interruption

MODULE = "ogbench"
# By maze: (row, column) of the goals of tasks 1 to 5.
MAZE_GOALS = {
    "medium": ((6, 6), (1, 6), (4, 2), (6, 1), (1, 1)),
    "large": ((7, 10), (7, 1), (1, 10), (5, 4), (5, 4)),
    "giant": ((10, 14), (10, 1), (1, 1), (5, 12), (3, 8)),
    "teleport": ((7, 1), (7, 10), (7, 10), (7, 10), (7, 1)),
}
# Cells are so wide, and the centre of cell (1, 1) is the origin.
MAZE_CELL = 4.0
GOAL_RADII = {"pointmaze": 1.0, "antmaze": 0.5, "humanoidmaze": 0.5}


class SingleTask(NamedTuple):
    """What the name of a single-task set says."""

    environment: str  # OGBench's id
    robot: str
    maze: str
    number: int  # of the task; mazes' default is 1


def single_task(name: str) -> SingleTask | None:
    """The single task that a data set's name says; None where it says none."""
    match = re.fullmatch(r"([a-z]+)-((?:[\w-]+-)?)(\w+)-singletask(?:-task([1-5]))?-v0", name)
    if match is None:
        return None
    robot, scene, _, number = match.groups()
    suffix = f"-task{number}" if number else ""
    return SingleTask(f"{robot}-{scene}singletask{suffix}-v0", robot, scene.removesuffix("-"), int(number or 1))


def environment_of(name: str) -> str | None:
    """The environment of a single-task set's evaluation, where OGBench is installed."""
    task = single_task(name)
    if task is None or importlib.util.find_spec(MODULE) is None:
        return None
    return f"{MODULE}:{task.environment}"


def read_arrays(path: Path, name: str) -> FlatArrays:
    """A file as a recording of the single task that `name` says; rewards are paid for the next state.

    Raises:
      ValueError: a file that cannot be read or is not in the layout, or no rewards can be given to it.
    """
    raw = _load(path)
    if "rewards" in raw:
        return _with_own_rewards(raw, path)
    task = single_task(name)
    if task is None:
        raise ValueError(
            f"{path}: no rewards; OGBench's single-task sets have those of the task in their name: prepare it as "
            "ENVIRONMENT-DATA-singletask-taskN-v0"
        )
    missing = [key for key in ("observations", "actions", "terminals", "qpos") if key not in raw]
    if missing:
        raise ValueError(f"{path}: no {', '.join(missing)}; it holds {', '.join(sorted(raw)) or 'nothing'}")
    worth, done = _worth_of_states(raw, task, path)
    timeouts = raw["terminals"].reshape(-1).astype(bool)
    # A transition is worth what the state is that it leads to, and ends the task where that is done.
    rewards = np.append(worth[1:], worth[-1:])
    terminals = np.append(done[1:], False) & ~timeouts
    wanted = {"observations": raw["observations"], "actions": raw["actions"]}
    flags = {"rewards": rewards, "terminals": terminals, "timeouts": timeouts}
    return flat_arrays.make_flat_arrays(wanted | flags, str(path))


def _with_own_rewards(raw: dict[str, np.ndarray], path: Path) -> FlatArrays:
    keys = ("observations", "actions", "rewards", "next_observations")
    wanted: dict[str, np.ndarray] = {key: raw[key] for key in keys if key in raw}
    ends = raw.get("terminals", np.zeros(len(raw["rewards"])))
    if "timeouts" in raw:  # D4RL's layout in another wrapping
        return flat_arrays.make_flat_arrays({**wanted, "terminals": ends, "timeouts": raw["timeouts"]}, str(path))
    # In a "compact" set the last two rows of a trajectory are flagged, and the very last one is not valid.
    timeouts = raw["valids"] == 0 if "valids" in raw else ends
    terminals = raw["masks"] == 0 if "masks" in raw else np.zeros(len(raw["rewards"]))
    if "valids" in raw:
        terminals = terminals & ~timeouts
    return flat_arrays.make_flat_arrays({**wanted, "terminals": terminals, "timeouts": timeouts}, str(path))


def _worth_of_states(raw: dict[str, np.ndarray], task: SingleTask, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(what each state is worth, whether the task is done in it), both (N,)."""
    if task.robot in GOAL_RADII and task.maze in MAZE_GOALS:
        row, column = MAZE_GOALS[task.maze][task.number - 1]
        goal = MAZE_CELL * np.array([column - 1, row - 1])
        done = np.linalg.norm(raw["qpos"][:, :2] - goal, axis=1) <= GOAL_RADII[task.robot]
        return done.astype(np.float32) - 1, done
    try:
        relabel_utils = importlib.import_module(f"{MODULE}.relabel_utils")
        gymnasium: Any = importlib.import_module("gymnasium")
        importlib.import_module(MODULE)
    except ImportError as error:
        raise ValueError(
            f"{path}: no rewards; those of {task.environment} are computed by OGBench itself: pip install {MODULE} "
            f"({error})"
        ) from error
    relabelled = dict(raw)
    env = gymnasium.make(task.environment)
    relabel_utils.relabel_dataset(task.environment, env, relabelled)
    env.close()
    return relabelled["rewards"], relabelled["masks"] == 0


def _load(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {}
            for key in file.files:
                interruption.raise_if_requested()
                arrays[key] = file[key]
            return arrays
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: truncated, or not an .npz file ({error})") from error
