"""Decision Diffuser: a diffusion over states plans for a return, inverse dynamics acts. No critic, no actor."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dwm_jax.maths.normalizers import FITTERS, Normalizer
from dwm_jax.networks.optimization import apply_gradients, move_ema, start_ema
from dwm_jax.types import Array, Average, Key, Metrics, PyTree, Segment
from dwm_jax.world_models.base import Planner, TrainingRows
from dwm_jax.world_models.row_diffusion import row_diffusion


class Params(NamedTuple):
    diffusion: PyTree
    inverse_dynamics: PyTree


class InferenceState(NamedTuple):
    """What acting needs: the EMA parameters are the model."""

    params: Params
    observation_normalizer: Normalizer


class State(NamedTuple):
    params: Params
    optimizer_state: PyTree
    ema: InferenceState


class InverseDynamics(nn.Module):
    """The action that leads from s to s': normalised (s, s') of shape (2, O) -> (A,).

    The last layer is linear, as in Decision Diffuser's code: a plan that asks for more than full throttle gets it.
    """

    hidden: Sequence[int]
    action_size: int
    dropout: float

    @nn.compact
    def __call__(self, states_2O: Array, training: bool) -> Array:
        x = states_2O.reshape(-1)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
            x = nn.Dropout(self.dropout, deterministic=not training)(x)
        return nn.Dense(self.action_size, name="action")(x)


def decision_diffuser(
    *,
    sequence_length: int,
    num_diffusion_steps: int,
    num_sampling_steps: int,
    width: int,
    multipliers: Sequence[int],
    activations: str,
    prediction: str,
    learning_rate: float,
    ema_rate: float,
    ema_every: int,
    condition_dropout: float,
    guidance_weight: float,
    temperature: float,
    observation_normalizer: str,
    inverse_hidden: Sequence[int],
    inverse_dropout: float,
) -> Planner:
    """Rows x in R^{T x O}, states alone, given s_t and the return-to-go; a_t = f(s_t, s_{t+1}) with s_{t+1} planned.

    Two losses, trained side by side on the same segments:

        diffusion          the masked denoising loss, the return dropped with probability `condition_dropout`
        inverse dynamics   mean over entries of (a_t - f(s_t, s_{t+1}))^2, on the recorded step a segment starts with

    `act` draws one plan of T states with classifier-free guidance and clips f's answer to [-1, 1], the range of
    actions. The EMA covers f too, as in the authors' code.
    Source: Ajay et al. 2023, algorithm 1; sizes and steps as in DWM's appendix (T = 32, K = 5, N = 3, f of 3 layers
    of 1024 with dropout 0.1).

    Args:
      sequence_length: T >= 2.
      num_diffusion_steps: K.
      num_sampling_steps: N <= K.
      width, multipliers: of the temporal U-Net.
      activations: their type in it, "float32" or "bfloat16".
      prediction: what the U-Net puts out, "noise" or "velocity".
      learning_rate: Adam's, for both.
      ema_rate, ema_every: ema <- rate * ema + (1 - rate) * params, once every `ema_every` updates.
      condition_dropout: p_uncond in [0, 1].
      guidance_weight: w; 1 follows the condition, more exaggerates it.
      temperature: factor on the sampler's noise.
      observation_normalizer: "cdf", "min_max" or "standard"; plans and inverse dynamics both see states through it.
      inverse_hidden: widths of f's hidden layers.
      inverse_dropout: in [0, 1), after each of them, in training only.

    Raises:
      ValueError: unless T >= 2 and 1 <= N <= K.
    """
    if sequence_length < 2:
        raise ValueError(f"sequence_length must be at least 2, a state and the one after it; got {sequence_length}")
    row_model = row_diffusion(
        num_diffusion_steps=num_diffusion_steps,
        num_sampling_steps=num_sampling_steps,
        width=width,
        multipliers=multipliers,
        activations=activations,
        prediction=prediction,
        condition_dropout=condition_dropout,
        guidance_weight=guidance_weight,
        temperature=temperature,
    )
    optimizer = optax.adam(learning_rate)

    def inverse_network(action_size: int) -> Any:
        return InverseDynamics(tuple(inverse_hidden), action_size, inverse_dropout)

    def init(key: Key, rows: TrainingRows) -> State:
        observation_size, action_size = rows.observations.shape[1], rows.actions.shape[1]
        diffusion_key, inverse_key = jax.random.split(key)
        x_TD = jnp.zeros((sequence_length, observation_size))
        params = Params(
            diffusion=row_model.init(diffusion_key, x_TD, None, jnp.zeros(())),
            inverse_dynamics=inverse_network(action_size).init(inverse_key, x_TD[:2], training=False),
        )
        normalizer = FITTERS[observation_normalizer](rows.states)
        return State(params, jax.jit(optimizer.init)(params), InferenceState(start_ema(params), normalizer))

    def losses(params: Params, normalizer: Normalizer, segment: Segment, key: Key) -> tuple[Array, Array]:
        diffusion_key, dropout_key = jax.random.split(key)
        x_TD = normalizer.normalize(segment.observations)
        diffusion_loss = row_model.loss(
            params.diffusion, x_TD, segment.mask, x_TD.shape[1], None, segment.return_to_go, diffusion_key
        )
        # Never masked: a segment starts at an action, and the state it led to was recorded.
        action_A = segment.actions[0]
        network = inverse_network(action_A.shape[0])
        predicted_A = network.apply(params.inverse_dynamics, x_TD[:2], training=True, rngs={"dropout": dropout_key})
        return diffusion_loss, jnp.mean((action_A - predicted_A) ** 2)

    def update(state: State, segments: Segment, keys: Array, step: Array, average: Average) -> tuple[State, Metrics]:
        def loss(params: Params) -> tuple[Array, Metrics]:
            diffusion_B, inverse_B = jax.vmap(losses, in_axes=(None, None, 0, 0))(
                params, state.ema.observation_normalizer, segments, keys
            )
            metrics = {"world_model/loss": diffusion_B.mean(), "inverse_dynamics/loss": inverse_B.mean()}
            # They share no parameter, and Adam works entry by entry: a step down the sum is a step down each.
            return diffusion_B.mean() + inverse_B.mean(), metrics

        params, optimizer_state, metrics = apply_gradients(
            loss, optimizer, state.params, state.optimizer_state, average
        )
        ema_params = move_ema(state.ema.params, params, step, ema_rate, ema_every)
        return State(params, optimizer_state, state.ema._replace(params=ema_params)), metrics

    def act(model: InferenceState, observation_O: Array, return_to_go: Array, key: Key) -> Array:
        normalizer, params = model.observation_normalizer, model.params
        plan_TD = row_model.sample(
            params.diffusion,
            normalizer.normalize(observation_O),
            sequence_length,
            normalizer.low,
            normalizer.high,
            None,
            return_to_go,
            key,
        )
        action_size = params.inverse_dynamics["params"]["action"]["bias"].shape[0]
        action_A = inverse_network(action_size).apply(params.inverse_dynamics, plan_TD[:2], training=False)
        return jnp.clip(action_A, -1, 1)

    return Planner(
        sequence_length=sequence_length,
        init=init,
        update=update,
        inference=lambda state: state.ema,
        act=act,
    )
