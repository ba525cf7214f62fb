"""Policies that were learnt: what a learner leaves, and the units it sees the world in."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.data import dataset as data
from dwm_jax.learners.base import Learner
from dwm_jax.maths.normalizers import AffineNormalizer
from dwm_jax.types import Array, ChooseAction, Key, PyTree, Trajectory


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


class Policies(NamedTuple):
    """One method's policies, all seeds stacked, and the units they see the world in: a pytree, saved as one."""

    states_S: PyTree  # the learner's states
    units: Units
    # What the source of their trajectories remembers, one entry a seed (`imagination.sources.Source`).
    memory_S: PyTree = ()


class Acting(NamedTuple):
    """What acting needs of one policy, or of several, stacked: parameters, and the units they see."""

    inference_S: PyTree
    observation_normalizer: AffineNormalizer


class Learnt(NamedTuple):
    """Policies with the learner that knows how to act with them."""

    learner: Learner
    policies: Policies


class TrainedMethod(NamedTuple):
    """A finished method."""

    # (observation (O,), key) -> action (A,), raw: what the first seed's policy does; compiled.
    act: Callable[[Array, Key], Array]
    # None where a planner acts and nothing was learnt beside it.
    learnt: Learnt | None
    # Wall time of everything that made it: imagination, compiling, updates and evaluations; 0 for a planner.
    seconds: float


def fit_units(learner: Learner, dataset: data.Dataset) -> Units:
    """Standardised observations; rewards by 1000 / (largest - smallest episode return) for learners that ask, else
    by the learner's own factor.
    """
    spread = float(np.ptp(data.episode_returns(dataset)))
    scale = 1000 / spread if learner.scales_rewards and spread > 0 else learner.reward_scale
    return Units(data.state_normalizer(dataset), jnp.asarray(scale))


def make_act_everywhere(learner: Learner) -> Callable[[Acting, np.ndarray], Array]:
    """(S policies, raw observations (S, E, O)) -> actions (S, E, A); compiled."""

    @jax.jit
    def act(policies: Acting, observation_SEO: Array) -> Array:
        observation_SEO = policies.observation_normalizer.normalize(observation_SEO)
        per_episode = jax.vmap(learner.act, in_axes=(None, 0))
        return jax.vmap(per_episode)(policies.inference_S, observation_SEO)

    return act


def make_choose_action(learner: Learner, state: PyTree, units: Units) -> ChooseAction:
    """A learner's policy as it acts inside imagined trajectories; raw observations."""

    def choose_action(step: Array, observation_O: Array, key: Key) -> Array:
        del step
        return learner.explore(state, units.observation_normalizer.normalize(observation_O), key)

    return choose_action
