"""The one-step Gaussian dynamics model, rolled out H times with a policy (standard model-based value expansion)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dwm_jax.gradients import apply_gradients
from dwm_jax.networks.mlp import MLP
from dwm_jax.normalizers import AffineNormalizer, fit_standard
from dwm_jax.types import Array, Average, ChooseAction, Key, Metrics, PyTree, Segment, Trajectory
from dwm_jax.world_models.base import Rollout, TrainingRows, WorldModel

# Smallest standard deviation, in units of the targets' own; keeps the likelihood of deterministic systems finite.
MIN_STD = 1e-3


class InferenceState(NamedTuple):
    params: PyTree
    input_normalizer: AffineNormalizer  # (s, a)
    target_normalizer: AffineNormalizer  # (s' - s, r)
    observation_low: Array  # (O,) range of the data
    observation_high: Array  # (O,)


class State(NamedTuple):
    model: InferenceState
    optimizer_state: PyTree


class GaussianDynamics(nn.Module):
    """Mean and standard deviation of the normalised (s' - s, r), from two separate MLPs: (O + A,) -> 2 x (O + 1,)."""

    hidden: Sequence[int]
    target_size: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        mean = MLP((*self.hidden, self.target_size), name="mean")(x)
        spread = MLP((*self.hidden, self.target_size), name="std")(x)
        return mean, nn.softplus(spread) + MIN_STD


def one_step_world_model(*, hidden: Sequence[int], learning_rate: float) -> WorldModel:
    """p(s', r | s, a) = N(mean, diag(std^2)), trained by maximum likelihood, called H times.

        loss = mean over entries of  log std + ((y - mean) / std)^2 / 2,     y = normalised (s' - s, r)

    It predicts the change of the state, standardised (inputs too): the usual parametrisation of a strong one-step
    baseline (PETS, Chua et al. 2018), where a small time step would otherwise drown in the state's spread.
    States that leave the range of the data are clipped to it: a rollout of a diverging model stays finite.
    Source: DWM appendix (one-step model: 4 layers of 256, softplus covariance, Adam 1e-4).

    Args:
      hidden: widths of the hidden layers of both MLPs.
      learning_rate: Adam's.
    """
    optimizer = optax.adam(learning_rate)

    def network(model: InferenceState) -> Any:
        return GaussianDynamics(tuple(hidden), model.target_normalizer.low.shape[0])

    def init(key: Key, rows: TrainingRows) -> State:
        inputs = np.concatenate([rows.observations, rows.actions], axis=1)
        targets = np.concatenate([rows.next_observations - rows.observations, rows.rewards[:, None]], axis=1)
        model = InferenceState(
            params=None,
            input_normalizer=fit_standard(inputs),
            target_normalizer=fit_standard(targets),
            observation_low=jnp.asarray(rows.next_observations.min(axis=0)),
            observation_high=jnp.asarray(rows.next_observations.max(axis=0)),
        )
        params = jax.jit(network(model).init)(key, jnp.zeros(inputs.shape[1]))
        return State(model._replace(params=params), optimizer.init(params))

    def predict(model: InferenceState, observation_O: Array, action_A: Array) -> tuple[Array, Array]:
        inputs = model.input_normalizer.normalize(jnp.concatenate([observation_O, action_A]))
        return network(model).apply(model.params, inputs)

    def update(state: State, segments: Segment, keys: Array, step: Array, average: Average) -> tuple[State, Metrics]:
        del keys, step  # maximum likelihood draws nothing and is the same at every step

        def sample_loss(params: PyTree, segment: Segment) -> tuple[Array, Array]:
            model = state.model._replace(params=params)
            mean, std = predict(model, segment.observations[0], segment.actions[0])
            change_O = segment.observations[1] - segment.observations[0]
            target = model.target_normalizer.normalize(jnp.append(change_O, segment.rewards[0]))
            error = (target - mean) / std
            # Never masked: a segment starts at an action, and the state it led to was recorded.
            return jnp.mean(jnp.log(std) + error**2 / 2), jnp.mean((target - mean) ** 2)

        def loss(params: PyTree) -> tuple[Array, Metrics]:
            losses_B, errors_B = jax.vmap(sample_loss, in_axes=(None, 0))(params, segments)
            return losses_B.mean(), {"world_model/loss": losses_B.mean(), "world_model/mse": errors_B.mean()}

        params, optimizer_state, metrics = apply_gradients(
            loss, optimizer, state.model.params, state.optimizer_state, average
        )
        return State(state.model._replace(params=params), optimizer_state), metrics

    def rollout(horizon: int, gamma: float) -> Rollout:
        def imagine(
            model: InferenceState,
            observation_O: Array,
            action_A: Array,
            return_to_go: Array,
            choose_action: ChooseAction,
            key: Key,
        ) -> Trajectory:
            del return_to_go  # the actions decide

            def advance(
                carry: tuple[Array, Array], step_and_key: tuple[Array, Key]
            ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
                observation_O, action_A = carry
                step, step_key = step_and_key
                noise_key, action_key = jax.random.split(step_key)
                mean, std = predict(model, observation_O, action_A)
                target = model.target_normalizer.denormalize(mean + std * jax.random.normal(noise_key, mean.shape))
                next_O = jnp.clip(observation_O + target[:-1], model.observation_low, model.observation_high)
                return (next_O, choose_action(step + 1, next_O, action_key)), (next_O, target[-1])

            steps = (jnp.arange(horizon), jax.random.split(key, horizon))
            _, (next_observations_HO, rewards_H) = jax.lax.scan(advance, (observation_O, action_A), steps)
            return Trajectory(next_observations_HO, rewards_H, jnp.full(horizon, gamma))

        return imagine

    return WorldModel(
        sequence_length=2,
        init=init,
        update=update,
        inference=lambda state: state.model,
        rollout=rollout,
        needs_policy=True,
    )
