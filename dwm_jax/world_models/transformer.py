"""The Transformer world model: one causal sequence model over T rows, rolled out row by row without future actions."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dwm_jax.maths.returns import discounts_until_end
from dwm_jax.networks.initialization import compute_once
from dwm_jax.networks.transformer import CausalTransformer
from dwm_jax.runtime.settings import require
from dwm_jax.types import Array, Average, ChooseAction, Key, Metrics, PyTree, Segment, Start, Trajectory
from dwm_jax.world_models.base import ReturnConditioned, Rollout, Training, TrainingRows
from dwm_jax.world_models.dynamics_units import DynamicsUnits, fit_dynamics_units
from dwm_jax.world_models.trained_by_adam import State, TrainedByAdam


class InferenceState(NamedTuple):
    params: PyTree
    units: DynamicsUnits


@dataclass(frozen=True, kw_only=True)
class TransformerWorldModel(TrainedByAdam, ReturnConditioned):
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

    It is deterministic: all `alternatives` agree, so that a pessimistic learner's penalty is 0.

    Source: DWM appendix (Transformer baseline: 4 layers, 4 heads, causal, actions after the first masked to zero).
    The paper leaves the rest open. Chosen: a row is one token, the sum of dense embeddings of the standardised state,
    of a_t (in the first row), of g_t (the same in every row) and of its position; pre-layer-norm blocks; the output
    at row h predicts what follows it, in the units of the one-step model.
    """

    title = "T"
    training = Training(num_updates=1_000_000, batch_size=64)

    sequence_length: int = 8  # T; imagines at most T - 1 steps
    num_layers: int = 4
    num_heads: int = 4
    width: int = 128  # a multiple of the heads
    terminations: bool = False  # whether it says that the task ended

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "sequence_length", self.sequence_length >= 2, "at least 2 rows")
        require(self, "num_layers", self.num_layers >= 1, "at least 1")
        require(self, "num_heads", self.num_heads >= 1, "at least 1")
        require(self, "width", self.width % self.num_heads == 0, f"a multiple of num_heads = {self.num_heads}")

    @property
    def longest_horizon(self) -> int | None:
        return self.sequence_length - 1

    def network(self, units: DynamicsUnits, decode: bool = False) -> Any:
        target_size = units.target_normalizer.low.shape[0] + int(self.terminations)
        length = self.sequence_length - 1
        return CausalTransformer(self.num_layers, self.num_heads, self.width, length, target_size, decode)

    def init(self, key: Key, rows: TrainingRows) -> State:
        units = fit_dynamics_units(rows)
        rows_HO = jnp.zeros((self.sequence_length - 1, rows.observations.shape[1]))
        first_action, return_to_go = jnp.zeros(rows.actions.shape[1]), jnp.zeros(())
        params = compute_once(self.network(units).init, key, rows_HO, first_action, return_to_go)
        return self.start(InferenceState(params, units))

    def segment_loss(self, model: InferenceState, segment: Segment) -> Array:
        units = model.units
        # Where row h is known, so is the state in row h + 1: past a termination by padding, and in the final row of
        # a truncated episode, masked only for its reward. Any other masked row may hold anything, NaN included;
        # neither the network nor the gradient sees it.
        known_H1 = segment.mask[:-1, None] > 0
        rows_HO = jnp.where(known_H1, units.observation_normalizer.normalize(segment.observations[:-1]), 0)
        target_HD = units.target(segment.observations[:-1], segment.observations[1:], segment.rewards[:-1])
        action_A = units.action_normalizer.normalize(segment.actions[0])
        prediction_HD = self.network(units).apply(model.params, rows_HO, action_A, segment.return_to_go)
        prediction_HD, end_H1 = jnp.split(prediction_HD, [target_HD.shape[1]], axis=1)
        loss = jnp.mean(jnp.where(known_H1, target_HD - prediction_HD, 0) ** 2)
        if self.terminations:
            ended_H1 = segment.terminated[:-1, None].astype(jnp.float32)
            loss += jnp.mean(jnp.where(known_H1, optax.sigmoid_binary_cross_entropy(end_H1, ended_H1), 0))
        return loss

    def update(
        self, state: State, segments: Segment, keys: Array, step: Array, average: Average
    ) -> tuple[State, Metrics]:
        del keys, step  # least squares draws nothing and is the same at every step

        def loss(model: InferenceState) -> tuple[Array, Metrics]:
            losses_B = jax.vmap(self.segment_loss, in_axes=(None, 0))(model, segments)
            return losses_B.mean(), {"world_model/loss": losses_B.mean()}

        return self.descend(loss, state, average)

    def rollout(self, horizon: int, gamma: float) -> Rollout:
        self.refuse_horizon(horizon)

        def imagine(model: InferenceState, start: Start, choose_action: ChooseAction, key: Key) -> Trajectory:
            del choose_action  # what happens after a_t is the data's behaviour
            units, decoder = model.units, self.network(model.units, decode=True)
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
