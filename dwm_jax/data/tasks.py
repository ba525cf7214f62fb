"""The table of known tasks: where the data comes from, where a policy is evaluated, what a score means.

A task is data that is made on the spot (maze2d-umaze, -medium, -large), or a local Minari data set under its id:
a D4RL name or a file of one's own after `python -m dwm_jax.data prepare`, or anything Minari has put there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dwm_jax.data import d4rl_tasks, environments, maze2d, minari_reading, minari_store
from dwm_jax.data.d4rl_tasks import D4RL_TASKS
from dwm_jax.data.dataset import DISCOUNT
from dwm_jax.data.minari_reading import Stored
from dwm_jax.data.minari_store import Contents
from dwm_jax.data.robotics import mujoco
from dwm_jax.data.spaces import ActionRange
from dwm_jax.runtime.alike import did_you_mean
from dwm_jax.runtime.progress import show_progress
from dwm_jax.types import Episode

# Of data made on the spot, unless a config or an option says otherwise.
NUM_STEPS = 1_000_000


@dataclass(frozen=True)
class Task:
    """One offline task."""

    name: str
    # () -> the recorded episodes, from local files only (made on the spot where the data can be made).
    load_episodes: Callable[[], Sequence[Episode]]
    # () -> the evaluation's environment; takes Gymnasium's `render_mode`.
    make_env: Callable[..., gym.Env[Any, Any]]
    # (min, max) return of the normalised score; None where nobody has fixed them.
    reference_scores: tuple[float, float] | None
    # Divisor of returns-to-go at the discount `DISCOUNT`; None takes the largest in the data.
    return_scale: float | None
    # Whether there is anywhere to evaluate a policy; world models need nowhere.
    has_environment: bool = True
    # Under a D4RL name: whether the data is D4RL's (`d4rl_tasks.find_origin`); None under others.
    origin: str | None = None
    # The maze to draw in pictures, None elsewhere.
    maze: maze2d.Maze | None = None
    # What `make_env` and `reference_scores` come from, as JSON: `make_evaluation_task` makes them again where the data
    # is not.
    evaluated_in: Mapping[str, Any] | None = None

    def return_scale_at(self, gamma: float) -> float | None:
        """The divisor of returns-to-go at discount gamma; None takes the largest in the data.

        It goes in proportion to 1 / (1 - gamma), the return of a reward of 1 for ever, so that a return-to-go that is
        asked for means much the same at every discount. At gamma = 1, where that has no end, it is None.
        """
        if self.return_scale is None or gamma == 1:
            return None
        return self.return_scale * ((1 - DISCOUNT) / (1 - gamma))


# Made on the spot; no preparation needed.
MADE_TASKS = tuple(f"maze2d-{name}" for name in maze2d.MAZES)
TASK_NAMES = (*MADE_TASKS, *D4RL_TASKS)


def is_known(name: str) -> bool:
    """Whether `get_task` knows the name. Looks at the disk only for names that are not in the table."""
    if name in TASK_NAMES:
        return True
    try:
        return minari_store.exists(minari_store.local_id(name))
    except (OSError, ValueError):  # no name of a data set, or longer than a folder's may be
        return False


def known_names() -> list[str]:
    """The table's names, and those of the local data sets."""
    hidden = {minari_store.local_id(name) for name in TASK_NAMES}
    local = [i for i in minari_store.local_ids() if i not in hidden and not i.startswith("dwm-maze2d-")]
    return [*TASK_NAMES, *local]


def suggest_names(name: str) -> str:
    """What could be meant by a name that is not known."""
    known = known_names()
    return f"{did_you_mean(name, known)}known tasks are {', '.join(known)}; {how_to_prepare(name)}"


def get_task(name: str, *, num_steps: int, seed: int) -> Task:
    """The task of that name.

    Args:
      name: one of `known_names()`.
      num_steps, seed: size and seed of data that is made rather than recorded (maze2d).

    Raises:
      ValueError: an unknown name (the message lists the known ones), or data that is not prepared.
    """
    if not is_known(name):
        raise ValueError(f"unknown task {name!r}; {suggest_names(name)}")
    if name in MADE_TASKS:
        return _made_task(name, num_steps, seed)
    stored = read_stored_data(name)
    return make_local_task(name, stored)


def read_stored_data(name: str) -> Stored:
    """What the local data set called `name` says about itself.

    Raises:
      ValueError: it is not there; the message says how to prepare it.
    """
    refuse_unprepared(name)
    return minari_store.read_stored(minari_store.local_id(name))


def refuse_unprepared(name: str) -> None:
    """Refuses a task whose data is neither here nor made on the spot; looks at no more than whether it is there.

    Raises:
      ValueError: it is not; the message says how to prepare it.
    """
    if name not in MADE_TASKS and not minari_store.exists(minari_store.local_id(name)):
        raise ValueError(f"{name} is not prepared in {minari_store.path_of('')}; {how_to_prepare(name)}")


def how_to_prepare(name: str) -> str:
    """The command that would make the data called `name`."""
    file = " (a download; --file PATH works without network)" if name in D4RL_TASKS else " --file FILE.hdf5"
    return f"prepare data with: {minari_store.PREPARE} {name}{file}"


def make_local_task(name: str, stored: Stored) -> Task:
    """The task of a local data set; `make_env` raises ValueError where the data names no environment."""
    return Task(
        name=name,
        load_episodes=partial(minari_reading.read, stored),
        make_env=partial(_make_env, name, stored),
        has_environment=stored.environment is not None,
        origin=d4rl_tasks.find_origin(name, stored.provenance.get("sources", [])),
        reference_scores=stored.reference_scores,
        return_scale=environments.RETURN_SCALES.get(environments.robot_name(stored.environment or "")),
        evaluated_in=None if stored.environment is None else _description_of(stored),
    )


def make_evaluation_task(name: str, description: Mapping[str, Any]) -> Task:
    """The task of policies that come by themselves, from `Task.evaluated_in`; its data is not here.

    The description may be anybody's: it names environments and arguments, and nothing that is called.

    Raises:
      ValueError: it is not in order.
    """
    try:
        if "maze" in description:
            return _made_task(f"maze2d-{description['maze']}", 0, 0)
        scores, actions = description["reference_scores"], description["action_range"]
        if not isinstance(description["environment_spec"], str | None) or not description["observation_keys"]:
            raise TypeError("environment_spec is no text, or observation_keys names nothing")
        make_env = partial(
            environments.make,
            str(description["environment"]),
            description["environment_spec"],
            keys=[tuple(map(str, path)) for path in description["observation_keys"]],
            actions=ActionRange(*(tuple(map(float, bounds)) for bounds in actions)),
            clock=None if description["max_episode_steps"] is None else int(description["max_episode_steps"]),
        )
        reference_scores = None if scores is None else (float(scores[0]), float(scores[1]))
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: the description of its evaluation environment is not valid: {error!r}") from error
    return Task(name, _no_episodes, make_env, reference_scores, None, evaluated_in=description)


def _no_episodes() -> Sequence[Episode]:
    raise ValueError("only policies are here, not the data they were learnt from")


def _description_of(stored: Stored) -> dict[str, Any]:
    return {
        "environment": stored.environment,
        "environment_spec": stored.environment_spec,
        "observation_keys": stored.observation_keys,
        "action_range": stored.action_range,
        "max_episode_steps": stored.provenance.get("max_episode_steps"),
        "reference_scores": stored.reference_scores,
    }


class Sizes(NamedTuple):
    """Of an observation and of an action."""

    observation: int
    action: int


def try_environment(task: Task) -> Sizes:
    """Makes the evaluation's environment once, and does with it what an evaluation does: a reset, a step, a reset.

    Raises:
      ValueError: none is named, it cannot be made or run here, it does not fit the data, or nothing in it ends an
        episode for certain.
    """
    env = task.make_env()
    try:
        environments.require_clock(env, f"the environment of {task.name}")
        with environments.name_failures(f"{task.name}: its environment"):
            vector = SyncVectorEnv([lambda: env], autoreset_mode=AutoresetMode.DISABLED)
            observations, _ = vector.reset(seed=[0])
            actions = np.zeros(vector.action_space.shape or (), np.float32)
            following, rewards, *_ = vector.step(actions)
            vector.reset(options={"reset_mask": np.array([True])})
    finally:
        env.close()
    if not all(np.isfinite(shown).all() for shown in (observations, following, rewards)):
        raise ValueError(f"{task.name}: its environment shows observations or rewards that are not finite")
    return Sizes(observations.shape[1], actions.shape[1])


def refuse_other_sizes(task: Task, environment: Sizes, data: Sizes) -> None:
    """Refuses data that the environment of its evaluation could not have shown.

    Raises:
      ValueError: the sizes differ.
    """
    if environment != data:
        raise ValueError(
            f"{task.name}: its environment has {environment.observation} observations and {environment.action} "
            f"actions, the data {data.observation} and {data.action}; import the data with the environment it was "
            "recorded in"
        )


def _make_env(name: str, stored: Stored, render_mode: str | None = None) -> gym.Env[Any, Any]:
    if stored.environment is None:
        raise ValueError(
            f"{name} names no environment to evaluate policies in, and serves world models alone; import it under a "
            f"name of its own with {minari_store.PREPARE} NEWNAME --file {stored.folder} --env ID"
        )
    return environments.make(
        stored.environment,
        stored.environment_spec,
        keys=stored.observation_keys,
        actions=stored.action_range,
        render_mode=render_mode,
        clock=stored.provenance.get("max_episode_steps"),
    )


def _made_task(name: str, num_steps: int, seed: int) -> Task:
    maze_name = name.removeprefix("maze2d-")
    maze = maze2d.MAZES[maze_name]
    return Task(
        name=name,
        load_episodes=partial(_maze_episodes, maze_name, num_steps, seed),
        make_env=partial(maze2d.make_env, maze_name),
        reference_scores=maze.reference_scores,
        return_scale=None,
        maze=maze,
        evaluated_in={"maze": maze_name},
    )


def _maze_episodes(maze_name: str, num_steps: int, seed: int) -> Sequence[Episode]:
    # The simulator's version is part of the name: MuJoCo promises no equality across versions. So is the recipe's (v1).
    simulator = mujoco.__version__.replace(".", "")
    dataset_id = f"dwm-maze2d-{maze_name}-steps{num_steps}-seed{seed}-mujoco{simulator}-v1"
    make = partial(_maze_contents, maze_name, num_steps, seed)
    return minari_store.read_made(dataset_id, partial(minari_store.make_once, dataset_id, make))


def _maze_contents(maze_name: str, num_steps: int, seed: int) -> Contents:
    maze = maze2d.MAZES[maze_name]
    total = maze.episodes_of(num_steps) * maze.episode_steps
    with show_progress(f"recording maze2d-{maze_name}", total) as progress:
        episodes = maze2d.record_episodes(maze_name, num_steps, seed, progress.advance)
    return Contents(
        episodes,
        observation_space=gym.spaces.Box(-np.inf, np.inf, (4,), np.float32),
        action_space=gym.spaces.Box(-1, 1, (2,), np.float32),
        reference_scores=maze.reference_scores,
        description=f"Noisy waypoint controller in {maze_name} by D4RL's recipe; rewards for the evaluation's goal.",
        algorithm="waypoint controller",
        requirements=[f"mujoco=={mujoco.__version__}", "gymnasium-robotics"],
    )
