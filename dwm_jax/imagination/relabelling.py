"""Return-to-go relabelling: a world model that is fine-tuned, while a policy learns, on returns its values raise."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwm_jax.data.dataset import segment_at
from dwm_jax.imagination.sources import Pairs
from dwm_jax.learners.base import Learner
from dwm_jax.maths.returns import relabelled_return
from dwm_jax.runtime import parallel
from dwm_jax.runtime.keys import tagged
from dwm_jax.types import Array, Key, Metrics, PyTree, Segment
from dwm_jax.world_models.base import TrainedModel


class State(NamedTuple):
    """One seed's learner, and its own copy of the world model's training state."""

    learner: PyTree
    world_model: PyTree


def relabelling(
    learner: Learner,
    trained: TrainedModel,
    update_policy: Callable[..., tuple[PyTree, Metrics]],
    *,
    batch_size: int,
    warm_up: int,
    gamma: float,
    return_scale: float,
) -> tuple[Learner, Callable[..., tuple[PyTree, Metrics]]]:
    """Wraps a learner and its update so that a world model is fine-tuned along with the policy.

    One update: the policy's own, on trajectories imagined afresh by the world model as it is; then, after the first
    `warm_up` updates, one training update of the world model on segments whose label is

        g~_t = max(g_t, r_t + gamma V(s_{t+1})),   V the learner's value as just updated.

    Source: return-to-go relabelling for DWM-IQL (DWM appendix; there after the first tenth of the updates).

    Args:
      learner: as it learns without.
      trained: the pretrained world model; every seed starts from it, optimiser included.
      update_policy: (learner, state, key, pairs, model, step) -> (state, metrics), of one seed.
      batch_size: segments per fine-tuning update.
      warm_up: updates before the first fine-tuning.
      gamma, return_scale: discount and divisor of the recorded labels.

    Returns:
      (a learner over `State`, its update with the same arguments; the source's data are the rows where training
      segments start).
    """
    model: Any = trained.model

    def update(
        wrapped: Learner, state: State, key: Key, pairs: Pairs, starts: Array, step: Array
    ) -> tuple[State, Metrics]:
        del wrapped
        imagines_with = model.inference(state.world_model)
        learner_state, metrics = update_policy(learner, state.learner, key, pairs, imagines_with, step)
        normalize = pairs.units.observation_normalizer.normalize

        def relabel(segment: Segment) -> Segment:
            # The learner's rewards are scaled, the labels are in units of `return_scale`.
            next_value = learner.value(learner_state, normalize(segment.observations[1])) / pairs.units.reward_scale
            discount = jnp.where(segment.terminated[0], 0.0, gamma)
            scaled = segment.rewards[0] / return_scale, discount, next_value / return_scale
            return segment._replace(return_to_go=relabelled_return(segment.return_to_go, *scaled))

        def fine_tune() -> PyTree:
            indices, keys_B = parallel.batch_for(tagged(key, "fine-tuning"), step, batch_size, starts.shape[0])
            segments = jax.vmap(lambda row: segment_at(pairs.dataset, row, model.sequence_length))(starts[indices])
            segments = jax.vmap(relabel)(segments)
            return model.update(state.world_model, segments, keys_B, step, parallel.average)[0]

        # `step` is one number for all seeds, so under `vmap` this stays a branch.
        world_model = jax.lax.cond(step >= warm_up, fine_tune, lambda: state.world_model)
        return State(learner_state, world_model), metrics

    def init(key: Key) -> State:
        return State(learner.init(key), trained.state)

    return learner._replace(
        init=init,
        explore=lambda state, observation_O, key: learner.explore(state.learner, observation_O, key),
        inference=lambda state: learner.inference(state.learner),
        value=lambda state, observation_O: learner.value(state.learner, observation_O),
    ), update
