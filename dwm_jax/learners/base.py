"""What every offline learner offers to the joinery and the loop: three pure functions.

A new learner is one file with one constructor that returns a `Learner`, plus its line in the registry
(`dwm_jax/registry.py`). The constructor is told `observation_size`, `action_size`, the `num_updates` of the whole
training, and its settings by keyword. It sees its own units only (observations standardised, rewards scaled), and never
learns where a trajectory came from.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from dwm_jax.types import Array, Average, Batch, Expand, Key, Metrics, PyTree


class Update(Protocol):
    """One update of everything that is learnt. Pure; the order of the partial updates is in its docstring."""

    def __call__(
        self, state: PyTree, batch: Batch, expand: Expand, keys: Array, step: Array | int, average: Average
    ) -> tuple[PyTree, Metrics]:
        """
        Args:
          state: an immutable pytree from `init`.
          batch: data pairs with the trajectory that follows each.
          expand: makes a critic target of one trajectory and a bootstrap (`value_expansion`).
          keys: this update's randomness, one key per data pair, shape (B,).
          step: updates done before this one, for delayed updates. Only its remainder by `Learner.period` counts; where
            that is known as the program is traced it is an int.
          average: averages over the devices that share the batch.
        """
        ...


class Learner(NamedTuple):
    """A trainable policy with its critics."""

    init: Callable[[Key], PyTree]
    update: Update
    # P >= 1: update n + P steps the same networks as update n.
    period: int
    # (state, observation (O,), key) -> action (A,): acts inside a world model's rollout.
    explore: Callable[[PyTree, Array, Key], Array]
    # state -> what acting needs of it: the actor's parameters.
    inference: Callable[[PyTree], PyTree]
    # (inference, observation (O,)) -> action (A,): the policy that is evaluated; deterministic.
    act: Callable[[PyTree, Array], Array]
    # (state, observation (O,)) -> scalar: what the state is worth to this learner, in its units.
    value: Callable[[PyTree, Array], Array]
    # Whether its rewards are scaled by 1000 / (largest - smallest return of an episode): the usual rule of IQL.
    scales_rewards: bool
    # Whether imagined rewards are lowered where several imaginations of the same pair disagree.
    pessimistic: bool
