"""What a finished run shows: its diagnostics, pictures and table, made from its files and its models."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.data import dataset as data
from dwm_jax.data.recording import Recording
from dwm_jax.imagination.supply import exploring
from dwm_jax.learners.policies import Learnt, TrainedMethod
from dwm_jax.maths.normalizers import fit_standard
from dwm_jax.phases.phase import Run
from dwm_jax.registry import METHODS
from dwm_jax.results import diagnostics, pictures, scores
from dwm_jax.results.diagnostics import Calibration, PredictionError, with_recorded_actions
from dwm_jax.runtime import files
from dwm_jax.runtime.keys import key_for
from dwm_jax.runtime.progress import say
from dwm_jax.runtime.row_files import Results
from dwm_jax.types import ChooseAction, PyTree, Segment
from dwm_jax.world_models.base import Rollout, TrainedModel, WorldModel

# Segments that are measured, that are drawn, and that are sampled at once when sampling is timed.
NUM_MEASURED, NUM_DRAWN, NUM_TIMED = 1024, 60, 128


class Imaginer(NamedTuple):
    """A world model with someone to act inside it."""

    rollout: Callable[[int, float], Rollout]
    inference: PyTree
    choose_action: Callable[[Segment], ChooseAction]


class Diagnosis(NamedTuple):
    """What was measured of the world models, by name and who acted in them."""

    errors: dict[str, PredictionError]
    calibrations: dict[str, Calibration]
    sampling_seconds: dict[str, dict[int, float]]

    def as_dict(self) -> dict[str, Any]:
        """For diagnostics.json."""
        return {
            "prediction_error": {label: error._asdict() for label, error in self.errors.items()},
            "calibration": {label: calibration._asdict() for label, calibration in self.calibrations.items()},
            "sampling_seconds": self.sampling_seconds,
        }


def write_summary(run: Run, models: Mapping[str, TrainedModel], methods: Mapping[str, TrainedMethod]) -> str:
    """Measures and draws everything the run has the ingredients for; returns the table."""
    task, dataset, folder = run.task, run.recording.dataset, run.workdir / "figures"
    curves = scores.curves(Results(run.workdir / "results.csv").read())
    labels = dataset.returns_to_go[data.transition_rows(dataset)]
    pictures.returns_to_go(folder / "returns_to_go.png", task.name, labels, run.config.policy.return_to_go)
    acting = {name: diagnostics.acting_seconds(method.act, dataset.observations[0]) for name, method in methods.items()}
    measured: dict[str, Any] = {"acting_seconds": acting}
    tables = [f"# {task.name}\n"]
    if curves:
        draw_learning_curves(folder / "learning_curves.png", task.name, curves)
        pretraining = {
            name: models[model].seconds if (model := METHODS[name].model) is not None else 0.0 for name in methods
        }
        learning = {name: method.seconds for name, method in methods.items()}
        tables.append(scores.summary(curves, pretraining, learning, acting))
    world_models = {name: trained for name, trained in models.items() if isinstance(trained.model, WorldModel)}
    if world_models:
        try:
            heldout = measured_rows(run.recording, run.config.policy.horizon)
            found = diagnose(run, world_models, methods, heldout)
            seconds = {name: trained.seconds for name, trained in world_models.items()}
            tables.append(scores.model_summary(found.errors, seconds))
            measured |= found.as_dict()
        except ValueError as error:
            say(f"the world models are not measured: {error}")
    files.write(run.workdir / "diagnostics.json", json.dumps(measured, indent=2, default=np.ndarray.tolist) + "\n")
    files.write(run.workdir / "summary.md", "\n".join(tables))
    return "\n".join(tables)


def draw_learning_curves(path: Path, task_name: str, curves: list[scores.Curve]) -> None:
    """A panel per learner; planners, which are evaluated once, are lines across all of them."""
    panels: dict[str, list[scores.Curve]] = {}
    for curve in curves:
        panels.setdefault(METHODS[curve.method].learner or "planner", []).append(curve)
    references = panels.pop("planner", []) if len(panels) > 1 else []
    pictures.learning_curves(path, task_name, panels, references)


def diagnose(
    run: Run, world_models: Mapping[str, TrainedModel], methods: Mapping[str, TrainedMethod], rows: np.ndarray
) -> Diagnosis:
    """Prediction error, calibration and sampling time of every world model, with their pictures."""
    config, task, recording, folder = run.config, run.task, run.recording, run.workdir / "figures"
    horizon, gamma, key = config.policy.horizon, config.gamma, key_for(0, "diagnostics")
    normalizer = fit_standard(recording.dataset.observations[data.transition_rows(recording.dataset)])
    dataset = jax.tree.map(jnp.asarray, recording.dataset)
    imaginers = imaginers_of(world_models, methods)
    compared = {
        label: diagnostics.compare(
            imaginer.rollout(horizon, gamma), imaginer.inference, imaginer.choose_action, dataset, rows, horizon, key
        )
        for label, imaginer in imaginers.items()
    }

    errors = {label: diagnostics.prediction_error(comparison, normalizer) for label, comparison in compared.items()}
    title = f"{task.name}: prediction error on held-out episodes ({len(rows)} segments)"
    pictures.prediction_errors(folder / "prediction_error.png", errors, title)

    calibrations = {
        label: diagnostics.calibration(comparison, gamma, recording.return_scale)
        for label, comparison in compared.items()
    }
    pictures.calibrations(folder / "calibration.png", calibrations, f"{task.name}: return of {horizon} steps")

    seconds = {
        label: {
            h: diagnostics.sampling_seconds(
                imaginer.rollout(h, gamma), imaginer.inference, imaginer.choose_action, dataset, rows[:NUM_TIMED], h
            )
            for h in config.diagnostics.sampling_horizons
        }
        for label, imaginer in imaginers.items()
        if config.diagnostics.sampling_horizons and "following" not in label
    }
    if seconds:
        title = f"{task.name}: time of {len(rows[:NUM_TIMED])} trajectories"
        pictures.sampling_times(folder / "sampling_time.png", seconds, title)

    if task.maze is not None and "dwm" in imaginers:
        dwm = imaginers["dwm"]
        drawn = diagnostics.compare(
            dwm.rollout(horizon, gamma),
            dwm.inference,
            dwm.choose_action,
            dataset,
            rows[:NUM_DRAWN],
            horizon,
            key,
            config.policy.return_to_go,
        )
        title = f"{task.name}: {horizon} steps from held-out states, return-to-go {config.policy.return_to_go:g}"
        pictures.maze_trajectories(folder / "imagination.png", task.maze, *positions(drawn), title)
    return Diagnosis(errors, calibrations, seconds)


def measured_rows(recording: Recording, horizon: int) -> np.ndarray:
    """Starts of whole segments of horizon + 1 rows in the held-out episodes (all episodes, if none is held out)."""
    episodes = recording.heldout_episodes if len(recording.heldout_episodes) else recording.training_episodes
    rows = data.segment_rows(recording.dataset, horizon + 1, "drop", episodes)
    return np.random.default_rng(0).permutation(rows)[:NUM_MEASURED]


def imaginers_of(world_models: Mapping[str, TrainedModel], methods: Mapping[str, TrainedMethod]) -> dict[str, Imaginer]:
    """Every world model by name; one that needs actions gets the recorded ones, and its first policy's too."""
    imaginers: dict[str, Imaginer] = {}
    for name, trained in world_models.items():
        model: Any = trained.model
        actors: dict[str, Any] = {name: with_recorded_actions}
        if model.needs_policy:
            actors = {f"{name}, told the recorded actions": with_recorded_actions}
            followers = [(f, m.learnt) for f, m in methods.items() if METHODS[f].model == name and m.learnt is not None]
            actors |= {
                f"{name}, following {follower}'s policy": with_policy(learnt) for follower, learnt in followers[:1]
            }
        imaginers |= {label: Imaginer(model.rollout, trained.inference, actor) for label, actor in actors.items()}
    return imaginers


def with_policy(learnt: Learnt) -> Callable[[Segment], ChooseAction]:
    """segment -> acts as the first seed's policy does inside a rollout, as in training."""
    state = jax.tree.map(lambda leaf: leaf[0], learnt.policies.states_S)
    choose_action = exploring(learnt.learner, state, learnt.policies.units)
    return lambda segment: choose_action


def positions(comparison: diagnostics.Comparison) -> tuple[np.ndarray, np.ndarray]:
    """Positions in a maze, recorded and imagined, from the common start on: (n, H + 1, 2) each."""
    recorded_XY = comparison.recorded.observations[..., :2]
    imagined_XY = np.concatenate([recorded_XY[:, :1], comparison.imagined.next_observations[..., :2]], axis=1)
    return np.asarray(recorded_XY), imagined_XY
