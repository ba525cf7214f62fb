"""Imagined pairs: with an action inferred for every imagined step, critics learn at the states they bootstrap from.

A target from s_{t+H} asks critics for the value of a state that no update visits, where nothing corrects what they
extrapolate ("edge of reach", Sims et al. 2024). DWM imagines states and rewards alone; what is missing of a pair is its
action, and that follows from the two states of its step.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dwm_jax.imagination.sources import Data, Pairs, Source, recorded_pair
from dwm_jax.learners.policies import Policies
from dwm_jax.maths.value_expansion import pad_to
from dwm_jax.runtime.keys import tagged
from dwm_jax.types import Array, Batch, ChooseAction, Key, NextPair, PyTree, Trajectory

# (inverse dynamics, s (O,), s' (O,)) -> the action (A,) between them; raw units.
Infer = Callable[[PyTree, Array, Array], Array]


class Drawn(NamedTuple):
    """What is drawn for a recorded pair."""

    trajectory: Trajectory  # after it, H steps
    imagined: Batch  # one imagined pair and its next step; no leading axis
    exists: Array  # () bool: False where the imagination ends with the first step


def with_inferred_actions(source: Source, infer: Infer, inverse: PyTree, *, horizon: int, share: float) -> Source:
    """A source that puts an imagined pair in the place of a recorded one, each with probability `share`.

    One imagination of L steps from (s_t, a_t), L >= H, gives the trajectory after the recorded pair, its first H steps,
    and the pairs

        (s_{t+h}, a_{t+h}),   a_{t+h} = f(s_{t+h}, s_{t+h+1}),   0 < h < L,   while nothing before s_{t+h} ended it.

    One of them is drawn, each with the same probability. What follows it is its one step r_{t+h}, d_{t+h}, s_{t+h+1}:

        y = r_{t+h} + d_{t+h} V(s_{t+h+1}),     d = gamma, or 0 where the step ended the task.

    Decision. Source: DAWM (Li et al. 2025, arXiv 2509.19538), whose imagined transitions are for one-step temporal
    differences; only its abstract was at hand. With the steps that remain up to s_{t+L}, as in MVE's TD-k trick
    (Feinberg et al. 2018), all of them would be bootstrapped at s_{t+L}, the one state that is never a pair. With one
    step all but the last are bootstrapped at the next pair. With L = H + 1 s_{t+H}, where the recorded pair's target
    is bootstrapped, is a pair as well.

    To the learner it is a pair like any other, so its actor too stays close to, or imitates, the inferred action: the
    paper's learners are left as they are. That action is the one by which the data go on as imagined.

    Args:
      source: imagines L steps.
      infer, inverse: f, and its inference state.
      horizon: H.
      share: in [0, 1]; less in a batch where an imagination ends with its first step and leaves no pair.
    """

    def draw(memory: PyTree, data: Data, pair: Array, choose_action: ChooseAction, key: Key) -> Drawn:
        model, inverse = data.drawn_from
        trajectory = source.draw(memory, data._replace(drawn_from=model), pair, choose_action, key)
        raw = data.pairs.units.observation_normalizer.denormalize

        def action_between(observation_O: Array, next_observation_O: Array) -> Array:
            return infer(inverse, raw(observation_O), raw(next_observation_O))

        imagined = imagined_pair(trajectory, action_between, tagged(key, "imagined pair"))
        return Drawn(jax.tree.map(lambda leaf: leaf[:horizon], trajectory), *imagined)

    def make(policies: Policies, step: int) -> tuple[Policies, Data]:
        policies, data = source.make(policies, step)
        return policies, data._replace(drawn_from=(data.drawn_from, inverse))

    def complete(pairs: Pairs, pair: Array, drawn: Drawn, key: Key) -> Batch:
        recorded = recorded_pair(pairs, pair, drawn.trajectory, key)
        # In a batch all trajectories are equally long.
        trajectory = pad_to(drawn.imagined.trajectory, len(drawn.trajectory.rewards))
        is_imagined = drawn.exists & jax.random.bernoulli(key, share)
        choices = drawn.imagined._replace(trajectory=trajectory), recorded
        return jax.tree.map(lambda imagined, recorded: jnp.where(is_imagined, imagined, recorded), *choices)

    return source._replace(draw=draw, make=make, complete=complete)


def imagined_pair(
    trajectory: Trajectory, action_between: Callable[[Array, Array], Array], key: Key
) -> tuple[Batch, Array]:
    """One of the imagined pairs of a trajectory of L steps, with its next step; and whether there is one.

    Its next pair is the imagined one at s_{t+h+1}; not known for the last, whose s_{t+h+2} was not imagined, nor where
    the step ended the task.

    Args:
      trajectory: whose discounts are 0 from the step on that ended it.
      action_between: (s, s') -> a, in the trajectory's units.
    """
    length = len(trajectory.rewards)
    # State i is s_{t+i+1}; it is a pair where a state follows and step i, which led to it, did not end the task.
    count = jnp.sum(trajectory.discounts[:-1] > 0)
    i = jax.random.randint(key, (), 0, jnp.maximum(count, 1))

    def state(index: Array) -> Array:
        return trajectory.next_observations[jnp.minimum(index, length - 1)]

    step = jax.tree.map(lambda leaf: leaf[jnp.minimum(i + 1, length - 1)][None], trajectory)
    has_next = (i + 2 < length) & (step.discounts[0] > 0)
    next_action_A = jnp.where(has_next, action_between(state(i + 1), state(i + 2)), 0.0)
    pair = Batch(
        observation=state(i),
        action=action_between(state(i), state(i + 1)),
        trajectory=step,
        next_pair=NextPair(state(i + 1), next_action_A, has_next),
    )
    return pair, count > 0
