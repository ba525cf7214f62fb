"""The D4RL tasks that are known by name: their files, where those are found, and what a score means on them."""

from typing import NamedTuple

from dwm_jax.data import maze2d
from dwm_jax.data.environments import REFERENCE_SCORES

ORIGINAL = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
# All locomotion files in one flat folder, under their own names.
MIRROR = "https://huggingface.co/datasets/imone/D4RL/resolve/main"


class D4RLTask(NamedTuple):
    """One D4RL data set."""

    file: str
    urls: tuple[str, ...]  # the same file, in the order to try
    environment: str  # of the evaluation
    reference_scores: tuple[float, float]  # D4RL's (min, max) return


def _locomotion(robot: str, quality: str) -> D4RLTask:
    file = f"{robot.lower()}_{quality.replace('-', '_')}-v2.hdf5"
    urls = (f"{MIRROR}/{file}", f"{ORIGINAL}/gym_mujoco_v2/{file}")
    return D4RLTask(file, urls, f"{robot}-v4", REFERENCE_SCORES[robot])


def _maze2d(name: str) -> D4RLTask:
    file = f"maze2d-{name}-sparse-v1.hdf5"
    return D4RLTask(file, (f"{ORIGINAL}/maze2d/{file}",), f"maze2d-{name}-v1", maze2d.MAZES[name].reference_scores)


def _antmaze() -> D4RLTask:
    file = "Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed.hdf5"
    return D4RLTask(file, (f"{ORIGINAL}/ant_maze_v2/{file}",), "antmaze-umaze-v2", (0.0, 1.0))


D4RL_TASKS: dict[str, D4RLTask] = {
    **{
        f"{robot.lower()}-{quality}-v2": _locomotion(robot, quality)
        for robot in ("Hopper", "Walker2d", "HalfCheetah")
        for quality in ("medium", "medium-replay", "medium-expert")
    },
    **{f"maze2d-{name}-v1": _maze2d(name) for name in maze2d.MAZES},
    "antmaze-umaze-v2": _antmaze(),
}
