"""A dream: a finished world model rolled on from the state it imagined last, chunk after chunk, beside a recording."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.data import dataset as data
from dwm_jax.phases.phase import Run
from dwm_jax.phases.pretraining import read_finished_model
from dwm_jax.registry import MODELS
from dwm_jax.results import diagnostics
from dwm_jax.results.diagnostics import with_recorded_actions
from dwm_jax.results.dream_frames import Dream
from dwm_jax.runtime.keys import key_for
from dwm_jax.types import Array, Episode, Key, PyTree, Segment, Start, Trajectory
from dwm_jax.world_models.base import TrainedModel, WorldModel


def dream(run: Run, seed: int) -> Dream:
    """What the first world model of a run imagines from the start of the longest held-out episode.

    From its first state on every state is imagined: the model is asked for as many steps as it can imagine at once,
    then from the last of these states again, until the recording ends or the model says that the task has. Beside that
    state it is told what belongs to the recording's step of that number: the action (where it follows a policy: every
    action) and, where it is asked for one, the return-to-go, which says how much the recording is still paid. These
    hints are true of the recorded state. Once the imagined one is far from it they no longer fit, and what is imagined
    then says little about how good the model is; the diagnostics of a run measure that.

    Args:
      seed: of what the model draws.

    Raises:
      ValueError: the run has no world model, or it is not finished.
    """
    name = first_world_model(run)
    trained, kind = read_finished_model(run, name), MODELS[name]
    model: Any = trained.model
    heldout = run.recording.heldout_episodes
    index = longest_episode(run.recording.dataset, heldout if len(heldout) else run.recording.training_episodes)
    rows = np.flatnonzero(data.episode_of_row(run.recording.dataset) == index)
    chunk = model.longest_horizon or run.config.policy.horizon
    hints = "the actions" if model.needs_policy else "the action"
    at_once = ", in one pass of its network" if run.config.world_models[name].get("distil") else ""
    hints += " and the return-to-go of that moment" if kind.is_return_conditioned else ""
    return Dream(
        recorded=recorded_episode(run.recording.dataset, rows),
        imagined=imagine(run, trained, rows, chunk, seed),
        chunk=chunk,
        title=f"{run.task.name}, episode {index} ({'held out' if len(heldout) else 'trained on'})",
        told=f"Both begin in the same state. {kind.title} then imagines {chunk} steps at a time{at_once}, from the "
        f"last state that it\nimagined itself. Of the recording it is told {hints}, nothing else.",
    )


def first_world_model(run: Run) -> str:
    """The first of the run's models that imagines trajectories.

    Raises:
      ValueError: there is none.
    """
    for name in run.models:
        if issubclass(MODELS[name], WorldModel):
            return name
    raise ValueError(f"{run.workdir}: none of its methods ({', '.join(run.methods)}) has a world model that imagines")


def longest_episode(dataset: data.Dataset, episodes: np.ndarray) -> int:
    """Of these episodes the longest; of several the first."""
    lengths = np.bincount(data.episode_of_row(dataset))[episodes]
    return int(episodes[np.argmax(lengths)])


def recorded_episode(dataset: data.Dataset, rows: np.ndarray) -> Episode:
    """The episode of these rows."""
    steps = rows[:-1]
    return Episode(
        dataset.observations[rows], dataset.actions[steps], dataset.rewards[steps], bool(dataset.terminated[rows[0]])
    )


def imagine(run: Run, trained: TrainedModel, rows: np.ndarray, chunk: int, seed: int) -> Episode:
    """The imagined episode, given the recorded actions and returns-to-go of these rows, `chunk` steps at a time."""
    model: Any = trained.model
    rollout, dataset, num_steps = model.rollout(chunk, run.config.gamma), run.recording.dataset, len(rows) - 1
    segments = diagnostics.recorded_segments(dataset, rows[:-1:chunk], chunk)
    keys = jax.random.split(key_for(seed, "dream"), len(segments.return_to_go))

    @jax.jit
    def from_start(inference: PyTree, observation_O: Array, segments: Segment, keys: Array) -> Trajectory:
        def one_chunk(observation_O: Array, told: tuple[Segment, Key]) -> tuple[Array, Trajectory]:
            segment, key = told
            start = Start(observation_O, segment.actions[0], segment.return_to_go)
            trajectory = rollout(inference, start, with_recorded_actions(segment), key)
            return trajectory.next_observations[-1], trajectory

        _, trajectories = jax.lax.scan(one_chunk, observation_O, (segments, keys))
        return jax.tree.map(jnp.concatenate, trajectories)

    first_O = dataset.observations[rows[0]]
    imagined = jax.device_get(from_start(trained.inference, first_O, segments, keys))
    ends = np.flatnonzero(imagined.discounts[:num_steps] == 0)
    length = ends[0] + 1 if len(ends) else num_steps
    return Episode(
        np.concatenate([first_O[None], imagined.next_observations[:length]]),
        dataset.actions[rows[:length]],
        imagined.rewards[:length],
        terminated=len(ends) > 0,
    )
