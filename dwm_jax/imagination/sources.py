"""Trajectory sources: recorded data, trajectories imagined afresh in every update, or kept from a pool.

A source answers one question - what follows data pair p? - in the learner's units, and does not know who asks.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dwm_jax.data.dataset import Dataset, recorded_steps
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


# (model, s_t (O,), a_t (A,)) -> the scaled return () that a world model is asked for; raw units.
Ask = Callable[[PyTree, Array, Array], Array]


class TrajectorySource(NamedTuple):
    """`draw(data, pairs, p, choose_action, key)` -> trajectory after pair p, in the learner's units.

    One pair at a time; `data` is what the source needs on the device. `choose_action` takes raw observations.
    """

    data: PyTree
    draw: Callable[[PyTree, Pairs, Array, ChooseAction, Key], Trajectory]


def recorded(horizon: int, gamma: float) -> TrajectorySource:
    """The recorded steps themselves, bootstrapping cut at terminations: model-free learning.

    Args:
      horizon: H; 1 is the learner as published. With more its targets are those of Diffusion-MVE over what was
        recorded instead of imagined, bootstrapped at the last recorded state where the recording ends before.
      gamma: discount.
    """

    def draw(data: PyTree, pairs: Pairs, pair: Array, choose_action: ChooseAction, key: Key) -> Trajectory:
        del data, choose_action, key
        return pairs.units.trajectory(recorded_steps(pairs.dataset, pairs.rows[pair], horizon, gamma))

    return TrajectorySource(data=(), draw=draw)


def ask_constant(return_to_go: float) -> Ask:
    """g_eval for every pair (the paper's way)."""
    return lambda model, observation_O, action_A: jnp.asarray(return_to_go)


def ask_reachable(reachable_return: Ask, return_to_go: float) -> Ask:
    """min(g_eval, q(s, a)): no more than pairs like this one reached in the data.

    Args:
      reachable_return: q, of the world model that is asked.
      return_to_go: g_eval, scaled.
    """
    return lambda model, observation_O, action_A: jnp.minimum(
        return_to_go, reachable_return(model, observation_O, action_A)
    )


def fresh(rollout: Rollout, model: PyTree, ask: Ask) -> TrajectorySource:
    """A new imagined trajectory in every update (the paper's way).

    Args:
      rollout, model: a world model's rollout and inference state.
      ask: the scaled return that the imagination of a pair is asked for.
    """

    def draw(model: PyTree, pairs: Pairs, pair: Array, choose_action: ChooseAction, key: Key) -> Trajectory:
        start = pairs.observation(pair), pairs.action(pair)
        raw = rollout(model, *start, ask(model, *start), choose_action, key)
        return pairs.units.trajectory(raw)

    return TrajectorySource(data=model, draw=draw)


def pessimistic(alternatives: Rollout, model: PyTree, ask: Ask, kappa: float) -> TrajectorySource:
    """As `fresh`, with rewards lowered where m imaginations of the same pair disagree.

        r~_h = mean_i r^i_h - kappa max_{i,j} (|r^i_h - r^j_h|^2 + |s'^i_h - s'^j_h|^2),  states of the first

    Rewards and states are compared in the learner's units, so that kappa means the same on every task. Every reward
    of a target is lowered: a generated sequence's last row has no next state to compare, but H < T leaves it out.
    Source: DWM-PQL, DWM section 3.2; with an ensemble the disagreement of MOReL (Kidambi et al. 2020).

    Args:
      alternatives: a world model's rollout with a leading axis m.
      model: its inference state.
      ask: the scaled return that the imagination of a pair is asked for.
      kappa: weight of the penalty.
    """

    def draw(model: PyTree, pairs: Pairs, pair: Array, choose_action: ChooseAction, key: Key) -> Trajectory:
        start = pairs.observation(pair), pairs.action(pair)
        alternatives_M = alternatives(model, *start, ask(model, *start), choose_action, key)
        imagined_M = jax.vmap(pairs.units.trajectory)(alternatives_M)
        followed = jax.tree.map(lambda leaf: leaf[0], imagined_M)
        rewards_H = pessimistic_rewards(imagined_M.rewards, imagined_M.next_observations, kappa)
        return followed._replace(rewards=rewards_H)

    return TrajectorySource(data=model, draw=draw)


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
