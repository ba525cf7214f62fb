"""World models on held-out segments: which segments, what is imagined from them, and how far it can be trusted."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from dwm_jax.data import dataset as data
from dwm_jax.data.recording import Recording
from dwm_jax.phases.phase import Run
from dwm_jax.results import diagnostics
from dwm_jax.results.diagnostics import Comparison, with_recorded_actions
from dwm_jax.results.scores import remark_on_origin
from dwm_jax.runtime import files, processes
from dwm_jax.runtime.keys import key_for, tagged
from dwm_jax.runtime.progress import say
from dwm_jax.types import ChooseAction, PyTree, Segment, Trajectory
from dwm_jax.world_models.base import Rollout, TrainedModel, WorldModel

# Segments that are measured.
NUM_MEASURED = 1024
# The file of a run that keeps how far its world models are trusted.
HORIZONS = "horizons.json"


class Imaginer(NamedTuple):
    """A world model, and what chooses the actions inside it."""

    model_name: str
    world_model: WorldModel
    inference: PyTree
    choose_action: Callable[[Segment], ChooseAction]

    def rollout(self, horizon: int, gamma: float) -> Rollout:
        return self.world_model.rollout(horizon, gamma)


class Measured(NamedTuple):
    """Segments: any, those whose task ends within them, those that begin near an episode's start; in this order."""

    origin: str  # `Recording.measured_on`
    segments: Segment  # leading axis n
    rows: np.ndarray  # (n,) where they start
    any: slice
    ending: slice
    starts: slice


def measured_segments(recording: Recording, horizon: int) -> Measured:
    """Segments of the held-out episodes; of all episodes, if none is held out.

    Raises:
      ValueError: none of them is long enough.
    """
    is_held_out = recording.measured_on == "held-out"
    episodes = recording.heldout_episodes if is_held_out else recording.training_episodes
    known, ending = diagnostics.known_rows(recording.dataset, horizon, episodes)
    rng = np.random.default_rng(0)
    starting = np.intersect1d(known, data.start_rows(recording.dataset, data.START_STEPS))
    groups = [rng.permutation(rows)[:NUM_MEASURED] for rows in (known, ending, starting)]
    rows = np.concatenate(groups)
    ends = np.cumsum([0, *map(len, groups)])
    parts = [slice(int(start), int(end)) for start, end in pairwise(ends)]
    segments = diagnostics.recorded_segments(recording.dataset, rows, horizon)
    return Measured(recording.measured_on, segments, rows, *parts)


def make_imagine_segments(run: Run, imaginer: Imaginer, measured: Measured) -> Callable[[np.ndarray, str], Trajectory]:
    """(returns-to-go (n,), purpose of the draw) -> the imaginations of all segments given these; compiled once."""
    imagine = diagnostics.make_imagine(
        imaginer.rollout(run.config.policy.horizon, run.config.gamma), imaginer.choose_action
    )
    key = key_for(0, "diagnostics")
    return lambda returns_n, purpose: imagine(imaginer.inference, measured.segments, returns_n, tagged(key, purpose))


def imagine_own_labels(imagine: Callable[[np.ndarray, str], Trajectory], measured: Measured, number: int) -> Comparison:
    """One of several draws of all segments, given their own labels."""
    labels_n = np.asarray(measured.segments.return_to_go)
    return Comparison(measured.segments, imagine(labels_n, f"draw {number}"))


def find_trusted_horizon(run: Run, name: str, trained: TrainedModel) -> int:
    """How many steps policies see of what world model `name` imagines: at least 1, at most `policy.horizon`.

    The steps before the first whose state error e_h on held-out segments is above `policy.largest_error`, or that no
    segment took,

        e_h = mean |s^_{t+h} - s_{t+h}|^2 / O,  states standardised over the data: 1 is the error of their mean.

    It is asked for the segments' own labels, and told the recorded actions where it follows actions: the first draw of
    the run's diagnostics. All steps count where `policy.largest_error` is 0. What was found stays in horizons.json, so
    that a run which another machine resumes goes on with it.
    """
    if not run.config.policy.largest_error:
        return int(run.config.policy.horizon)

    def find() -> int:
        found = read_horizons(run)
        if name not in found:
            found[name] = measure_horizon(run, name, trained)
            files.write(run.workdir / HORIZONS, json.dumps(found, indent=2) + "\n")
        return found[name]

    return processes.call_on_first(find)


def read_horizons(run: Run) -> dict[str, int]:
    """Trusted horizons by world model, as far as they were measured; values out of their range are left out."""
    longest = run.config.policy.horizon
    found = files.find_json(run.workdir / HORIZONS) or {}
    return {name: int(steps) for name, steps in found.items() if steps in range(1, longest + 1)}


def read_trusted_horizon(run: Run, name: str) -> int:
    """The trusted horizon where it was measured for a policy; else all steps."""
    return read_horizons(run).get(name, int(run.config.policy.horizon))


def measure_horizon(run: Run, name: str, trained: TrainedModel) -> int:
    """Measures and prints a trusted horizon; all steps where no episode is long enough to measure on."""
    bound, longest = run.config.policy.largest_error, run.config.policy.horizon
    try:
        measured = measured_segments(run.recording, longest)
    except ValueError as error:
        say(
            f"world model {name}: its prediction error could not be measured ({error}); policies use all {longest} "
            "imagined steps"
        )
        return int(longest)
    model: Any = trained.model
    imaginer = Imaginer(name, model, trained.inference, with_recorded_actions)
    whole = diagnostics.take_part(
        imagine_own_labels(make_imagine_segments(run, imaginer, measured), measured, 0), measured.any
    )
    error_H = diagnostics.prediction_error(whole, data.state_normalizer(run.recording.dataset)).observation
    horizon = steps_within(error_H, bound)
    said = ", ".join(f"{error:.2g}" for error in error_H[: horizon + 1])
    say(
        f"world model {name}: {measured.origin} state error at steps 1, 2, …: {said}"
        f"{remark_on_origin(measured.origin)}; policies use the first {horizon} of {longest} imagined steps "
        f"(policy.largest_error={bound:g})"
    )
    return horizon


def steps_within(error_H: np.ndarray, bound: float) -> int:
    """The number of steps before the first whose error is above the bound, or not known (NaN); 1 at least."""
    return max(1, int(np.cumprod(error_H <= bound).sum()))
