"""What return a data pair can still reach, learnt beside any world model that is conditioned on a return.

Asking every pair for the same return asks some for returns that they cannot reach: a state that is about to fall, for
one, is asked not to fall. An upper quantile of the recorded returns-to-go, given (s, a), bounds what is asked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dwm_jax.maths.losses import pinball_loss
from dwm_jax.maths.normalizers import AffineNormalizer, fit_standard
from dwm_jax.networks.initialization import compute_once
from dwm_jax.networks.mlp import Value
from dwm_jax.networks.optimization import apply_gradients
from dwm_jax.runtime.keys import tagged
from dwm_jax.types import Array, Average, Key, Metrics, PyTree, Segment
from dwm_jax.world_models.base import Rollout, TrainingRows, WorldModel

HIDDEN, LEARNING_RATE = (256, 256), 3e-4


class InferenceState(NamedTuple):
    model: PyTree  # of the world model itself
    params: PyTree
    input_normalizer: AffineNormalizer  # of (s, a)


class State(NamedTuple):
    model: PyTree
    params: PyTree
    input_normalizer: AffineNormalizer
    optimizer_state: PyTree


@dataclass(frozen=True, kw_only=True)
class WithReachableReturn(WorldModel):
    """A world model, and q(s, a): a quantile of the scaled returns-to-go of pairs like (s, a).

        loss = mean over the batch of  pinball_loss(g_t - q(s_t, a_t)),   level in (0, 1)

    on the segments that the world model trains on. The world model's own training is unaffected. Source of the loss:
    Koenker & Bassett 1978.
    """

    is_return_conditioned = True

    model: WorldModel  # any that is conditioned on a return
    level: float  # of the quantile

    @property
    def network(self) -> Any:
        return Value(HIDDEN)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.adam(LEARNING_RATE)

    @property
    def sequence_length(self) -> int:
        return self.model.sequence_length

    @property
    def needs_policy(self) -> bool:  # type: ignore[override]
        return self.model.needs_policy

    @property
    def longest_horizon(self) -> int | None:
        return self.model.longest_horizon

    def init(self, key: Key, rows: TrainingRows) -> State:
        pairs = np.concatenate([rows.observations, rows.actions], axis=1)
        params = compute_once(self.network.init, tagged(key, "reachable return"), pairs[0])
        normalizer = fit_standard(pairs)
        return State(self.model.init(key, rows), params, normalizer, jax.jit(self.optimizer.init)(params))

    def taught_by(self, teacher_state: State) -> State:
        """The state before the first update of a model that is distilled; the quantile keeps its own parameters."""
        model: Any = self.model
        return teacher_state._replace(model=model.taught_by(teacher_state.model))

    def quantile(self, params: PyTree, normalizer: AffineNormalizer, observation_O: Array, action_A: Array) -> Array:
        """q(s, a): ()."""
        return self.network.apply(params, normalizer.normalize(jnp.concatenate([observation_O, action_A])))

    def update(
        self, state: State, segments: Segment, keys: Array, step: Array, average: Average
    ) -> tuple[State, Metrics]:
        model_state, metrics = self.model.update(state.model, segments, keys, step, average)

        def loss(params: PyTree) -> tuple[Array, Metrics]:
            q_B = jax.vmap(self.quantile, in_axes=(None, None, 0, 0))(
                params, state.input_normalizer, segments.observations[:, 0], segments.actions[:, 0]
            )
            loss = pinball_loss(segments.return_to_go - q_B, self.level).mean()
            return loss, {"world_model/reachable_return": loss}

        params, optimizer_state, metrics_of_head = apply_gradients(
            loss, self.optimizer, state.params, state.optimizer_state, average
        )
        return State(model_state, params, state.input_normalizer, optimizer_state), metrics | metrics_of_head

    def inference(self, state: State) -> InferenceState:
        return InferenceState(self.model.inference(state.model), state.params, state.input_normalizer)

    def rollout(self, horizon: int, gamma: float) -> Rollout:
        return _of_model(self.model.rollout(horizon, gamma))

    def alternatives(self, horizon: int, gamma: float, count: int) -> Rollout:
        return _of_model(self.model.alternatives(horizon, gamma, count))

    @property
    def reachable_return(self) -> Callable[[PyTree, Array, Array], Array] | None:
        return lambda inference, observation_O, action_A: self.quantile(
            inference.params, inference.input_normalizer, observation_O, action_A
        )


def _of_model(imagine: Rollout) -> Rollout:
    return lambda inference, start, choose_action, key: imagine(inference.model, start, choose_action, key)


def with_reachable_return(model: WorldModel, level: float) -> WorldModel:
    """The same world model, with `level`'s quantile of what its pairs reached; 0: the model as it is."""
    return WithReachableReturn(model=model, level=level) if level > 0 else model
