"""The table of known tasks: where the data comes from, where a policy is evaluated, what a score means."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from dwm_jax.data import maze2d, minari_store
from dwm_jax.types import Episode


@dataclass(frozen=True)
class Task:
    """One offline task."""

    name: str
    # () -> the recorded episodes, from local files only (made on the spot where the data can be made).
    load_episodes: Callable[[], list[Episode]]
    make_env: Callable[[], gym.Env[Any, Any]]
    # (min, max) return of the normalised score; None where nobody has fixed them.
    reference_scores: tuple[float, float] | None
    # Divisor of returns-to-go; None takes the largest in the data.
    return_scale: float | None
    # The maze to draw in pictures, None elsewhere.
    maze: maze2d.Maze | None = None


TASK_NAMES = tuple(f"maze2d-{name}" for name in maze2d.MAZES)


def get_task(name: str, *, num_steps: int, seed: int) -> Task:
    """The task of that name.

    Args:
      name: one of TASK_NAMES.
      num_steps, seed: size and seed of data that is made rather than recorded (maze2d).

    Raises:
      ValueError: an unknown name; the message lists the known ones.
    """
    if name not in TASK_NAMES:
        raise ValueError(f"unknown task {name!r}; known: {', '.join(TASK_NAMES)}")
    maze_name = name.removeprefix("maze2d-")
    maze = maze2d.MAZES[maze_name]
    return Task(
        name=name,
        load_episodes=partial(_maze_episodes, maze_name, num_steps, seed),
        make_env=partial(maze2d.make_env, maze_name),
        reference_scores=maze.reference_scores,
        return_scale=None,
        maze=maze,
    )


def _maze_episodes(maze_name: str, num_steps: int, seed: int) -> list[Episode]:
    # The simulator's version is part of the name: MuJoCo promises no equality across versions.
    simulator = mujoco.__version__.replace(".", "")
    dataset_id = f"dwm-maze2d-{maze_name}-steps{num_steps}-seed{seed}-mujoco{simulator}-v0"
    minari_store.write_once(
        dataset_id,
        partial(maze2d.record_episodes, maze_name, num_steps, seed),
        observation_space=gym.spaces.Box(-np.inf, np.inf, (4,), np.float32),
        action_space=gym.spaces.Box(-1, 1, (2,), np.float32),
        reference_scores=maze2d.MAZES[maze_name].reference_scores,
        description=f"Noisy waypoint controller in {maze_name}, D4RL's recipe; rewards for the evaluation's goal.",
        algorithm="waypoint controller",
        requirements=[f"mujoco=={mujoco.__version__}", "gymnasium-robotics"],
    )
    return minari_store.read_episodes(dataset_id)
