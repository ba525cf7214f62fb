"""The updates of one method's policies, all seeds side by side: data pairs, what follows them, the learner's update.

A trajectory that depends on nothing an update changes is drawn ahead, in bulk with those of the updates after it;
any other is drawn inside its update. Either way a batch is a function of the seed's key and the number of its update.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from dwm_jax.imagination.pool import CHUNK
from dwm_jax.imagination.sources import Data, Source, refuse_to_act
from dwm_jax.learners.base import Learner
from dwm_jax.learners.policies import Policies, make_choose_action
from dwm_jax.runtime import parallel
from dwm_jax.runtime.keys import tagged
from dwm_jax.types import Array, Batch, ChooseAction, Expand, Key, Metrics, PyTree


@dataclass(frozen=True)
class PolicyUpdates:
    """How one method's policies learn; called as `parallel.Updates`."""

    learner: Learner
    source: Source
    expand: Expand
    batch_size: int  # over all devices
    keys_S: Array  # the randomness of each seed

    def __call__(self, policies: Policies, data: Data, steps_U: Array) -> tuple[Policies, Metrics]:
        """Updates of all seeds, one after the other: metrics of shape (U, S)."""
        axes = (0, 0, 0, None, 1 if self.source.is_by_seed else None, None)
        of_one = self.learn_inside if self.source.is_drawn_inside else self.learn_ahead
        of_all = parallel.vmap_seeds(of_one, axes, (0, 0, 1), len(self.keys_S))
        states_S, memory_S, metrics = of_all(policies.states_S, policies.memory_S, self.keys_S, *data, steps_U)
        return policies._replace(states_S=states_S, memory_S=memory_S), metrics

    def learn_inside(
        self, state: PyTree, memory: PyTree, key: Key, pairs: PyTree, drawn_from: PyTree, steps_U: Array
    ) -> tuple[PyTree, PyTree, Metrics]:
        """Updates of one seed that draw their own batches: the policy acts in its trajectories as it is."""
        data = Data(pairs, drawn_from)

        def update(carry: tuple[PyTree, PyTree], step: Array) -> tuple[tuple[PyTree, PyTree], Metrics]:
            state, memory = carry
            choose_action = make_choose_action(self.learner, state, data.pairs.units)
            batch, keys_B = self.draw_batch(memory, data, choose_action, key, step)
            state, metrics = self.learner.update(state, batch, self.expand, keys_B, step, parallel.average)
            if self.source.update is not None:
                memory = self.source.update(state, memory, data, key, step)
            return (state, memory), metrics

        (state, memory), metrics = jax.lax.scan(update, (state, memory), steps_U)
        return state, memory, metrics

    def learn_ahead(
        self, state: PyTree, memory: PyTree, key: Key, pairs: PyTree, drawn_from: PyTree, steps_U: Array
    ) -> tuple[PyTree, PyTree, Metrics]:
        """Updates of one seed whose batches are all drawn before the first of them, about `CHUNK` pairs at a time.

        Raises:
          ValueError: as it is traced, where a draw asks the policy.
        """
        # In equal parts: a remainder would be compiled again.
        limit = max(1, CHUNK * parallel.num_devices() // (self.batch_size * len(self.keys_S)))
        at_once = max(count for count in range(1, limit + 1) if len(steps_U) % count == 0)
        batches_U = jax.lax.map(
            lambda step: self.draw_batch(memory, Data(pairs, drawn_from), refuse_to_act, key, step),
            steps_U,
            batch_size=at_once,
        )
        state, metrics = self.learn_from(state, batches_U, steps_U)
        return state, memory, metrics

    def learn_from(self, state: PyTree, batches_U: tuple[Batch, Array], steps_U: Array) -> tuple[PyTree, Metrics]:
        """The learner's updates on batches already drawn, one after the other.

        Steps count from a multiple of U. Where U is whole periods of the learner, what an update steps is known as
        the program is traced, and what it does not is not there: a branch costs TD3+BC a tenth of its speed on a CPU.

        Args:
          batches_U: of `draw_batch`, with a leading axis U.
        """
        is_whole = len(steps_U) % self.learner.period == 0
        length = self.learner.period if is_whole else 1

        def one_period(state: PyTree, drawn: tuple[tuple[Batch, Array], Array]) -> tuple[PyTree, Metrics]:
            metrics = []
            for index in range(length):
                (batch, keys_B), step = jax.tree.map(lambda leaf, index=index: leaf[index], drawn)
                state, of_update = self.learner.update(
                    state, batch, self.expand, keys_B, index if is_whole else step, parallel.average
                )
                metrics.append(of_update)
            return state, jax.tree.map(lambda *values: jnp.stack(values), *metrics)

        by_period = jax.tree.map(lambda leaf: leaf.reshape(-1, length, *leaf.shape[1:]), (batches_U, steps_U))
        state, metrics = jax.lax.scan(one_period, state, by_period)
        return state, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), metrics)

    def draw_batch(
        self, memory: PyTree, data: Data, choose_action: ChooseAction, key: Key, step: Array
    ) -> tuple[Batch, Array]:
        """This device's share of one update's batch, and a key per pair for the update itself.

        Args:
          key, step: the seed's randomness and the number of the update; they alone decide pairs and keys.
        """
        pairs = data.pairs
        pair_B, keys_B = parallel.batch_for(key, step, self.batch_size, pairs.rows.shape[0])
        draw_keys_B, update_keys_B = jnp.unstack(jax.vmap(jax.random.split)(keys_B), axis=1)

        def entry(pair: Array, draw_key: Key) -> Batch:
            drawn = self.source.draw(memory, data, pair, choose_action, draw_key)
            return self.source.complete(pairs, pair, drawn, tagged(draw_key, "entry of a batch"))

        return jax.vmap(entry)(pair_B, draw_keys_B), update_keys_B
