"""Inverse dynamics by itself: infers the action of a step from its two states, which are all that DWM imagines."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwm_jax.maths.normalizers import AffineNormalizer, fit_standard
from dwm_jax.networks.initialization import compute_once
from dwm_jax.networks.inverse_dynamics import InverseDynamics
from dwm_jax.types import Array, Average, Key, Metrics, PyTree, Segment
from dwm_jax.world_models.base import Model, Training, TrainingRows
from dwm_jax.world_models.trained_by_adam import State, TrainedByAdam


class InferenceState(NamedTuple):
    params: PyTree
    observation_normalizer: AffineNormalizer
    change_normalizer: AffineNormalizer  # of s' - s


@dataclass(frozen=True, kw_only=True)
class InverseDynamicsModel(TrainedByAdam, Model):
    """f(s, s') -> a, trained on the recorded step that a segment starts with:

        loss = mean over entries of  (a_t - f(s_t, s_{t+1}))^2

    so that f is the mean of the recorded actions that lead from s to s'. It sees s and s' - s, each standardised: where
    a time step is small, the change would drown in the state's spread.

    Source: the inverse dynamics model of DAWM (Li et al. 2025, arXiv 2509.19538), which stands beside a diffusion world
    model that stays as it is; the loss is Decision Diffuser's (Ajay et al. 2023). Sizes and updates are ours.
    """

    title = "IDM"
    training = Training(num_updates=200_000, batch_size=256)

    hidden: tuple[int, ...] = (256, 256, 256)  # widths of the hidden layers
    learning_rate: float = 3e-4  # Adam's

    @property
    def sequence_length(self) -> int:
        return 2

    def network(self, action_size: int) -> Any:
        return InverseDynamics(tuple(self.hidden), action_size, dropout=0.0)

    def init(self, key: Key, rows: TrainingRows) -> State:
        states_2O = jnp.zeros((2, rows.observations.shape[1]))
        network = self.network(rows.actions.shape[1])
        params = compute_once(partial(network.init, training=False), key, states_2O)
        changes = fit_standard(rows.next_observations - rows.observations)
        return self.start(InferenceState(params, fit_standard(rows.states), changes))

    def predict(self, model: InferenceState, observation_O: Array, next_observation_O: Array) -> Array:
        """f(s, s'), raw units: (A,)."""
        state_O = model.observation_normalizer.normalize(observation_O)
        change_O = model.change_normalizer.normalize(next_observation_O - observation_O)
        action_size = model.params["params"]["action"]["bias"].shape[0]
        return self.network(action_size).apply(model.params, jnp.stack([state_O, change_O]), training=False)

    def update(
        self, state: State, segments: Segment, keys: Array, step: Array, average: Average
    ) -> tuple[State, Metrics]:
        def loss(model: InferenceState) -> tuple[Array, Metrics]:
            # Never masked: a segment starts at an action, and the state it led to was recorded.
            states_BO, next_states_BO = segments.observations[:, 0], segments.observations[:, 1]
            predicted_BA = jax.vmap(self.predict, in_axes=(None, 0, 0))(model, states_BO, next_states_BO)
            loss = jnp.mean((segments.actions[:, 0] - predicted_BA) ** 2)
            return loss, {"world_model/loss": loss}

        return self.descend(loss, state, average)

    def infer(self, model: InferenceState, observation_O: Array, next_observation_O: Array) -> Array:
        """f(s, s') within [-1, 1], the range of actions. Raw units: 2 x (O,) -> (A,)."""
        return jnp.clip(self.predict(model, observation_O, next_observation_O), -1, 1)
