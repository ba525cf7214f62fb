"""How good is a world model? Error by step of the rollout, on segments it never saw."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.data.dataset import Dataset, segment_at
from dwm_jax.normalizers import AffineNormalizer
from dwm_jax.types import Array, ChooseAction, Key, PyTree, Segment, Trajectory
from dwm_jax.world_models.base import Rollout


class PredictionError(NamedTuple):
    """Mean squared error by step h = 1 .. H (states s_{t+h}, rewards r_{t+h-1})."""

    observation: np.ndarray  # (H,) mean over dimensions, in units of the data's standard deviation
    reward: np.ndarray  # (H,) raw units


def with_recorded_actions(segment: Segment) -> ChooseAction:
    """Acts as the recording did: the future actions, which a model that generates the future is never told."""
    return lambda step, observation, key: segment.actions[step]


def prediction_error(
    rollout: Rollout,
    model: PyTree,
    choose_action: Callable[[Segment], ChooseAction],
    dataset: Dataset,
    rows: np.ndarray,
    horizon: int,
    observation_normalizer: AffineNormalizer,
    key: Key,
) -> PredictionError:
    """Rolls out from recorded pairs with their true returns-to-go and compares with what was recorded.

    Args:
      rollout, model: a world model's rollout over `horizon` steps and its inference state.
      choose_action: segment -> who acts at steps 1 .. H-1.
      dataset: of the held-out segments.
      rows: where they start, shape (n,); whole segments of horizon + 1 rows.
      observation_normalizer: standardises states before they are compared.
      key: draws the imagination.
    """

    def one(row: Array, key: Key) -> tuple[Array, Array]:
        segment = segment_at(dataset, row, horizon + 1)
        imagined: Trajectory = rollout(
            model, segment.observations[0], segment.actions[0], segment.return_to_go, choose_action(segment), key
        )
        difference_HO = observation_normalizer.normalize(imagined.next_observations) - (
            observation_normalizer.normalize(segment.observations[1:])
        )
        return jnp.mean(difference_HO**2, axis=1), (imagined.rewards - segment.rewards[:-1]) ** 2

    errors = jax.jit(jax.vmap(one))(jnp.asarray(rows), jax.random.split(key, len(rows)))
    observation_H, reward_H = (np.asarray(error).mean(axis=0) for error in errors)
    return PredictionError(observation_H, reward_H)
