"""Where trajectories come from: recorded steps, or imagination in every update. (Kept ones: pool.py.)

A source answers one question - what follows data pair p? - in the learner's units, and does not know who asks.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dwm_jax.data.dataset import Dataset, recorded_steps
from dwm_jax.learners.policies import Policies, Units
from dwm_jax.maths.losses import pessimistic_rewards
from dwm_jax.types import Array, Batch, ChooseAction, Key, NextPair, PyTree, Start, Trajectory
from dwm_jax.world_models.base import Rollout, WorldModel

# What policies may ask a world model for.
ASK = ("constant", "reachable")


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

    def next_pair(self, pair: Array) -> NextPair:
        """What was recorded one step after a pair, raw."""
        row = self.rows[pair] + 1
        return NextPair(
            observation=jnp.asarray(self.dataset.observations)[row],
            action=jnp.asarray(self.dataset.actions)[row],
            is_known=row < jnp.asarray(self.dataset.last)[row],
        )


def recorded_pair(pairs: Pairs, pair: Array, trajectory: Trajectory, key: Key) -> Batch:
    """The pair as it was recorded, with the trajectory drawn for it: `Source.complete`."""
    del key
    normalize, next_pair = pairs.units.observation_normalizer.normalize, pairs.next_pair(pair)
    return Batch(
        observation=normalize(pairs.observation(pair)),
        action=pairs.action(pair),
        trajectory=trajectory,
        next_pair=next_pair._replace(observation=normalize(next_pair.observation)),
    )


class Data(NamedTuple):
    """What the updates of one method read."""

    pairs: Pairs
    drawn_from: PyTree  # a world model, a pool, ...: what the source needs on the device


class Source(NamedTuple):
    """Where the trajectories of one method's updates come from.

    Beside the learner's state it may have one of its own for every seed, its memory, which is saved with the policies:
    the world model that relabelling fine-tunes, or the policies that the present pool follows.
    """

    # (memory, data, p, choose_action, key) -> what is drawn for pair p, in the learner's units: the trajectory after
    # it, unless `complete` wants more. Of one seed and one pair; `choose_action` takes raw observations.
    draw: Callable[[PyTree, Data, Array, ChooseAction, Key], PyTree]
    # (policies, step) -> (policies, data): before the first update that is left to do, and at every refresh.
    make: Callable[[Policies, int], tuple[Policies, Data]]
    # (pairs, p, what was drawn for p, key) -> the entry that p has in a batch: a `Batch` without its leading axis.
    complete: Callable[[Pairs, Array, PyTree, Key], Batch] = recorded_pair
    # Learner states of all seeds -> the first memories.
    init: Callable[[PyTree], PyTree] = lambda states_S: ()
    # (learner state, memory, data, key, step) -> memory, after every update of one seed's policy; None: it stays.
    update: Callable[[PyTree, PyTree, Data, Key, Array], PyTree] | None = None
    # Updates between two refreshes; 0: the data stay.
    refresh_every: int = 0
    # Whether a draw depends on the policy as it is.
    asks_policy: bool = False
    # Whether `Data.drawn_from` has a part for every seed, on its second axis.
    is_by_seed: bool = False

    @property
    def is_drawn_inside(self) -> bool:
        """Whether a draw depends on what an update changes, so that it cannot be made ahead of it."""
        return self.asks_policy or self.update is not None


# (model, s_t (O,), a_t (A,)) -> the scaled return () that a world model is conditioned on; raw units.
Ask = Callable[[PyTree, Array, Array], Array]
# The pairs of a method, made on first use, since generating transitions is slow.
MakePairs = Callable[[], Pairs]


def make_recorded_source(make_pairs: MakePairs, horizon: int, gamma: float) -> Source:
    """The recorded steps themselves, bootstrapping cut at terminations: model-free learning.

    Args:
      make_pairs: the data pairs.
      horizon: H; 1 is the learner as published. With more its targets are those of Diffusion-MVE over what was
        recorded instead of imagined, bootstrapped at the last recorded state where the recording ends before.
      gamma: discount.
    """

    def draw(memory: PyTree, data: Data, pair: Array, choose_action: ChooseAction, key: Key) -> Trajectory:
        del memory, choose_action, key
        pairs = data.pairs
        return pairs.units.trajectory(recorded_steps(pairs.dataset, pairs.rows[pair], horizon, gamma))

    return Source(draw, lambda policies, step: (policies, Data(make_pairs(), ())))


def make_ask(how: str, return_to_go: float, model: WorldModel) -> Ask:
    """The return-to-go that a world model is conditioned on, as a function of the pair.

    Args:
      how: "constant", g_eval for every pair (the paper's way); or "reachable", min(g_eval, q(s, a)): no more than
        pairs like this one reached in the data, where the model has learnt q.
      return_to_go: g_eval, scaled.
    """

    most = model.reachable_return
    if how == "constant" or most is None:
        return lambda inference, observation_O, action_A: jnp.asarray(return_to_go)
    return lambda inference, observation_O, action_A: jnp.minimum(
        return_to_go, most(inference, observation_O, action_A)
    )


def prefix_of_ask(how: str) -> str:
    """What stands before g_eval in a text: "at most " where `make_ask` may ask for less."""
    return "at most " if how == "reachable" else ""


def make_fresh_source(
    make_pairs: MakePairs, rollout: Rollout, model: PyTree, ask: Ask, asks_policy: bool = False
) -> Source:
    """A new imagined trajectory in every update (the paper's way).

    Args:
      make_pairs: the data pairs.
      rollout, model: a world model's rollout and inference state.
      ask: the scaled return that the imagination of a pair is asked for.
      asks_policy: whether the rollout does.
    """

    def draw(memory: PyTree, data: Data, pair: Array, choose_action: ChooseAction, key: Key) -> Trajectory:
        del memory
        raw = rollout(data.drawn_from, make_start(data, pair, ask), choose_action, key)
        return data.pairs.units.trajectory(raw)

    return Source(draw, lambda policies, step: (policies, Data(make_pairs(), model)), asks_policy=asks_policy)


def make_pessimistic_source(source: Source, alternatives: Rollout, ask: Ask, kappa: float) -> Source:
    """`make_fresh_source`, with rewards lowered where m imaginations of the same pair disagree.

        r~_h = mean_i r^i_h - kappa max_{i,j} (|r^i_h - r^j_h|^2 + |s'^i_h - s'^j_h|^2),  states of the first

    Rewards and states are compared in the learner's units, so that kappa means the same on every task. Every reward
    of a target is lowered: a generated sequence's last row has no next state to compare, but H < T leaves it out.
    Source: DWM-PQL, DWM section 3.2; with an ensemble the disagreement of MOReL (Kidambi et al. 2020).

    Args:
      source: `make_fresh_source` of the same world model.
      alternatives: a world model's rollout with a leading axis m.
      ask: the scaled return that the imagination of a pair is asked for.
      kappa: weight of the penalty.
    """

    def draw(memory: PyTree, data: Data, pair: Array, choose_action: ChooseAction, key: Key) -> Trajectory:
        del memory
        alternatives_M = alternatives(data.drawn_from, make_start(data, pair, ask), choose_action, key)
        imagined_M = jax.vmap(data.pairs.units.trajectory)(alternatives_M)
        followed = jax.tree.map(lambda leaf: leaf[0], imagined_M)
        rewards_H = pessimistic_rewards(imagined_M.rewards, imagined_M.next_observations, kappa)
        return followed._replace(rewards=rewards_H)

    return source._replace(draw=draw)


def make_start(data: Data, pair: Array, ask: Ask) -> Start:
    """Where the imagination of a pair starts, and the return-to-go that it is conditioned on."""
    observation_O, action_A = data.pairs.observation(pair), data.pairs.action(pair)
    return Start(observation_O, action_A, ask(data.drawn_from, observation_O, action_A))


def refuse_to_act(step: Array, observation: Array, key: Key) -> Array:
    """The `choose_action` of world models that need no policy; raises ValueError if it is called."""
    raise ValueError("this world model follows a policy: its trajectories must be drawn for one")
