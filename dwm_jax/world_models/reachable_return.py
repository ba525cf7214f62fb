"""What return a data pair can still reach, learnt beside any world model that is asked for one.

One return for every pair asks the impossible of most: of a state that is about to fall it asks that it does not. An
upper quantile of the recorded returns-to-go, given the pair, is the most that the data have seen from there.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dwm_jax.maths.losses import pinball_loss
from dwm_jax.maths.normalizers import AffineNormalizer, fit_standard
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


def with_reachable_return(model: WorldModel, level: float) -> WorldModel:
    """The same world model, and q(s, a): a quantile of the scaled returns-to-go of pairs like (s, a).

        loss = mean over the batch of  pinball_loss(g_t - q(s_t, a_t)),   level in (0, 1)

    on the segments that the world model trains on. Nothing of the world model changes by it. Source of the loss:
    Koenker & Bassett 1978.

    Args:
      model: any world model that is asked for a return.
      level: of the quantile; 0: the model as it is.
    """
    if level == 0:
        return model
    network: Any = Value(HIDDEN)
    optimizer = optax.adam(LEARNING_RATE)

    def init(key: Key, rows: TrainingRows) -> State:
        pairs = jnp.concatenate([rows.observations, rows.actions], axis=1)
        params = network.init(tagged(key, "reachable return"), pairs[0])
        return State(model.init(key, rows), params, fit_standard(jax.device_get(pairs)), optimizer.init(params))

    def quantile(params: PyTree, normalizer: AffineNormalizer, observation_O: Array, action_A: Array) -> Array:
        return network.apply(params, normalizer.normalize(jnp.concatenate([observation_O, action_A])))

    def update(state: State, segments: Segment, keys: Array, step: Array, average: Average) -> tuple[State, Metrics]:
        model_state, metrics = model.update(state.model, segments, keys, step, average)

        def loss(params: PyTree) -> tuple[Array, Metrics]:
            q_B = jax.vmap(quantile, in_axes=(None, None, 0, 0))(
                params, state.input_normalizer, segments.observations[:, 0], segments.actions[:, 0]
            )
            loss = pinball_loss(segments.return_to_go - q_B, level).mean()
            return loss, {"world_model/reachable_return": loss}

        params, optimizer_state, metrics_of_head = apply_gradients(
            loss, optimizer, state.params, state.optimizer_state, average
        )
        return State(model_state, params, state.input_normalizer, optimizer_state), metrics | metrics_of_head

    def of_model(imagine: Rollout) -> Rollout:
        return lambda state, *arguments: imagine(state.model, *arguments)

    return model._replace(
        init=init,
        update=update,
        inference=lambda state: InferenceState(model.inference(state.model), state.params, state.input_normalizer),
        rollout=lambda horizon, gamma: of_model(model.rollout(horizon, gamma)),
        alternatives=lambda horizon, gamma, count: of_model(model.alternatives(horizon, gamma, count)),
        reachable_return=lambda state, observation_O, action_A: quantile(
            state.params, state.input_normalizer, observation_O, action_A
        ),
    )
