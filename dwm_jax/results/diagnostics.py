"""How good a world model is, and how fast: measured on recorded segments, held out where an episode could be."""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.data.dataset import Dataset, segment_at, segment_rows
from dwm_jax.maths.normalizers import AffineNormalizer
from dwm_jax.types import Array, ChooseAction, Key, PyTree, Segment, Start, Trajectory
from dwm_jax.world_models.base import Rollout

# (model, segments, returns-to-go to condition on (n,), key) -> trajectories with leading axis n, on the host
Imagine = Callable[[PyTree, Segment, np.ndarray, Key], Trajectory]


class Comparison(NamedTuple):
    """Recorded segments of H + 1 rows and what was imagined from the first pair of each; leading axis n. Host."""

    recorded: Segment
    imagined: Trajectory


class PredictionError(NamedTuple):
    """Mean squared error by step h = 1 .. H (states s_{t+h}, rewards r_{t+h-1}), over the steps that were taken.

    What follows a termination is not counted: nothing depends on it. NaN at a step that no segment took.
    """

    observation: np.ndarray  # (H,) mean over dimensions, in units of the data's variance
    reward: np.ndarray  # (H,) raw units


class Terminations(NamedTuple):
    """Ends of the task, imagined against recorded, by step h = 1 .. H; NaN where nothing was recorded to judge by."""

    # Of the segments that ended at step h: the share whose imagination had ended by then.
    found: np.ndarray  # (H,)
    # Of the segments that went on after step h: the share whose imagination had ended by then.
    invented: np.ndarray  # (H,)


class ValueAgreement(NamedTuple):
    """A learner's values of imagined s_{t+h} against those of recorded ones, by step h = 1 .. H; learner's units.

    Where imagined states lie among the recorded ones, the two means and spreads agree, and the slope of the regression
    of imagined on recorded values is the share of what follows that the start decides: for a model that draws from the
    true conditional distribution it equals the correlation. NaN at a step that no segment took.
    """

    mean_recorded: np.ndarray  # (H,)
    mean_imagined: np.ndarray  # (H,)
    std_recorded: np.ndarray  # (H,)
    std_imagined: np.ndarray  # (H,)
    slope: np.ndarray  # (H,) of the regression of imagined on recorded values
    correlation: np.ndarray  # (H,)

    @property
    def shift(self) -> np.ndarray:
        """mean V(imagined) / mean V(recorded) - 1, by step: (H,); NaN where nothing is known or the latter is 0."""
        return self.mean_imagined / np.where(self.mean_recorded == 0, np.nan, self.mean_recorded) - 1


class Calibration(NamedTuple):
    """The return asked for against the return of the H steps imagined, over bins of equally many segments by label.

    All in units of the return-to-go's scale. Where the two lines of `imagined` and `recorded` agree, asking for a
    return gives what that return meant in the data.
    """

    requested: np.ndarray  # (bins,) mean label g_t, which is what was asked for
    imagined: np.ndarray  # (bins,) mean discounted return of the H imagined rewards
    recorded: np.ndarray  # (bins,) the same of the recorded ones


class Diagnosis(NamedTuple):
    """What was measured of one world model with one actor in it."""

    error: PredictionError
    error_at_starts: PredictionError  # in segments that begin within the first steps of an episode
    calibration: Calibration  # given the segments' own labels
    calibration_asked: Calibration  # given what the policies ask for
    terminations: Terminations
    spread_over_error: np.ndarray  # (H,)
    energy_score: np.ndarray  # (H,)
    variance_by_label: np.ndarray  # (bins,) at the last step, the lowest labels first
    values: dict[str, ValueAgreement]  # by the method whose critics they are
    sampling_seconds: dict[int, float]  # by horizon
    asked: Comparison  # what was imagined given what the policies ask for, beside what was recorded


def with_recorded_actions(segment: Segment) -> ChooseAction:
    """Acts as the recording did: the future actions, which a model that imagines all steps at once is never given."""
    return lambda step, observation, key: segment.actions[step]


def recorded_segments(dataset: Dataset, rows: np.ndarray, horizon: int) -> Segment:
    """The segments of H + 1 rows that start at some rows: leading axis n; host arrays."""
    return jax.device_get(_segments_at(dataset, rows, horizon + 1))


@partial(jax.jit, static_argnums=2)
def _segments_at(dataset: Dataset, row_n: Array, length: int) -> Segment:
    return jax.vmap(segment_at, in_axes=(None, 0, None))(dataset, row_n, length)


def make_imagine(rollout: Rollout, choose_action: Callable[[Segment], ChooseAction]) -> Imagine:
    """Imagines from the first pair of each of many segments; compiled once for each number of them.

    Args:
      rollout: of a world model.
      choose_action: segment -> who acts at steps 1 .. H-1.
    """

    def one(model: PyTree, segment: Segment, return_to_go: Array, key: Key) -> Trajectory:
        start = Start(segment.observations[0], segment.actions[0], return_to_go)
        return rollout(model, start, choose_action(segment), key)

    batch = jax.jit(jax.vmap(one, in_axes=(None, 0, 0, 0)))

    def imagine(model: PyTree, segments: Segment, returns_n: np.ndarray, key: Key) -> Trajectory:
        return jax.device_get(batch(model, segments, jnp.asarray(returns_n), jax.random.split(key, len(returns_n))))

    return imagine


def take_part(comparison: Comparison, which: slice) -> Comparison:
    """Some of the compared segments."""
    return jax.tree.map(lambda leaf: leaf[which], comparison)


def prediction_error(comparison: Comparison, observation_normalizer: AffineNormalizer) -> PredictionError:
    """Error by step; `observation_normalizer` standardises states before they are compared."""
    imagined, recorded = comparison.imagined, comparison.recorded
    difference = np.asarray(
        observation_normalizer.normalize(imagined.next_observations)
        - observation_normalizer.normalize(recorded.observations[:, 1:])
    )
    reward_difference = np.asarray(imagined.rewards - recorded.rewards[:, :-1])
    taken_nH = steps_taken(recorded)
    return PredictionError(
        mean_over(np.mean(difference**2, axis=2), taken_nH), mean_over(reward_difference**2, taken_nH)
    )


def steps_taken(recorded: Segment) -> np.ndarray:
    """Whether step h was taken: the first always, a later one unless one before it ended the task; (n, H) bool."""
    ended_nT = np.asarray(recorded.terminated)
    return np.concatenate([np.ones((len(ended_nT), 1), bool), ~ended_nT[:, :-2]], axis=1)


def known_rows(dataset: Dataset, horizon: int, episodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts of segments of which all H steps are known: recorded, or past a termination. Host.

    Returns:
      (all of them, those whose task ends within the H steps).

    Raises:
      ValueError: there is none.
    """
    rows = segment_rows(dataset, 1, "absorb", episodes)
    last = dataset.last[rows]
    known = rows[dataset.terminated[rows] | (rows + horizon <= last)]
    if not len(known):
        raise ValueError(f"none of the episodes to measure them on has {horizon} steps")
    return known, known[dataset.terminated[known] & (known + horizon >= dataset.last[known])]


def terminations(comparison: Comparison, ending: Comparison) -> Terminations:
    """Ends found and ends invented.

    Args:
      comparison: any segments, for what is invented.
      ending: segments whose task ends within H steps, for what is found; may be the same.
    """

    def ended(of: Comparison) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(of.recorded.terminated)[:, :-1], np.asarray(of.imagined.discounts) == 0

    recorded_nH, imagined_nH = ended(ending)
    at_nH = recorded_nH & steps_taken(ending.recorded)
    found = mean_over(imagined_nH, at_nH)
    recorded_nH, imagined_nH = ended(comparison)
    return Terminations(found, mean_over(imagined_nH, ~recorded_nH))


def value_agreement(value: Callable[[Array], Array], comparison: Comparison) -> ValueAgreement:
    """`value` (raw observation (O,) -> ()) at imagined and at recorded states, where steps were taken."""
    values = jax.jit(jax.vmap(jax.vmap(value)))
    recorded_nH = np.asarray(values(jnp.asarray(comparison.recorded.observations[:, 1:])), np.float64)
    imagined_nH = np.asarray(values(jnp.asarray(comparison.imagined.next_observations)), np.float64)
    rows = []
    for taken, x, y in zip(steps_taken(comparison.recorded).T, recorded_nH.T, imagined_nH.T, strict=True):
        if not taken.any():
            rows.append((np.nan,) * len(ValueAgreement._fields))
            continue
        x, y = x[taken], y[taken]
        covariance = np.mean((x - x.mean()) * (y - y.mean()))
        spread_x, spread_y = (max(float(z.std()), 1e-30) for z in (x, y))
        rows.append(
            (x.mean(), y.mean(), x.std(), y.std(), covariance / spread_x**2, covariance / (spread_x * spread_y))
        )
    return ValueAgreement(*np.array(rows).T)


def mean_over(values_nH: np.ndarray, counted_nH: np.ndarray) -> np.ndarray:
    """By step, the mean over the segments that count there; NaN where none does, and nothing is known."""
    count_H = counted_nH.sum(axis=0)
    sum_H = np.where(counted_nH, np.asarray(values_nH, np.float64), 0.0).sum(axis=0)
    return np.where(count_H > 0, sum_H / np.maximum(count_H, 1), np.nan)


def calibration(comparison: Comparison, gamma: float, return_scale: float, num_bins: int = 10) -> Calibration:
    """Requested, imagined and recorded return over `num_bins` bins of segments ordered by label."""
    order = np.argsort(comparison.recorded.return_to_go, kind="stable")
    weights_H = gamma ** np.arange(comparison.imagined.rewards.shape[1]) / return_scale
    columns = (
        comparison.recorded.return_to_go,
        discounted_returns(comparison.imagined) / return_scale,
        comparison.recorded.rewards[:, :-1] @ weights_H,
    )
    bins = np.array_split(order, min(num_bins, len(order)))
    return Calibration(*(np.array([column[index].mean() for index in bins]) for column in columns))


def discounted_returns(trajectories: Trajectory) -> np.ndarray:
    """Of each of n trajectories, the discounted return of its H steps; what follows an end is worth nothing. (n,)."""
    before_nH = np.cumprod(np.asarray(trajectories.discounts), axis=1)[:, :-1]
    weights_nH = np.concatenate([np.ones((len(before_nH), 1)), before_nH], axis=1)
    return np.asarray((weights_nH * trajectories.rewards).sum(axis=1))


def time_sampling(imagine: Imagine, model: PyTree, segments: Segment) -> float:
    """Wall time of one batch of trajectories, one per segment; median over repetitions, compilation apart."""
    labels_n = np.asarray(segments.return_to_go)
    return _median_seconds(lambda key: imagine(model, segments, labels_n, key))


def time_acting(act: Callable[[Array, Key], Array], observation_O: np.ndarray) -> float:
    """Wall time of one decision on one observation; median over repetitions, compilation apart.

    Args:
      act: compiled.
    """
    return _median_seconds(lambda key: act(jnp.asarray(observation_O), key))


def _median_seconds(call: Callable[[Key], PyTree], repetitions: int = 15) -> float:
    keys = jax.random.split(jax.random.key(0), repetitions + 1)
    jax.device_get(call(keys[0]))
    seconds = []
    for key in keys[1:]:
        start = time.perf_counter()
        jax.device_get(call(key))
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))
