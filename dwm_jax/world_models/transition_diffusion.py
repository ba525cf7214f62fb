"""Synthetic experience: an unconditional diffusion over transitions, for learners to train on beside the data."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dwm_jax.maths.normalizers import FITTERS, Normalizer
from dwm_jax.networks.optimization import apply_gradients, move_ema, start_ema
from dwm_jax.types import Array, Average, Key, Metrics, PyTree, Segment, Transition
from dwm_jax.world_models.base import Generator, TrainingRows
from dwm_jax.world_models.row_diffusion import row_diffusion


class InferenceState(NamedTuple):
    """What generating needs: the EMA parameters are the model."""

    params: PyTree
    normalizer: Normalizer  # of rows (s, a, r, s' - s, terminated)
    observation_low: Array  # (O,) range of the data
    observation_high: Array  # (O,)


class State(NamedTuple):
    params: PyTree
    optimizer_state: PyTree
    ema: InferenceState


def transition_diffusion(
    *,
    num_diffusion_steps: int,
    num_sampling_steps: int,
    width: int,
    multipliers: Sequence[int],
    activations: str,
    prediction: str,
    learning_rate: float,
    ema_rate: float,
    ema_every: int,
    temperature: float,
    normalizer: str,
) -> Generator:
    """p(s, a, r, s', terminated): one row x in R^{2 O + A + 2} per transition, generated without a condition.

    A row holds the change s' - s in the place of s', each entry normalised by itself. SynthER models s' directly;
    where a step moves the state by a small part of its spread, an error that is small against s' is large against
    s' - s, which is what a critic learns from.

    The network is the temporal U-Net at T = 1: convolutions see a single tap and no level halves, which makes it a
    residual MLP of the widths width * multipliers. `terminated` is an entry like the others, 0 or 1, true above one
    half. Everything generated lies within the range of the data, and in data without a termination that range is 0.

    Source: Lu et al. 2023 (SynthER), section 3; DWM's appendix uses it as the baseline of data augmentation.

    Args:
      num_diffusion_steps: K; a whole distribution needs more than the conditional model's 5.
      num_sampling_steps: N <= K. Few steps narrow what is generated: a Gaussian entry keeps 0.81 of its standard
        deviation at N = 10, 0.93 at 32, 0.97 at 64.
      width, multipliers: of the network.
      activations: their type in it, "float32" or "bfloat16".
      prediction: what the U-Net puts out, "noise" or "velocity".
      learning_rate: Adam's.
      ema_rate, ema_every: ema <- rate * ema + (1 - rate) * params, once every `ema_every` updates.
      temperature: factor on the sampler's noise; below 1 it narrows what is generated further.
      normalizer: "cdf", "min_max" or "standard", for every entry.

    Raises:
      ValueError: unless 1 <= N <= K and width >= 32.
    """
    if width < 32:
        # The group norm sees width / 8 numbers at T = 1; of one it keeps nothing, of two their order.
        raise ValueError(f"width must be at least 32 for a single row, got {width}")
    row_model = row_diffusion(
        num_diffusion_steps=num_diffusion_steps,
        num_sampling_steps=num_sampling_steps,
        width=width,
        multipliers=multipliers,
        activations=activations,
        prediction=prediction,
        condition_dropout=0.0,
        guidance_weight=1.0,
        temperature=temperature,
    )
    optimizer = optax.adam(learning_rate)

    def init(key: Key, rows: TrainingRows) -> State:
        # The rows do not say which of them terminated, and only the range matters: 0 and 1 by turns.
        terminated = np.arange(len(rows.rewards)) % 2 * rows.absorbing
        changes = rows.next_observations - rows.observations
        x = np.column_stack([rows.observations, rows.actions, rows.rewards, changes, terminated])
        params = row_model.init(key, jnp.zeros((1, x.shape[1])), None, None)
        visited = np.stack([rows.observations, rows.next_observations])
        ema = InferenceState(
            params=start_ema(params),
            normalizer=FITTERS[normalizer](x),
            observation_low=jnp.asarray(visited.min(axis=(0, 1))),
            observation_high=jnp.asarray(visited.max(axis=(0, 1))),
        )
        return State(params, jax.jit(optimizer.init)(params), ema)

    def row_of(ema: InferenceState, segment: Segment) -> Array:
        # The next state is never masked: a segment starts at an action, and the state it led to was recorded.
        observation_O, next_observation_O = segment.observations[0], segment.observations[1]
        ends = segment.terminated[:1].astype(jnp.float32)
        x_D = [observation_O, segment.actions[0], segment.rewards[:1], next_observation_O - observation_O, ends]
        return ema.normalizer.normalize(jnp.concatenate(x_D))

    def update(state: State, segments: Segment, keys: Array, step: Array, average: Average) -> tuple[State, Metrics]:
        def sample_loss(params: PyTree, segment: Segment, key: Key) -> Array:
            x_D = row_of(state.ema, segment)
            return row_model.loss(params, x_D[None], jnp.ones(1), 0, None, None, key)

        def loss(params: PyTree) -> tuple[Array, Metrics]:
            losses_B = jax.vmap(sample_loss, in_axes=(None, 0, 0))(params, segments, keys)
            return losses_B.mean(), {"world_model/loss": losses_B.mean()}

        params, optimizer_state, metrics = apply_gradients(
            loss, optimizer, state.params, state.optimizer_state, average
        )
        ema_params = move_ema(state.ema.params, params, step, ema_rate, ema_every)
        return State(params, optimizer_state, state.ema._replace(params=ema_params)), metrics

    def generate(model: InferenceState, key: Key) -> Transition:
        low_D, high_D = model.normalizer.low, model.normalizer.high
        x_1D = row_model.sample(model.params, jnp.zeros(0), 1, low_D, high_D, None, None, key)
        observation_size = model.observation_low.shape[0]
        action_size = low_D.shape[0] - 2 * observation_size - 2
        ends = np.cumsum([observation_size, action_size, 1, observation_size])
        x_D = model.normalizer.denormalize(x_1D)[0]
        observation_O, action_A, reward_1, change_O, terminated_1 = jnp.split(x_D, ends)

        def recorded_range(states_O: Array) -> Array:
            return jnp.clip(states_O, model.observation_low, model.observation_high)

        observation_O = recorded_range(observation_O)
        return Transition(
            observation=observation_O,
            action=jnp.clip(action_A, -1, 1),
            reward=reward_1[0],
            next_observation=recorded_range(observation_O + change_O),
            terminated=terminated_1[0] > 0.5,
        )

    return Generator(
        sequence_length=2,
        init=init,
        update=update,
        inference=lambda state: state.ema,
        generate=generate,
    )
