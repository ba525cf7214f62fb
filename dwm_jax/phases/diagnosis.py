"""What a finished run measures of its world models on held-out segments, with the pictures of it.

Everything is measured on the same segments, imagined by one compiled function per world model: given their own
labels, once and a few times more for the spread, and given what the run's policies ask for.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dwm_jax.data.dataset import state_normalizer
from dwm_jax.data.maze2d import Maze
from dwm_jax.data.recording import Recording
from dwm_jax.imagination.sources import make_ask, prefix_of_ask
from dwm_jax.learners.policies import Learnt, TrainedMethod, make_choose_action
from dwm_jax.phases.held_out import Imaginer, Measured, imagine_own_labels, make_imagine_segments
from dwm_jax.phases.phase import Run
from dwm_jax.registry import METHODS
from dwm_jax.results import diagnostics, distributions, pictures
from dwm_jax.results.diagnostics import Comparison, Diagnosis, with_recorded_actions
from dwm_jax.results.labels import label_with_policy, label_with_recorded_actions
from dwm_jax.types import Array, ChooseAction, Segment
from dwm_jax.world_models.base import TrainedModel

# Segments that are drawn, and that are sampled at once when sampling is timed.
NUM_DRAWN, NUM_TIMED = 60, 128
# Draws of each segment, for the spread.
NUM_DRAWS = 4


def diagnose(
    run: Run, measured: Measured, models: Mapping[str, TrainedModel], methods: Mapping[str, TrainedMethod]
) -> dict[str, Diagnosis]:
    """Every world model's diagnosis, by its label; pictures go to the run's figures."""
    imaginers = make_imaginers(models, methods)
    found = {label: diagnose_one(run, label, imaginer, measured, methods) for label, imaginer in imaginers.items()}
    draw_measurements(run, measured, found)
    if run.task.maze is not None and "dwm" in found:
        asked = diagnostics.take_part(found["dwm"].asked, slice(NUM_DRAWN))
        draw_imagined_ways(run, run.task.maze, asked, measured.origin)
    return found


def diagnose_one(
    run: Run, label: str, imaginer: Imaginer, measured: Measured, methods: Mapping[str, TrainedMethod]
) -> Diagnosis:
    """All measurements of one world model."""
    config, recording = run.config, run.recording
    gamma, scale = config.gamma, recording.return_scale
    normalizer, imagine = state_normalizer(recording.dataset), make_imagine_segments(run, imaginer, measured)
    own_M = [imagine_own_labels(imagine, measured, number) for number in range(NUM_DRAWS)]
    whole_M = [diagnostics.take_part(own, measured.any) for own in own_M]
    own, whole = own_M[0], whole_M[0]
    imagined_M = [drawn.imagined for drawn in whole_M]
    asked_n = asked_returns(config, imaginer, measured.segments)
    asked = diagnostics.take_part(Comparison(measured.segments, imagine(asked_n, "asked")), measured.any)
    return Diagnosis(
        error=diagnostics.prediction_error(whole, normalizer),
        calibration=diagnostics.calibration(whole, gamma, scale),
        calibration_asked=diagnostics.calibration(asked, gamma, scale),
        error_at_starts=diagnostics.prediction_error(diagnostics.take_part(own, measured.starts), normalizer),
        terminations=diagnostics.terminations(whole, diagnostics.take_part(own, measured.ending)),
        spread_over_error=distributions.spread_over_error(whole.recorded, imagined_M, normalizer),
        energy_score=distributions.energy_score(whole.recorded, imagined_M, normalizer),
        variance_by_label=distributions.variance_by_label(whole, normalizer),
        values={
            name: diagnostics.value_agreement(value_of(method.learnt), whole)
            for name, method in methods.items()
            if method.learnt is not None and METHODS[name].model == imaginer.model_name
        },
        # One time per world model, with the recorded actions where it needs any.
        sampling_seconds=time_horizons(config, imaginer, recording, measured.rows[:NUM_TIMED])
        if imaginer.choose_action is with_recorded_actions
        else {},
        asked=asked,
    )


def asked_returns(config: ConfigDict, imaginer: Imaginer, segments: Segment) -> np.ndarray:
    """The returns-to-go that the run's policies would ask for at the segments' first pairs: (n,)."""
    ask = make_ask(config.policy.ask, config.policy.return_to_go, imaginer.world_model)
    of_pairs = jax.jit(jax.vmap(ask, in_axes=(None, 0, 0)))
    asked = of_pairs(imaginer.inference, segments.observations[:, 0], segments.actions[:, 0])
    return np.asarray(jnp.broadcast_to(asked, len(segments.return_to_go)))


def time_horizons(config: ConfigDict, imaginer: Imaginer, recording: Recording, rows: np.ndarray) -> dict[int, float]:
    """Time of a batch of trajectories, one per row, by the horizons that the config names."""
    return {
        h: diagnostics.time_sampling(
            diagnostics.make_imagine(imaginer.rollout(h, config.gamma), imaginer.choose_action),
            imaginer.inference,
            diagnostics.recorded_segments(recording.dataset, rows, h),
        )
        for h in config.diagnostics.sampling_horizons
    }


def value_of(learnt: Learnt) -> Callable[[Array], Array]:
    """The value of a raw state by the first seed's critics: (O,) -> ()."""
    state = jax.tree.map(lambda leaf: leaf[0], learnt.policies.states_S)
    units = learnt.policies.units
    return lambda observation_O: learnt.learner.value(state, units.observation_normalizer.normalize(observation_O))


def make_imaginers(models: Mapping[str, TrainedModel], methods: Mapping[str, TrainedMethod]) -> dict[str, Imaginer]:
    """Every world model by its label; one that needs actions gets the recorded ones, and its first policy's too."""
    imaginers: dict[str, Imaginer] = {}
    for name, trained in models.items():
        model: Any = trained.model
        actors: dict[str, Any] = {name: with_recorded_actions}
        if model.needs_policy:
            actors = {label_with_recorded_actions(name): with_recorded_actions}
            followers = [(f, m.learnt) for f, m in methods.items() if METHODS[f].model == name and m.learnt is not None]
            actors |= {label_with_policy(name, follower): with_policy(learnt) for follower, learnt in followers[:1]}
        imaginers |= {label: Imaginer(name, model, trained.inference, actor) for label, actor in actors.items()}
    return imaginers


def with_policy(learnt: Learnt) -> Callable[[Segment], ChooseAction]:
    """segment -> acts as the first seed's policy does inside a rollout, as in training."""
    state = jax.tree.map(lambda leaf: leaf[0], learnt.policies.states_S)
    choose_action = make_choose_action(learnt.learner, state, learnt.policies.units)
    return lambda segment: choose_action


# --------------------------------------------------------------------------------------------------- pictures


def draw_measurements(run: Run, measured: Measured, found: Mapping[str, Diagnosis]) -> None:
    """The pictures of all world models, one for each measurement that says something."""
    folder, task, horizon = run.workdir / "figures", run.task.name, run.config.policy.horizon
    errors = {label: one.error for label, one in found.items()}
    title = f"{task}: prediction error on {measured.origin} episodes ({measured.any.stop} segments)"
    pictures.draw_prediction_errors(folder / "prediction_error.png", errors, title)
    pictures.draw_calibrations(
        folder / "calibration.png",
        {label: one.calibration for label, one in found.items()},
        {label: one.calibration_asked for label, one in found.items()},
        f"{task}: return of {horizon} steps",
        run.recording.return_scale,
    )
    by_step = {
        "energy score (0: perfect, 1: unconditional)": {label: one.energy_score for label, one in found.items()},
        "spread / unexplained error (1: calibrated)": {label: one.spread_over_error for label, one in found.items()},
    }
    ends = {label: one.terminations for label, one in found.items()}
    if any(np.isfinite(of.found).any() for of in ends.values()):
        by_step["terminations found"] = {label: of.found for label, of in ends.items()}
        by_step["terminations invented"] = {label: of.invented for label, of in ends.items()}
    values = {f"{name} in {label}": of for label, one in found.items() for name, of in one.values.items()}
    if values:
        by_step["mean V(imagined) / mean V(recorded) - 1"] = {label: of.shift for label, of in values.items()}
        by_step["slope of V(imagined) on V(recorded)"] = {label: of.slope for label, of in values.items()}
    pictures.draw_by_step(folder / "imagined_states.png", by_step, f"{task}: imagined against recorded, by step")
    seconds = {label: one.sampling_seconds for label, one in found.items() if one.sampling_seconds}
    if seconds:
        number = min(NUM_TIMED, len(measured.rows))
        pictures.draw_sampling_times(folder / "sampling_time.png", seconds, f"{task}: time of {number} trajectories")


def draw_imagined_ways(run: Run, maze: Maze, asked: Comparison, origin: str) -> None:
    """Recorded and imagined ways through the maze from the same starts, given what the policies ask for."""
    config = run.config
    recorded_XY = np.asarray(asked.recorded.observations)[..., :2]
    imagined_XY = np.concatenate([recorded_XY[:, :1], asked.imagined.next_observations[..., :2]], axis=1)
    asked_for = f"return-to-go {prefix_of_ask(config.policy.ask)}{config.policy.return_to_go:g}"
    title = f"{run.task.name}: {config.policy.horizon} steps from {origin} states, {asked_for}"
    pictures.draw_maze_trajectories(run.workdir / "figures" / "imagination.png", maze, recorded_XY, imagined_XY, title)
