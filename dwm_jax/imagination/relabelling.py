"""Return-to-go relabelling: a source that learns. Its world model is fine-tuned on returns that the policy raises."""

from typing import Any

import jax
import jax.numpy as jnp

from dwm_jax.data.dataset import segment_at
from dwm_jax.imagination.sources import Data, Source
from dwm_jax.learners.base import Learner
from dwm_jax.learners.policies import Policies
from dwm_jax.maths.returns import relabelled_return
from dwm_jax.runtime import parallel
from dwm_jax.runtime.keys import tagged
from dwm_jax.types import Array, ChooseAction, Key, PyTree, Segment, Trajectory
from dwm_jax.world_models.base import TrainedModel


def make_relabelling_source(
    source: Source,
    learner: Learner,
    trained: TrainedModel,
    starts: Array,
    *,
    batch_size: int,
    warm_up: int,
    gamma: float,
    return_scale: float,
) -> Source:
    """A source whose world model is fine-tuned along with the policy; the memory of a seed is its training state.

    After every update of the policy except the first `warm_up`, one training update of the world model on segments
    whose label is

        g~_t = max(g_t, r_t + gamma V(s_{t+1})),   V the learner's value as just updated.

    Source: return-to-go relabelling for DWM-IQL (DWM appendix; there after the first tenth of the updates).

    Args:
      source: fresh imagination with this world model.
      learner: whose value relabels.
      trained: the pretrained world model; every seed starts from it, optimiser included.
      starts: rows of the data set where training segments start.
      batch_size: segments per fine-tuning update.
      warm_up: updates of the policy that are not followed by fine-tuning.
      gamma, return_scale: discount and divisor of the recorded labels.
    """
    model: Any = trained.model

    def draw(memory: PyTree, data: Data, pair: Array, choose_action: ChooseAction, key: Key) -> Trajectory:
        return source.draw((), data._replace(drawn_from=model.inference(memory)), pair, choose_action, key)

    def make(policies: Policies, step: int) -> tuple[Policies, Data]:
        policies, data = source.make(policies, step)
        return policies, data._replace(drawn_from=starts)

    def init(states_S: PyTree) -> PyTree:
        num_seeds = len(jax.tree.leaves(states_S)[0])
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_seeds, *jnp.shape(leaf))), trained.state)

    def update(state: PyTree, memory: PyTree, data: Data, key: Key, step: Array) -> PyTree:
        pairs = data.pairs

        def relabel(segment: Segment) -> Segment:
            # The learner's rewards are scaled, the labels are in units of `return_scale`.
            next_O = pairs.units.observation_normalizer.normalize(segment.observations[1])
            next_value = learner.value(state, next_O) / pairs.units.reward_scale
            discount = jnp.where(segment.terminated[0], 0.0, gamma)
            scaled = segment.rewards[0] / return_scale, discount, next_value / return_scale
            return segment._replace(return_to_go=relabelled_return(segment.return_to_go, *scaled))

        def fine_tune() -> PyTree:
            rows = data.drawn_from
            indices, keys_B = parallel.batch_for(tagged(key, "fine-tuning"), step, batch_size, rows.shape[0])
            segments = jax.vmap(lambda row: segment_at(pairs.dataset, row, model.sequence_length))(rows[indices])
            segments = jax.vmap(relabel)(segments)
            return model.update(memory, segments, keys_B, step, parallel.average)[0]

        # `step` is one number for all seeds, so under `vmap` this stays a branch.
        return jax.lax.cond(step >= warm_up, fine_tune, lambda: memory)

    return Source(draw, make, source.complete, init=init, update=update, asks_policy=source.asks_policy)
