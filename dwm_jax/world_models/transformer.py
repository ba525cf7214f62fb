"""The Transformer world model: one causal sequence model over T rows, rolled out row by row without future actions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dwm_jax.maths.returns import discounts_until_end
from dwm_jax.networks.optimization import apply_gradients
from dwm_jax.networks.transformer import CausalTransformer
from dwm_jax.types import Array, Average, ChooseAction, Key, Metrics, PyTree, Segment, Start, Trajectory
from dwm_jax.world_models.base import Rollout, TrainingRows, WorldModel, independent_draws
from dwm_jax.world_models.dynamics_units import DynamicsUnits, fit_dynamics_units
from dwm_jax.world_models.reachable_return import with_reachable_return


class InferenceState(NamedTuple):
    params: PyTree
    units: DynamicsUnits


class State(NamedTuple):
    model: InferenceState
    optimizer_state: PyTree


def transformer_world_model(
    *,
    sequence_length: int,
    num_layers: int,
    num_heads: int,
    width: int,
    learning_rate: float,
    terminations: bool = False,
    reachable_quantile: float = 0.0,
) -> WorldModel:
    """A GPT over the rows of a segment: (s_t .. s_{t+h}, a_t, g_t) -> (s_{t+h+1}, r_{t+h}), by least squares.

        loss = mean over rows h < T - 1 and entries of  mask_h (y_h - prediction_h)^2,
        y_h = standardised (s_{t+h+1} - s_{t+h}, r_{t+h})

    Trained by teacher forcing, all rows at once; rolled out autoregressively, each predicted state (within the range
    of the data) becoming the next row. Actions after a_t are hidden from it in both: like DWM it imagines what the
    recorded behaviour would do, given the return it asks for. Masked rows add zero to the mean; its denominator is
    always (T - 1) * (O + 1), so the mean over a batch does not depend on how the batch is divided.

    With `terminations` (not in the paper) the output at row h has one entry more, the logit of the probability that
    the task has ended by the end of step h, trained by binary cross-entropy over the same rows; an imagined step ends
    the task where that is more likely than not, and from the first end on discounts are 0.

    It is deterministic: all `alternatives` agree, and a pessimist finds no disagreement in it.

    Source: DWM appendix (Transformer baseline: 4 layers, 4 heads, causal, actions after the first masked to zero).
    The paper leaves the rest open. Chosen: a row is one token, the sum of dense embeddings of the standardised state,
    of a_t (in the first row), of g_t (the same in every row) and of its position; pre-layer-norm blocks; the output
    at row h predicts what follows it, in the units of the one-step model.

    Args:
      sequence_length: T; imagines at most T - 1 steps.
      num_layers, num_heads, width: of the blocks.
      learning_rate: Adam's.
      terminations: whether it says that the task ended.
      reachable_quantile: level of `with_reachable_return`; 0 leaves it out.

    Raises:
      ValueError: unless the width is a multiple of the heads.
    """
    if width % num_heads:
        raise ValueError(f"width {width} must be a multiple of num_heads {num_heads}")
    optimizer = optax.adam(learning_rate)

    def network(units: DynamicsUnits, decode: bool = False) -> Any:
        target_size = units.target_normalizer.low.shape[0] + int(terminations)
        return CausalTransformer(num_layers, num_heads, width, sequence_length - 1, target_size, decode)

    def init(key: Key, rows: TrainingRows) -> State:
        units = fit_dynamics_units(rows)
        rows_HO = jnp.zeros((sequence_length - 1, rows.observations.shape[1]))
        params = jax.jit(network(units).init)(key, rows_HO, jnp.zeros(rows.actions.shape[1]), jnp.zeros(()))
        return State(InferenceState(params, units), optimizer.init(params))

    def sample_loss(model: InferenceState, segment: Segment) -> Array:
        units = model.units
        # Where row h is known, so is the state in row h + 1: past a termination by padding, and in the final row of
        # a truncated episode, masked only for its reward. Any other masked row may hold anything, NaN included;
        # neither the network nor the gradient sees it.
        known_H1 = segment.mask[:-1, None] > 0
        rows_HO = jnp.where(known_H1, units.observation_normalizer.normalize(segment.observations[:-1]), 0)
        target_HD = units.target(segment.observations[:-1], segment.observations[1:], segment.rewards[:-1])
        action_A = units.action_normalizer.normalize(segment.actions[0])
        prediction_HD = network(units).apply(model.params, rows_HO, action_A, segment.return_to_go)
        prediction_HD, end_H1 = jnp.split(prediction_HD, [target_HD.shape[1]], axis=1)
        loss = jnp.mean(jnp.where(known_H1, target_HD - prediction_HD, 0) ** 2)
        if terminations:
            ended_H1 = segment.terminated[:-1, None].astype(jnp.float32)
            loss += jnp.mean(jnp.where(known_H1, optax.sigmoid_binary_cross_entropy(end_H1, ended_H1), 0))
        return loss

    def update(state: State, segments: Segment, keys: Array, step: Array, average: Average) -> tuple[State, Metrics]:
        del keys, step  # least squares draws nothing and is the same at every step

        def loss(params: PyTree) -> tuple[Array, Metrics]:
            losses_B = jax.vmap(sample_loss, in_axes=(None, 0))(state.model._replace(params=params), segments)
            return losses_B.mean(), {"world_model/loss": losses_B.mean()}

        params, optimizer_state, metrics = apply_gradients(
            loss, optimizer, state.model.params, state.optimizer_state, average
        )
        return State(state.model._replace(params=params), optimizer_state), metrics

    def rollout(horizon: int, gamma: float) -> Rollout:
        if horizon >= sequence_length:
            raise ValueError(f"horizon {horizon} must be below sequence_length {sequence_length}")

        def imagine(model: InferenceState, start: Start, choose_action: ChooseAction, key: Key) -> Trajectory:
            del choose_action  # what happens after a_t is the data's behaviour
            units, decoder = model.units, network(model.units, decode=True)
            condition = units.action_normalizer.normalize(start.action), jnp.asarray(start.return_to_go)

            def advance(
                carry: tuple[Array, PyTree], h: Array
            ) -> tuple[tuple[Array, PyTree], tuple[Array, Array, Array]]:
                observation_O, cache = carry
                row_1O = units.observation_normalizer.normalize(observation_O)[None]
                prediction_1D, changed = decoder.apply(
                    {**model.params, "cache": cache}, row_1O, *condition, h, mutable=["cache"]
                )
                target_D, end = jnp.split(prediction_1D[0], [observation_O.shape[0] + 1])
                next_O, reward = units.step(observation_O, target_D)
                return (next_O, changed["cache"]), (next_O, reward, jnp.any(end > 0))

            rows_HO = jnp.zeros((horizon, *start.observation.shape))
            # Shapes only: an empty memory of `horizon` rows.
            memory = jax.eval_shape(decoder.init, key, rows_HO, *condition)["cache"]
            first = (start.observation, jax.tree.map(jnp.zeros_like, memory))
            _, (next_observations_HO, rewards_H, ended_H) = jax.lax.scan(advance, first, jnp.arange(horizon))
            return Trajectory(next_observations_HO, rewards_H, discounts_until_end(ended_H, gamma))

        return imagine

    world_model = WorldModel(
        sequence_length=sequence_length,
        init=init,
        update=update,
        inference=lambda state: state.model,
        rollout=rollout,
        alternatives=independent_draws(rollout),
        needs_policy=False,
    )
    return with_reachable_return(world_model, reachable_quantile)
