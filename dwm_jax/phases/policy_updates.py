"""The updates of one method's policies, all seeds side by side: data pairs, what follows them, the learner's update.

A trajectory that depends on nothing an update changes is drawn ahead, in bulk with those of the updates after it;
any other is drawn inside its update. Either way a batch is a function of the seed's key and the number of its update.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dwm_jax.imagination.sources import Pairs
from dwm_jax.imagination.supply import CHUNK, exploring, nobody
from dwm_jax.learners.base import Learner
from dwm_jax.runtime import parallel
from dwm_jax.types import Array, Batch, ChooseAction, Expand, Key, Metrics, PyTree, Trajectory

# (state, key, pairs, source data, steps (U,)) of one seed -> (state, metrics with a leading axis U)
SeedUpdates = Callable[[PyTree, Key, Pairs, PyTree, Array], tuple[PyTree, Metrics]]
# (learner, state, key, pairs, source data, step) of one seed -> (state, metrics)
UpdatePolicy = Callable[[Learner, PyTree, Key, Pairs, PyTree, Array], tuple[PyTree, Metrics]]


def updates_of_seeds(of_one: SeedUpdates, keys_S: Array, follows_policies: bool = False) -> parallel.Updates:
    """The updates of all seeds: states with a leading axis S, metrics of shape (U, S).

    Args:
      of_one: `drawing_ahead` or `drawing_inside`.
      keys_S: the randomness of each.
      follows_policies: as in `Supply`.
    """
    source_axis = 1 if follows_policies else None
    of_all = parallel.side_by_side(of_one, (0, 0, None, source_axis, None), (0, 1), len(keys_S))
    return lambda states_S, data, steps_U: of_all(states_S, keys_S, *data, steps_U)


def drawing_ahead(
    learner: Learner, draw: Callable[..., Trajectory], expand: Expand, batch_size: int, num_seeds: int
) -> SeedUpdates:
    """Updates whose batches are all drawn before the first of them, about `CHUNK` pairs at a time.

    Args:
      draw: `Supply.draw`.
      num_seeds: that are drawn for at the same time.

    Raises:
      ValueError: as it is traced, where `draw` asks the policy.
    """

    def updates(state: PyTree, key: Key, pairs: Pairs, source_data: PyTree, steps_U: Array) -> tuple[PyTree, Metrics]:
        # In equal parts: a remainder would be compiled again.
        limit = max(1, CHUNK * parallel.num_devices() // (batch_size * num_seeds))
        at_once = max(count for count in range(1, limit + 1) if len(steps_U) % count == 0)
        batches_U = jax.lax.map(
            lambda step: draw_batch(draw, batch_size, nobody, key, pairs, source_data, step),
            steps_U,
            batch_size=at_once,
        )
        return learn_from(learner, expand, state, batches_U, steps_U)

    return updates


def learn_from(
    learner: Learner, expand: Expand, state: PyTree, batches_U: tuple[Batch, Array], steps_U: Array
) -> tuple[PyTree, Metrics]:
    """The learner's updates on batches that are there, one after the other.

    Steps count from a multiple of U. Where U is whole periods of the learner, what an update steps is known as the
    program is traced, and what it does not is not there: a branch costs TD3+BC a tenth of its speed on a CPU.

    Args:
      batches_U: of `draw_batch`, with a leading axis U.
    """
    is_whole = len(steps_U) % learner.period == 0
    length = learner.period if is_whole else 1

    def one_period(state: PyTree, drawn: tuple[tuple[Batch, Array], Array]) -> tuple[PyTree, Metrics]:
        metrics = []
        for index in range(length):
            (batch, keys_B), step = jax.tree.map(lambda leaf, index=index: leaf[index], drawn)
            state, of_update = learner.update(
                state, batch, expand, keys_B, index if is_whole else step, parallel.average
            )
            metrics.append(of_update)
        return state, jax.tree.map(lambda *values: jnp.stack(values), *metrics)

    by_period = jax.tree.map(lambda leaf: leaf.reshape(-1, length, *leaf.shape[1:]), (batches_U, steps_U))
    state, metrics = jax.lax.scan(one_period, state, by_period)
    return state, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), metrics)


def drawing_inside(learner: Learner, update_one: UpdatePolicy) -> SeedUpdates:
    """Updates that draw their own batches, one after the other.

    Args:
      update_one: `update_policy` with its first arguments, as it is or with what `relabelling` adds.
    """

    def updates(state: PyTree, key: Key, pairs: Pairs, source_data: PyTree, steps_U: Array) -> tuple[PyTree, Metrics]:
        def update(state: PyTree, data: tuple[Pairs, PyTree], step: Array) -> tuple[PyTree, Metrics]:
            return update_one(learner, state, key, *data, step)

        return parallel.one_after_another(update)(state, (pairs, source_data), steps_U)

    return updates


def update_policy(
    draw: Callable[..., Trajectory],
    expand: Expand,
    batch_size: int,
    learner: Learner,
    state: PyTree,
    key: Key,
    pairs: Pairs,
    source_data: PyTree,
    step: Array,
) -> tuple[PyTree, Metrics]:
    """One update of one seed, its batch drawn inside: the policy acts in its trajectories as it is."""
    choose_action = exploring(learner, state, pairs.units)
    batch, keys_B = draw_batch(draw, batch_size, choose_action, key, pairs, source_data, step)
    return learner.update(state, batch, expand, keys_B, step, parallel.average)


def draw_batch(
    draw: Callable[..., Trajectory],
    batch_size: int,
    choose_action: ChooseAction,
    key: Key,
    pairs: Pairs,
    source_data: PyTree,
    step: Array,
) -> tuple[Batch, Array]:
    """This device's share of one update's batch, and a key per pair for the update itself.

    Args:
      draw: `Supply.draw`.
      batch_size: over all devices.
      key, step: the seed's randomness and the number of the update; they alone decide pairs and keys.
    """
    pair_B, keys_B = parallel.batch_for(key, step, batch_size, pairs.rows.shape[0])
    draw_keys_B, update_keys_B = jnp.unstack(jax.vmap(jax.random.split)(keys_B), axis=1)
    batch = Batch(
        observation=pairs.units.observation_normalizer.normalize(jax.vmap(pairs.observation)(pair_B)),
        action=jax.vmap(pairs.action)(pair_B),
        trajectory=jax.vmap(lambda pair, key: draw(source_data, pairs, pair, choose_action, key))(pair_B, draw_keys_B),
    )
    return batch, update_keys_B
