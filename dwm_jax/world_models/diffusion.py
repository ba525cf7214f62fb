"""The diffusion world model: one conditional diffusion over T rows (s, r), all H < T steps generated at once."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dwm_jax import diffusion
from dwm_jax.gradients import apply_gradients
from dwm_jax.networks.temporal_unet import TemporalUnet
from dwm_jax.normalizers import FITTERS, Normalizer
from dwm_jax.types import Array, Average, ChooseAction, Key, Metrics, PyTree, Segment, Trajectory
from dwm_jax.world_models.base import Rollout, TrainingRows, WorldModel


class InferenceState(NamedTuple):
    """What sampling needs: the EMA parameters are the model."""

    params: PyTree
    observation_normalizer: Normalizer
    reward_normalizer: Normalizer


class State(NamedTuple):
    params: PyTree
    optimizer_state: PyTree
    ema: InferenceState


def diffusion_world_model(
    *,
    sequence_length: int,
    num_diffusion_steps: int,
    num_sampling_steps: int,
    width: int,
    multipliers: Sequence[int],
    learning_rate: float,
    ema_rate: float,
    ema_every: int,
    condition_dropout: float,
    guidance_weight: float,
    temperature: float,
    observation_normalizer: str,
) -> WorldModel:
    """DWM (section 3.1, algorithm 1): rows x in R^{T x (O+1)} given s_t, a_t and the return-to-go.

    Trained on the masked noise-prediction loss with the return dropped with probability `condition_dropout`;
    sampled with classifier-free guidance along the strided schedule.

    Args:
      sequence_length: T; imagines at most T - 1 steps.
      num_diffusion_steps: K.
      num_sampling_steps: N <= K.
      width, multipliers: of the temporal U-Net.
      learning_rate: Adam's.
      ema_rate, ema_every: ema <- rate * ema + (1 - rate) * params, once every `ema_every` updates.
      condition_dropout: p_uncond in [0, 1].
      guidance_weight: w; 1 follows the condition, more exaggerates it.
      temperature: factor on the sampler's noise.
      observation_normalizer: "cdf", "min_max" or "standard"; rewards always go by min-max.

    Raises:
      ValueError: unless 1 <= N <= K.
    """
    network: Any = TemporalUnet(width, tuple(multipliers))
    optimizer = optax.adam(learning_rate)
    alphas_bar_K = diffusion.cosine_schedule(num_diffusion_steps)
    steps = diffusion.strided_steps(num_diffusion_steps, num_sampling_steps)

    def init(key: Key, rows: TrainingRows) -> State:
        observation_size, action_size = rows.observations.shape[1], rows.actions.shape[1]
        x_TD = jnp.zeros((sequence_length, observation_size + 1))
        params = jax.jit(network.init)(key, x_TD, jnp.ones(()), jnp.zeros(action_size), jnp.zeros(()))
        rewards = np.append(rows.rewards, np.zeros(int(rows.absorbing), np.float32))
        normalizers = (FITTERS[observation_normalizer](rows.observations), FITTERS["min_max"](rewards[:, None]))
        # A copy: params and EMA are donated together and must not share buffers.
        return State(params, optimizer.init(params), InferenceState(jax.tree.map(jnp.copy, params), *normalizers))

    def rows_of(ema: InferenceState, segment: Segment) -> Array:
        observations_TO = ema.observation_normalizer.normalize(segment.observations)
        rewards_T1 = ema.reward_normalizer.normalize(segment.rewards[:, None])
        return jnp.concatenate([observations_TO, rewards_T1], axis=1)

    def sample_loss(params: PyTree, ema: InferenceState, segment: Segment, key: Key) -> Array:
        drop_key, loss_key = jax.random.split(key)
        keep = jax.random.bernoulli(drop_key, 1 - condition_dropout).astype(jnp.float32)
        condition_E = network.apply(
            params, segment.actions[0], segment.return_to_go, keep, method=TemporalUnet.embed_condition
        )

        def denoise(x_TD: Array, k: Array) -> Array:
            return network.apply(params, x_TD, k, condition_E, method=TemporalUnet.denoise)

        return diffusion.noise_prediction_loss(
            denoise,
            rows_of(ema, segment),
            segment.mask,
            segment.observations.shape[1],
            jnp.asarray(alphas_bar_K, jnp.float32),
            loss_key,
        )

    def update(state: State, segments: Segment, keys: Array, step: Array, average: Average) -> tuple[State, Metrics]:
        def loss(params: PyTree) -> tuple[Array, Metrics]:
            losses_B = jax.vmap(sample_loss, in_axes=(None, None, 0, 0))(params, state.ema, segments, keys)
            return losses_B.mean(), {"world_model/loss": losses_B.mean()}

        params, optimizer_state, metrics = apply_gradients(
            loss, optimizer, state.params, state.optimizer_state, average
        )
        # A branch, not a product with 1: between two moves the EMA costs nothing.
        ema_params = jax.lax.cond(
            (step + 1) % ema_every == 0,
            lambda: optax.incremental_update(params, state.ema.params, 1 - ema_rate),
            lambda: state.ema.params,
        )
        return State(params, optimizer_state, state.ema._replace(params=ema_params)), metrics

    def rollout(horizon: int, gamma: float) -> Rollout:
        if horizon >= sequence_length:
            raise ValueError(f"horizon {horizon} must be below sequence_length {sequence_length}")

        def imagine(
            model: InferenceState,
            observation_O: Array,
            action_A: Array,
            return_to_go: Array,
            choose_action: ChooseAction,
            key: Key,
        ) -> Trajectory:
            del choose_action  # the whole future is generated at once
            embed = partial(network.apply, model.params, action_A, return_to_go, method=TemporalUnet.embed_condition)

            def denoise(x_TD: Array, k: Array, condition_E: Array) -> Array:
                return network.apply(model.params, x_TD, k, condition_E, method=TemporalUnet.denoise)

            x_TD = diffusion.sample(
                diffusion.guided(denoise, embed(1.0), embed(0.0), guidance_weight),
                model.observation_normalizer.normalize(observation_O),
                sequence_length,
                jnp.concatenate([model.observation_normalizer.low, model.reward_normalizer.low]),
                jnp.concatenate([model.observation_normalizer.high, model.reward_normalizer.high]),
                alphas_bar_K,
                steps,
                temperature,
                key,
            )
            return Trajectory(
                next_observations=model.observation_normalizer.denormalize(x_TD[1 : horizon + 1, :-1]),
                rewards=model.reward_normalizer.denormalize(x_TD[:horizon, -1:])[:, 0],
                discounts=jnp.full(horizon, gamma),
            )

        return imagine

    return WorldModel(
        sequence_length=sequence_length,
        init=init,
        update=update,
        inference=lambda state: state.ema,
        rollout=rollout,
        needs_policy=False,
    )
