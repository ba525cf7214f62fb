"""How good is a world model, and how fast? Measured on segments it never saw."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.data.dataset import Dataset, segment_at
from dwm_jax.maths.normalizers import AffineNormalizer
from dwm_jax.types import Array, ChooseAction, Key, PyTree, Segment, Trajectory
from dwm_jax.world_models.base import Rollout


class Comparison(NamedTuple):
    """Recorded segments of H + 1 rows and what was imagined from the first pair of each; leading axis n. Host."""

    recorded: Segment
    imagined: Trajectory


class PredictionError(NamedTuple):
    """Mean squared error by step h = 1 .. H (states s_{t+h}, rewards r_{t+h-1})."""

    observation: np.ndarray  # (H,) mean over dimensions, in units of the data's standard deviation
    reward: np.ndarray  # (H,) raw units


class Calibration(NamedTuple):
    """The return asked for against the return of the H steps imagined, over bins of equally many segments.

    All in units of the return-to-go's scale. Where the two lines of `imagined` and `recorded` agree, asking for a
    return gives what that return meant in the data.
    """

    requested: np.ndarray  # (bins,) mean label g_t, which is what was asked for
    imagined: np.ndarray  # (bins,) mean discounted return of the H imagined rewards
    recorded: np.ndarray  # (bins,) the same of the recorded ones


def with_recorded_actions(segment: Segment) -> ChooseAction:
    """Acts as the recording did: the future actions, which a model that generates the future is never told."""
    return lambda step, observation, key: segment.actions[step]


def compare(
    rollout: Rollout,
    model: PyTree,
    choose_action: Callable[[Segment], ChooseAction],
    dataset: Dataset,
    rows: np.ndarray,
    horizon: int,
    key: Key,
    return_to_go: float | None = None,
) -> Comparison:
    """Rolls out from recorded pairs.

    Args:
      rollout, model: a world model's rollout over `horizon` steps and its inference state.
      choose_action: segment -> who acts at steps 1 .. H-1.
      dataset: of the held-out segments.
      rows: where they start, shape (n,); whole segments of horizon + 1 rows.
      key: draws the imagination.
      return_to_go: what to ask for; None asks for each segment's own label.
    """

    def one(row: Array, key: Key) -> Comparison:
        segment = segment_at(dataset, row, horizon + 1)
        asked = segment.return_to_go if return_to_go is None else jnp.asarray(return_to_go)
        start = segment.observations[0], segment.actions[0], asked
        return Comparison(segment, rollout(model, *start, choose_action(segment), key))

    return jax.device_get(jax.jit(jax.vmap(one))(jnp.asarray(rows), jax.random.split(key, len(rows))))


def prediction_error(comparison: Comparison, observation_normalizer: AffineNormalizer) -> PredictionError:
    """Error by step; `observation_normalizer` standardises states before they are compared."""
    imagined, recorded = comparison.imagined, comparison.recorded
    difference = np.asarray(
        observation_normalizer.normalize(imagined.next_observations)
        - observation_normalizer.normalize(recorded.observations[:, 1:])
    )
    reward_difference = imagined.rewards - recorded.rewards[:, :-1]
    return PredictionError(np.mean(difference**2, axis=(0, 2)), np.mean(reward_difference**2, axis=0))


def calibration(comparison: Comparison, gamma: float, return_scale: float, num_bins: int = 10) -> Calibration:
    """Requested, imagined and recorded return over `num_bins` bins of segments ordered by label."""
    order = np.argsort(comparison.recorded.return_to_go, kind="stable")
    weights_H = gamma ** np.arange(comparison.imagined.rewards.shape[1]) / return_scale
    columns = (
        comparison.recorded.return_to_go,
        comparison.imagined.rewards @ weights_H,
        comparison.recorded.rewards[:, :-1] @ weights_H,
    )
    bins = np.array_split(order, min(num_bins, len(order)))
    return Calibration(*(np.array([column[index].mean() for index in bins]) for column in columns))


def sampling_seconds(
    rollout: Rollout,
    model: PyTree,
    choose_action: Callable[[Segment], ChooseAction],
    dataset: Dataset,
    rows: np.ndarray,
    horizon: int,
) -> float:
    """Wall time of one batch of trajectories, one per row; median over repetitions, compilation apart."""

    @jax.jit
    def batch(model: PyTree, rows: Array, key: Key) -> Trajectory:
        def one(row: Array, key: Key) -> Trajectory:
            segment = segment_at(dataset, row, horizon + 1)
            start = segment.observations[0], segment.actions[0], segment.return_to_go
            return rollout(model, *start, choose_action(segment), key)

        return jax.vmap(one)(rows, jax.random.split(key, rows.shape[0]))

    return _median_seconds(lambda key: batch(model, jnp.asarray(rows), key))


def acting_seconds(act: Callable[[Array, Key], Array], observation_O: np.ndarray) -> float:
    """Wall time of one decision on one observation; median over repetitions, compilation apart."""
    compiled = jax.jit(act)
    return _median_seconds(lambda key: compiled(jnp.asarray(observation_O), key))


def _median_seconds(call: Callable[[Key], PyTree], repetitions: int = 15) -> float:
    keys = jax.random.split(jax.random.key(0), repetitions + 1)
    jax.device_get(call(keys[0]))
    seconds = []
    for key in keys[1:]:
        start = time.perf_counter()
        jax.device_get(call(key))
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))
