"""What a finished run shows: its pictures, drawn from its files and its models."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dwm_jax import figures, results
from dwm_jax.artifacts import Recording, TrainedMethod, TrainedModel
from dwm_jax.data import dataset as data
from dwm_jax.data.tasks import Task
from dwm_jax.diagnostics import PredictionError, prediction_error, with_recorded_actions
from dwm_jax.metrics import Results
from dwm_jax.normalizers import fit_standard
from dwm_jax.progress import say
from dwm_jax.registry import METHODS
from dwm_jax.types import Array, ChooseAction, Key, Segment, Trajectory

# Segments that an error is averaged over, and those that are drawn.
NUM_MEASURED, NUM_DRAWN = 1024, 60


def draw_figures(
    config: ConfigDict,
    workdir: Path,
    task: Task,
    recording: Recording,
    world_models: Mapping[str, TrainedModel],
    methods: Mapping[str, TrainedMethod],
) -> None:
    """Draws every picture the run has the ingredients for into workdir/figures."""
    folder, dataset = workdir / "figures", recording.dataset
    figures.learning_curves(
        folder / "learning_curves.png", task.name, results.curves(Results(workdir / "results.csv").read())
    )
    labels = dataset.returns_to_go[data.transition_rows(dataset)]
    figures.returns_to_go(folder / "returns_to_go.png", task.name, labels, config.policy.return_to_go)
    if not world_models:
        return

    try:
        rows = measured_rows(recording, config.policy.horizon)
    except ValueError as error:
        say(f"prediction error is not measured: {error}")
        return
    errors = prediction_errors(config, recording, rows, world_models, methods)
    title = f"{task.name}: prediction error on held-out episodes ({len(rows)} segments)"
    figures.prediction_errors(folder / "prediction_error.png", errors, title)
    table = {name: {key: value.tolist() for key, value in error._asdict().items()} for name, error in errors.items()}
    (workdir / "prediction_error.json").write_text(json.dumps(table, indent=2) + "\n")

    if task.maze is not None and "dwm" in world_models:
        draw_imagination(folder / "imagination.png", config, task, recording, world_models["dwm"], rows[:NUM_DRAWN])


def measured_rows(recording: Recording, horizon: int) -> np.ndarray:
    """Starts of whole segments of horizon + 1 rows in the held-out episodes (all episodes, if none is held out)."""
    episodes = recording.heldout_episodes if len(recording.heldout_episodes) else recording.training_episodes
    rows = data.segment_rows(recording.dataset, horizon + 1, "drop", episodes)
    return np.random.default_rng(0).permutation(rows)[:NUM_MEASURED]


def prediction_errors(
    config: ConfigDict,
    recording: Recording,
    rows: np.ndarray,
    world_models: Mapping[str, TrainedModel],
    methods: Mapping[str, TrainedMethod],
) -> dict[str, PredictionError]:
    """Error by step of every world model; one that needs actions gets the recorded ones, and its policy's too."""
    horizon, dataset = config.policy.horizon, recording.dataset
    normalizer = fit_standard(dataset.observations[data.transition_rows(dataset)])
    errors = {}
    for name, (model, inference) in world_models.items():
        actors: dict[str, Any] = {name: with_recorded_actions}
        if model.needs_policy:
            actors = {f"{name}, told the recorded actions": with_recorded_actions}
            followers = [m for m in methods if METHODS[m].world_model == name]
            actors |= {f"{name}, following {m}'s policy": with_policy(methods[m]) for m in followers}
        for label, choose_action in actors.items():
            errors[label] = prediction_error(
                model.rollout(horizon, config.gamma),
                inference,
                choose_action,
                jax.tree.map(jnp.asarray, dataset),
                rows,
                horizon,
                normalizer,
                jax.random.key(0),
            )
    return errors


def with_policy(method: TrainedMethod) -> Any:
    """segment -> acts as the first seed's policy does inside a rollout, as in training."""
    state = jax.tree.map(lambda leaf: leaf[0], method.policies.states_S)

    def choose_action(step: Array, observation_O: Array, key: Key) -> Array:
        observation_O = method.policies.units.observation_normalizer.normalize(observation_O)
        return method.learner.explore(state, observation_O, key)

    def for_segment(segment: Segment) -> ChooseAction:
        return choose_action

    return for_segment


def draw_imagination(
    path: Path, config: ConfigDict, task: Task, recording: Recording, trained: TrainedModel, rows: np.ndarray
) -> None:
    """Recorded and imagined futures of the same held-out pairs, in the maze."""
    horizon, (model, inference) = config.policy.horizon, trained
    rollout = model.rollout(horizon, config.gamma)
    dataset = jax.tree.map(jnp.asarray, recording.dataset)

    def one(row: Array, key: Key) -> tuple[Segment, Trajectory]:
        segment = data.segment_at(dataset, row, horizon + 1)
        imagined = rollout(
            inference,
            segment.observations[0],
            segment.actions[0],
            jnp.asarray(config.policy.return_to_go),
            with_recorded_actions(segment),
            key,
        )
        return segment, imagined

    keys = jax.random.split(jax.random.key(0), len(rows))
    segments, imagined = jax.jit(jax.vmap(one))(jnp.asarray(rows), keys)
    recorded_XY = np.asarray(segments.observations[..., :2])
    imagined_XY = np.concatenate([recorded_XY[:, :1], np.asarray(imagined.next_observations[..., :2])], axis=1)
    assert task.maze is not None
    title = f"{task.name}: {horizon} steps from held-out states, return-to-go {config.policy.return_to_go:g}"
    figures.maze_trajectories(path, task.maze, recorded_XY, imagined_XY, title)
