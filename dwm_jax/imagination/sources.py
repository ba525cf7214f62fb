"""Trajectory sources: recorded data, trajectories imagined afresh in every update, or kept from a pool.

A source answers one question - what follows data pair p? - in the learner's units, and does not know who asks.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dwm_jax.data.dataset import Dataset, recorded_step
from dwm_jax.learners.policies import Units
from dwm_jax.maths.losses import pessimistic_rewards
from dwm_jax.maths.value_expansion import collapse
from dwm_jax.types import Array, ChooseAction, Key, PyTree, Trajectory
from dwm_jax.world_models.base import Rollout


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


def pessimistic(alternatives: Rollout, model: PyTree, return_to_go: float, kappa: float) -> TrajectorySource:
    """As `fresh`, with rewards lowered where m imaginations of the same pair disagree.

        r~_h = mean_i r^i_h - kappa max_{i,j} (|r^i_h - r^j_h|^2 + |s'^i_h - s'^j_h|^2),  states of the first

    Rewards and states are compared in the learner's units, so that kappa means the same on every task. Every reward
    of a target is lowered: a generated sequence's last row has no next state to compare, but H < T leaves it out.
    Source: DWM-PQL, DWM section 3.2; with an ensemble the disagreement of MOReL (Kidambi et al. 2020).

    Args:
      alternatives: a world model's rollout with a leading axis m.
      model: its inference state.
      return_to_go: g_eval.
      kappa: weight of the penalty.
    """

    def draw(model: PyTree, pairs: Pairs, pair: Array, choose_action: ChooseAction, key: Key) -> Trajectory:
        pair_and_return = pairs.observation(pair), pairs.action(pair), jnp.asarray(return_to_go)
        imagined_M = jax.vmap(pairs.units.trajectory)(alternatives(model, *pair_and_return, choose_action, key))
        followed = jax.tree.map(lambda leaf: leaf[0], imagined_M)
        rewards_H = pessimistic_rewards(imagined_M.rewards, imagined_M.next_observations, kappa)
        return followed._replace(rewards=rewards_H)

    return TrajectorySource(data=model, draw=draw)


def without_tails(source: TrajectorySource, low_O: Array, high_O: Array) -> TrajectorySource:
    """The source's trajectories, their states clipped to [low, high] in each dimension; in the learner's units.

    A world model that overshoots is stopped at the edge of the data (DWM clips x0 there, a one-step model its next
    state), so of states that should lie near it too many lie on it, at the most extreme value ever recorded. Critics
    extrapolate there, and a bootstrap that is a few percent too large on average grows without bound. Quantiles of the
    data as bounds keep such states where data are. Not in the paper; RESULTS.md has what it does.

    Args:
      source: of imagined trajectories.
      low_O, high_O: shape (O,).
    """

    def draw(data: PyTree, pairs: Pairs, pair: Array, choose_action: ChooseAction, key: Key) -> Trajectory:
        trajectory = source.draw(data, pairs, pair, choose_action, key)
        return trajectory._replace(next_observations=jnp.clip(trajectory.next_observations, low_O, high_O))

    return TrajectorySource(data=source.data, draw=draw)


def keep_for_target(lambda_: float) -> Callable[[Trajectory], Trajectory]:
    """What of a trajectory its target needs: all of it for lambda < 1, its collapse for the H-step return."""
    return collapse if lambda_ == 1 else lambda trajectory: trajectory


def draw_several(
    source: TrajectorySource, num_draws: int, keep: Callable[[Trajectory], Trajectory]
) -> Callable[[PyTree, Pairs, Array, ChooseAction, Key], Trajectory]:
    """The source's draw, `num_draws` times with keys of their own: leading axis M; of each what `keep` leaves."""

    def draw(model: PyTree, pairs: Pairs, pair: Array, choose_action: ChooseAction, key: Key) -> Trajectory:
        keys_M = jax.random.split(key, num_draws)
        return jax.vmap(lambda draw_key: keep(source.draw(model, pairs, pair, choose_action, draw_key)))(keys_M)

    return draw


def draw_kept(pool: Trajectory, pairs: Pairs, pair: Array, choose_action: ChooseAction, key: Key) -> Trajectory:
    """One of the trajectories kept for the pair, at random: `TrajectorySource.draw` over a pool.

    Args:
      pool: leading axes (P, M), in the learner's units.
    """
    del pairs, choose_action
    m = jax.random.randint(key, (), 0, pool.rewards.shape[1])
    return jax.tree.map(lambda leaf: leaf[pair, m], pool)
