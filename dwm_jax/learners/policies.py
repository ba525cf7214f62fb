"""Policies that were learnt: what a learner leaves, and the units it sees the world in."""

from collections.abc import Callable
from typing import NamedTuple

from dwm_jax.learners.base import Learner
from dwm_jax.maths.normalizers import AffineNormalizer
from dwm_jax.types import Array, Key, PyTree, Trajectory


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
    # The states whose policies the present pool of trajectories follows; () where it follows none.
    imagined_by_S: PyTree = ()


class Learnt(NamedTuple):
    """Policies with the learner that knows how to act with them."""

    learner: Learner
    policies: Policies


class TrainedMethod(NamedTuple):
    """A finished method."""

    # (observation (O,), key) -> action (A,), raw: what the first seed's policy does.
    act: Callable[[Array, Key], Array]
    # None where a planner acts and nothing was learnt beside it.
    learnt: Learnt | None
    # Wall time of imagining in advance and of learning; 0 for a planner.
    seconds: float
