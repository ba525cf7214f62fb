"""Pools: trajectories drawn in bulk and kept, for the whole run or until they are drawn anew.

A pool that follows the policies is always drawn anew from time to time, because they change.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.imagination.sources import Data, Source, refuse_to_act
from dwm_jax.learners.base import Learner
from dwm_jax.learners.policies import Policies, make_choose_action
from dwm_jax.maths.value_expansion import collapse
from dwm_jax.runtime import interruption, parallel
from dwm_jax.runtime.progress import show_progress
from dwm_jax.runtime.stopwatch import spending
from dwm_jax.types import Array, ChooseAction, Key, PyTree, Trajectory

# Items per device and dispatch when trajectories or transitions are drawn in bulk.
CHUNK = 1024


class Pool(NamedTuple):
    """What is kept, and for how long."""

    label: str  # of the progress shown while the pool is drawn
    per_pair: int  # M trajectories of every pair
    lambda_: float  # of the target, which says what of a trajectory is kept
    # Of the world model's seed: all seeds and learners draw from the same keys.
    choice_key: Key
    draw_key: Key
    refresh_every: int = 0  # updates after which it is drawn anew; 0: never
    num_pairs: int = 0  # pairs between two refreshes, chosen anew at each; 0: all


def make_pooled_source(
    source: Source, pool: Pool, learner: Learner, seeds: Sequence[int], engine: parallel.Engine
) -> Source:
    """The source's trajectories, drawn in bulk; what is drawn for a pair depends on the pair and the refresh.

    Pool number n = step // refresh_every. With `num_pairs` each pool has that many of the pairs, chosen anew, and
    until the next one the updates see these only. One that asks the policy follows every seed's own, as it is when the
    pool is drawn; the memory keeps a copy, so that a resumed run draws the same pool again.

    Args:
      source: as `sources.make_fresh_source`, without memory.
      learner, seeds: whose policies are followed.
      engine: that draws.
    """
    draw_pair = draw_several(source, pool.per_pair, keep_for_target(pool.lambda_))

    def draw_for_all(on_device: tuple[Data, Array, Array, PyTree], pair: Array) -> PyTree:
        data, copies, number, followed_S = on_device
        # A row that is there twice is imagined twice.
        key = jax.random.fold_in(jax.random.fold_in(pool.draw_key, number), data.pairs.rows[pair])
        key = jax.random.fold_in(key, copies[pair])
        if not source.asks_policy:
            return draw_pair(data, pair, refuse_to_act, key)

        def one_seed(seed: Array, state: PyTree) -> PyTree:
            choose_action = make_choose_action(learner, state, data.pairs.units)
            return draw_pair(data, pair, choose_action, jax.random.fold_in(key, seed))

        return jax.vmap(one_seed)(jnp.asarray(seeds), followed_S)

    draw_chunks = parallel.map_chunks(draw_for_all, CHUNK, engine)

    def make(policies: Policies, step: int) -> tuple[Policies, Data]:
        number = step // pool.refresh_every if pool.refresh_every else 0
        if source.asks_policy and step % pool.refresh_every == 0:
            policies = policies._replace(memory_S=jax.tree.map(np.array, policies.states_S))
        _, data = source.make(policies, step)
        copies = copy_numbers(np.asarray(data.pairs.rows))
        if pool.num_pairs:
            key = jax.random.fold_in(pool.choice_key, number)
            chosen = jax.random.choice(key, len(copies), (pool.num_pairs,), replace=False)
            pairs, copies = data.pairs._replace(rows=data.pairs.rows[chosen]), copies[np.asarray(chosen)]
            data = data._replace(pairs=pairs)
        on_device = data, copies, np.int32(number), policies.memory_S
        drawn = draw_in_bulk(pool.label, draw_chunks, len(data.pairs.rows), on_device)
        return policies, data._replace(drawn_from=drawn)

    return Source(
        draw_kept,
        make,
        source.complete,
        init=lambda states_S: states_S if source.asks_policy else (),
        refresh_every=pool.refresh_every,
        is_by_seed=source.asks_policy,
    )


def copy_numbers(rows: np.ndarray) -> np.ndarray:
    """How many earlier entries equal each entry: shape (P,), int32. [3 5 3 3] gives [0 0 1 2]. Host."""
    order = np.argsort(rows, kind="stable")
    in_order = rows[order]
    numbers = np.empty(len(rows), np.int32)
    numbers[order] = np.arange(len(rows)) - np.searchsorted(in_order, in_order)
    return numbers


def draw_kept(memory: PyTree, data: Data, pair: Array, choose_action: ChooseAction, key: Key) -> PyTree:
    """One of the draws kept for the pair, at random: `Source.draw`; the pool's leading axes are (P, M)."""
    del memory, choose_action
    m = jax.random.randint(key, (), 0, jax.tree.leaves(data.drawn_from)[0].shape[1])
    return jax.tree.map(lambda leaf: leaf[pair, m], data.drawn_from)


def keep_for_target(lambda_: float) -> Callable[[PyTree], PyTree]:
    """Keeps what targets need of a draw: whole trajectories for lambda < 1, their `collapse` for the H-step return."""
    if lambda_ < 1:
        return lambda drawn: drawn

    def is_trajectory(part: PyTree) -> bool:
        return isinstance(part, Trajectory)

    def keep(part: PyTree) -> PyTree:
        return collapse(part) if is_trajectory(part) else part

    return lambda drawn: jax.tree.map(keep, drawn, is_leaf=is_trajectory)


def draw_several(
    source: Source, num_draws: int, keep: Callable[[PyTree], PyTree]
) -> Callable[[Data, Array, ChooseAction, Key], PyTree]:
    """The source's draw, `num_draws` times with keys of their own, each reduced by `keep`: leading axis M."""

    def draw(data: Data, pair: Array, choose_action: ChooseAction, key: Key) -> PyTree:
        keys_M = jax.random.split(key, num_draws)
        return jax.vmap(lambda draw_key: keep(source.draw((), data, pair, choose_action, draw_key)))(keys_M)

    return draw


def draw_in_bulk(
    label: str, draw_chunks: Callable[[int, PyTree], Iterator[PyTree]], num_items: int, on_device: PyTree
) -> PyTree:
    """All the chunks of `parallel.map_chunks` as one host tree. Shows progress; may be interrupted."""
    chunks, drawn = [], 0
    with show_progress(label, num_items) as progress, spending("imagination"):
        for chunk in draw_chunks(num_items, on_device):
            interruption.raise_if_requested()
            chunks.append(chunk)
            drawn += len(jax.tree.leaves(chunk)[0])
            progress.advance(drawn)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)
