"""What every offline learner offers: settings as fields, and pure methods.

A new learner is one file with a subclass of `Learner`, plus its line in the registry (`dwm_jax/registry.py`); the
config takes its settings from the fields. A fork of a learner is a subclass that overrides one method. A learner sees
its own units only (observations standardised, rewards scaled), and never learns where a trajectory came from.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from dwm_jax.types import Array, Average, Batch, Expand, Key, Metrics, PyTree


@dataclass(frozen=True, kw_only=True)
class Learner(ABC):
    """A trainable policy with its critics. Fields with a default are settings; the run gives the others.

    Attributes:
      title: the paper's name, in those of the methods.
      default_lambda: default of `policy.lambda_`, of targets over several steps, imagined or recorded; 1: the H-step
        return.
      scales_rewards: whether its rewards are scaled by 1000 / (largest - smallest return of an episode): the usual
        rule of IQL.
      pessimistic: whether imagined rewards are lowered where several imaginations of the same pair disagree.
    """

    title: ClassVar[str]
    default_lambda: ClassVar[float] = 1.0
    scales_rewards: ClassVar[bool] = False
    pessimistic: ClassVar[bool] = False

    observation_size: int  # O
    action_size: int  # A; actions lie in [-1, 1]
    num_updates: int  # of the whole training

    @property
    def period(self) -> int:
        """P >= 1: update n + P steps the same networks as update n."""
        return 1

    @property
    def reward_scale(self) -> float:
        """What rewards are multiplied by, unless `scales_rewards`."""
        return 1.0

    @abstractmethod
    def init(self, key: Key) -> PyTree:
        """The state before the first update: an immutable pytree."""

    @abstractmethod
    def update(
        self, state: PyTree, batch: Batch, expand: Expand, keys: Array, step: Array | int, average: Average
    ) -> tuple[PyTree, Metrics]:
        """One update of everything that is learnt; the order of the partial updates is in the class's docstring.

        Args:
          state: from `init`.
          batch: data pairs with the trajectory that follows each.
          expand: makes a critic target of one trajectory and a bootstrap (`value_expansion`).
          keys: this update's randomness, one key per data pair, shape (B,).
          step: updates done before this one, for delayed updates. Only its remainder by `period` counts; where that
            is known as the program is traced it is an int.
          average: averages over the devices that share the batch.
        """

    @abstractmethod
    def explore(self, state: PyTree, observation_O: Array, key: Key) -> Array:
        """How it acts inside a world model's rollout: (O,) -> action (A,)."""

    @abstractmethod
    def inference(self, state: PyTree) -> PyTree:
        """What acting needs of the state: the actor's parameters."""

    @abstractmethod
    def act(self, inference: PyTree, observation_O: Array) -> Array:
        """The policy that is evaluated, deterministic: (O,) -> action (A,)."""

    @abstractmethod
    def value(self, state: PyTree, observation_O: Array) -> Array:
        """The value of a state, in the learner's units: (O,) -> ()."""
