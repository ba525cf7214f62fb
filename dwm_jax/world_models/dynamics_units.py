"""The units in which a dynamics model sees the world: standardised inputs, the standardised change of the state."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from dwm_jax.maths.normalizers import AffineNormalizer, fit_standard
from dwm_jax.types import Array
from dwm_jax.world_models.base import TrainingRows


class DynamicsUnits(NamedTuple):
    """Maps between raw units and those of a model of y = standardised (s' - s, r), shape (..., O + 1).

    The change of the state rather than the state itself: where a time step is small, it would otherwise drown in
    the state's spread. Source: PETS (Chua et al. 2018).
    """

    observation_normalizer: AffineNormalizer
    action_normalizer: AffineNormalizer
    target_normalizer: AffineNormalizer  # (s' - s, r)
    observation_low: Array  # (O,) range of the data
    observation_high: Array  # (O,)
    reward_low: Array  # () range of the data, with the 0 of what follows an end
    reward_high: Array  # ()

    def target(self, observation: Array, next_observation: Array, reward: Array) -> Array:
        """What is to be predicted: (..., O), (..., O), (...) raw -> (..., O + 1)."""
        change = next_observation - observation
        return self.target_normalizer.normalize(jnp.concatenate([change, reward[..., None]], axis=-1))

    def step(self, observation: Array, prediction: Array) -> tuple[Array, Array]:
        """The (s', r) that a prediction stands for: (..., O) raw, (..., O + 1) -> (..., O), (...) raw.

        What leaves the range of the data is clipped to it, as the diffusion models' rows are: a rollout of a
        diverging model stays finite.
        """
        target = self.target_normalizer.denormalize(prediction)
        next_observation = jnp.clip(observation + target[..., :-1], self.observation_low, self.observation_high)
        return next_observation, jnp.clip(target[..., -1], self.reward_low, self.reward_high)


def fit_dynamics_units(rows: TrainingRows) -> DynamicsUnits:
    """Fits all of them on recorded transitions."""
    states, changes = rows.states, rows.next_observations - rows.observations
    return DynamicsUnits(
        observation_normalizer=fit_standard(states),
        action_normalizer=fit_standard(rows.actions),
        target_normalizer=fit_standard(np.concatenate([changes, rows.rewards[:, None]], axis=1)),
        observation_low=jnp.asarray(states.min(axis=0)),
        observation_high=jnp.asarray(states.max(axis=0)),
        reward_low=jnp.asarray(rows.rewards_with_padding.min()),
        reward_high=jnp.asarray(rows.rewards_with_padding.max()),
    )
