"""Trajectory sources: recorded data, trajectories imagined afresh in every update, or imagined once in bulk.

A source answers one question - what follows data pair p? - in the learner's units, and does not know who asks.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.data.dataset import Dataset, recorded_step
from dwm_jax.normalizers import AffineNormalizer
from dwm_jax.types import Array, ChooseAction, Key, PyTree, Trajectory
from dwm_jax.value_expansion import collapse
from dwm_jax.world_models.base import Rollout


class Units(NamedTuple):
    """The learner's units: standardised observations, scaled rewards."""

    observation_normalizer: AffineNormalizer
    reward_scale: Array  # ()

    def trajectory(self, raw: Trajectory) -> Trajectory:
        return Trajectory(
            next_observations=self.observation_normalizer.normalize(raw.next_observations),
            rewards=raw.rewards * self.reward_scale,
            discounts=raw.discounts,
        )


class Pairs(NamedTuple):
    """The recorded data pairs (s_t, a_t) and the learner's units. Raw data; device arrays."""

    dataset: Dataset
    rows: Array  # (P,) rows of the data set that start a transition
    units: Units

    def observation(self, pair: Array) -> Array:
        """s_t of a pair, raw: () -> (O,)."""
        return jnp.asarray(self.dataset.observations)[self.rows[pair]]

    def action(self, pair: Array) -> Array:
        """a_t of a pair: () -> (A,)."""
        return jnp.asarray(self.dataset.actions)[self.rows[pair]]


class TrajectorySource(NamedTuple):
    """`draw(data, pairs, p, choose_action, key)` -> trajectory after pair p, in the learner's units.

    One pair at a time; `data` is what the source needs on the device. `choose_action` takes raw observations.
    """

    data: PyTree
    draw: Callable[[PyTree, Pairs, Array, ChooseAction, Key], Trajectory]


def recorded(gamma: float) -> TrajectorySource:
    """The recorded step itself, H = 1, bootstrapping cut at terminations: model-free learning."""

    def draw(data: PyTree, pairs: Pairs, pair: Array, choose_action: ChooseAction, key: Key) -> Trajectory:
        del data, choose_action, key
        return pairs.units.trajectory(recorded_step(pairs.dataset, pairs.rows[pair], gamma))

    return TrajectorySource(data=(), draw=draw)


def fresh(rollout: Rollout, model: PyTree, return_to_go: float) -> TrajectorySource:
    """A new imagined trajectory in every update (the paper's way).

    Args:
      rollout, model: a world model's rollout and inference state.
      return_to_go: g_eval, the scaled return the imagination asks for.
    """

    def draw(model: PyTree, pairs: Pairs, pair: Array, choose_action: ChooseAction, key: Key) -> Trajectory:
        raw = rollout(model, pairs.observation(pair), pairs.action(pair), jnp.asarray(return_to_go), choose_action, key)
        return pairs.units.trajectory(raw)

    return TrajectorySource(data=model, draw=draw)


def keep_for_target(lambda_: float) -> Callable[[Trajectory], Trajectory]:
    """What of a trajectory its target needs: all of it for lambda < 1, its collapse for the H-step return."""
    return collapse if lambda_ == 1 else lambda trajectory: trajectory


def draw_several(
    source: TrajectorySource, num_draws: int, keep: Callable[[Trajectory], Trajectory], key: Key
) -> Callable[[tuple[PyTree, Pairs], Array], Trajectory]:
    """`num_draws` trajectories of one pair, for drawing in bulk: ((source data, pairs), p) -> leading axis M.

    The key of draw m of pair p is folded from (p, m): what is drawn does not depend on how the pairs are chunked.
    """

    def no_policy(step: Array, observation: Array, key: Key) -> Array:
        raise ValueError("this world model follows a policy: draw it afresh in every update")

    def draw(data: tuple[PyTree, Pairs], pair: Array) -> Trajectory:
        keys_M = jax.random.split(jax.random.fold_in(key, pair), num_draws)
        return jax.vmap(lambda draw_key: keep(source.draw(*data, pair, no_policy, draw_key)))(keys_M)

    return draw


def kept(pool: Trajectory) -> TrajectorySource:
    """One of the trajectories kept for the pair, at random.

    Args:
      pool: leading axes (P, M), in the learner's units.
    """

    def draw(pool: Trajectory, pairs: Pairs, pair: Array, choose_action: ChooseAction, key: Key) -> Trajectory:
        del pairs, choose_action
        m = jax.random.randint(key, (), 0, pool.rewards.shape[1])
        return jax.tree.map(lambda leaf: leaf[pair, m], pool)

    return TrajectorySource(data=pool, draw=draw)


def allocate(chunks: list[Trajectory]) -> Trajectory:
    """Chunks of a pool (host) as one pool."""
    return jax.tree.map(lambda *parts: jnp.asarray(np.concatenate(parts)), *chunks)
