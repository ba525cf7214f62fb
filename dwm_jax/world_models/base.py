"""What everything that is pretrained on segments offers: settings as fields, and pure methods.

A `WorldModel` imagines trajectories for a learner, a `Planner` acts by itself, a `Generator` makes up transitions.
A new one is one file with a subclass, plus its line in the registry (`dwm_jax/registry.py`); the config takes its
settings from the fields. It sees raw units on the outside and keeps its own normalisers in its state.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import jax
import numpy as np

from dwm_jax.runtime.settings import require
from dwm_jax.types import Array, Average, ChooseAction, Key, Metrics, PyTree, Segment, Start, Trajectory, Transition


class TrainingRows(NamedTuple):
    """The training episodes' transitions, for fitting normalisers. Host arrays, raw units, one entry each."""

    observations: np.ndarray  # (P, O)
    rewards: np.ndarray  # (P,)
    next_observations: np.ndarray  # (P, O)
    actions: np.ndarray  # (P, A)
    # Whether episodes terminate: segments are then padded with reward 0, which a reward's range must hold.
    absorbing: bool

    @property
    def states(self) -> np.ndarray:
        """Every state: those that steps start from, and those that steps lead to, which may have ended an episode."""
        return np.concatenate([self.observations, self.next_observations])

    @property
    def rewards_with_padding(self) -> np.ndarray:
        """Every reward of a segment: the recorded ones, and the 0 of the padding where episodes terminate."""
        return np.append(self.rewards, np.zeros(int(self.absorbing), np.float32))


class Rollout(Protocol):
    """Imagines what follows one data pair. Raw units; `jax.vmap` makes a batch."""

    def __call__(self, model: PyTree, start: Start, choose_action: ChooseAction, key: Key) -> Trajectory:
        """H steps from (s_t, a_t), conditioned on a return-to-go.

        `choose_action` is called at steps 1 .. H by a model that follows a policy (what it answers at H is unused), and
        never by one that generates the future at once.
        """
        ...


class Training(NamedTuple):
    """How a model is trained unless a config says otherwise."""

    num_updates: int
    batch_size: int  # segments of an update, over all devices
    seed: int = 0
    # Folder of a finished model of the same data and settings, which is taken over instead; empty: it is trained here.
    pretrained: str = ""


@dataclass(frozen=True, kw_only=True)
class Model(ABC):
    """What is pretrained on segments. Fields with a default are settings.

    Attributes:
      title: the paper's name, in those of the methods.
      training: defaults of its training.
      is_return_conditioned: whether it is conditioned on a return-to-go.
    """

    title: ClassVar[str]
    training: ClassVar[Training]
    is_return_conditioned: ClassVar[bool] = False

    @property
    @abstractmethod
    def sequence_length(self) -> int:
        """T of the segments it trains on."""

    @abstractmethod
    def init(self, key: Key, rows: TrainingRows) -> PyTree:
        """The state before the first update: an immutable pytree, normalisers included."""

    @abstractmethod
    def update(
        self, state: PyTree, segments: Segment, keys: Array, step: Array, average: Average
    ) -> tuple[PyTree, Metrics]:
        """One update on segments with a leading axis B, with a key each: (B,).

        Args:
          step: number of the update, from 0.
          average: averages over the devices that share the batch.
        """

    @abstractmethod
    def inference(self, state: PyTree) -> PyTree:
        """What is needed of the state once it is trained: EMA parameters and normalisers."""


@dataclass(frozen=True, kw_only=True)
class WorldModel(Model):
    """A trainable generator of trajectories.

    Attributes:
      needs_policy: whether a rollout follows a policy's actions; if not, its trajectories can be drawn before any
        policy exists.
      reachable_return: (inference, s_t (O,), a_t (A,)) -> the most that pairs like this one reached in the data,
        scaled like the labels; None where it was not learnt (`with_reachable_return`).
    """

    needs_policy: ClassVar[bool] = False

    @property
    def longest_horizon(self) -> int | None:
        """H of the longest trajectory it can imagine; None: any."""
        return None

    @property
    def reachable_return(self) -> Callable[[PyTree, Array, Array], Array] | None:
        return None

    @abstractmethod
    def rollout(self, horizon: int, gamma: float) -> Rollout:
        """Raises ValueError where the model cannot reach the horizon."""

    def refuse_horizon(self, horizon: int) -> None:
        """Raises ValueError where a horizon is beyond `longest_horizon`."""
        if self.longest_horizon is not None and horizon > self.longest_horizon:
            raise ValueError(f"horizon {horizon} is too long: this world model imagines at most {self.longest_horizon}")

    def alternatives(self, horizon: int, gamma: float, count: int) -> Rollout:
        """A rollout with a leading axis m: imagined trajectories of one pair, whose disagreement is uncertainty.

        The first is used as the trajectory. By default they are m independent samples, one key each.
        """
        imagine_one = self.rollout(horizon, gamma)

        def imagine(model: PyTree, start: Start, choose_action: ChooseAction, key: Key) -> Trajectory:
            def draw(key: Key) -> Trajectory:
                return imagine_one(model, start, choose_action, key)

            return jax.vmap(draw)(jax.random.split(key, count))

        return imagine


@dataclass(frozen=True, kw_only=True)
class ReturnConditioned(WorldModel):
    """A world model that is conditioned on a return-to-go."""

    is_return_conditioned = True

    # Level of the quantile of recorded returns that policy.ask = "reachable" needs; 0: none is learnt.
    reachable_quantile: float = 0.0

    def __post_init__(self) -> None:
        require(self, "reachable_quantile", 0 <= self.reachable_quantile < 1, "0 (none) or a level in (0, 1)")


@dataclass(frozen=True, kw_only=True)
class Planner(Model):
    """A trainable policy that has no critic: it plans at every step."""

    @abstractmethod
    def act(self, inference: PyTree, observation_O: Array, return_to_go: Array, key: Key) -> Array:
        """The first action (A,) of a plan for the scaled return-to-go (). Raw units."""


@dataclass(frozen=True, kw_only=True)
class Generator(Model):
    """A trainable source of generated transitions."""

    @abstractmethod
    def generate(self, inference: PyTree, key: Key) -> Transition:
        """One transition, raw units."""


class TrainedModel(NamedTuple):
    """What one pretraining leaves."""

    model: Model
    state: PyTree  # as training left it: fine-tuning goes on from here
    seconds: float  # wall time of the training, whenever it was

    @property
    def inference(self) -> PyTree:
        """What a rollout, a plan or a generation needs of the state; jax arrays."""
        return jax.device_put(self.model.inference(self.state))
