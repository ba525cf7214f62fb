"""What everything that is pretrained on segments offers to the joinery and the loop: a few pure functions.

A `WorldModel` imagines trajectories for a learner, a `Planner` acts by itself, a `Generator` makes up transitions.
A new one is one file with one constructor, plus its line in the registry (`dwm_jax/registry.py`). It sees raw
units on the outside and keeps its own normalisers in its state.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

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


class Rollout(Protocol):
    """Imagines what follows one data pair. Raw units; `jax.vmap` makes a batch."""

    def __call__(self, model: PyTree, start: Start, choose_action: ChooseAction, key: Key) -> Trajectory:
        """H steps from (s_t, a_t), asked for a return-to-go.

        `choose_action` acts at steps 1 .. H-1; a model that generates the future at once never calls it.
        """
        ...


# (key, rows) -> state: an immutable pytree, normalisers included.
Init = Callable[[Key, TrainingRows], PyTree]
# (state, segments with leading axis B, keys (B,), step (), average) -> (state, metrics)
Update = Callable[[PyTree, Segment, Array, Array, Average], tuple[PyTree, Metrics]]
# state -> what is needed of it once it is trained (EMA parameters and normalisers).
Inference = Callable[[PyTree], PyTree]


class WorldModel(NamedTuple):
    """A trainable generator of trajectories."""

    # T of the segments it trains on.
    sequence_length: int
    init: Init
    update: Update
    inference: Inference
    # (horizon, gamma) -> rollout. Raises ValueError where the model cannot reach the horizon.
    rollout: Callable[[int, float], Rollout]
    # (horizon, gamma, m) -> a rollout whose trajectory has a leading axis m: what else might happen, for a
    # pessimist to compare. The first is the one to follow.
    alternatives: Callable[[int, float, int], Rollout]
    # Whether a rollout follows a policy's actions; if not, its trajectories can be drawn before any policy exists.
    needs_policy: bool
    # (model, s_t (O,), a_t (A,)) -> the most that pairs like this one reached in the data, scaled like the labels; None
    # where it was not learnt (`with_reachable_return`).
    reachable_return: Callable[[PyTree, Array, Array], Array] | None = None


class Planner(NamedTuple):
    """A trainable policy that has no critic: it plans at every step."""

    sequence_length: int
    init: Init
    update: Update
    inference: Inference
    # (model, observation (O,), scaled return-to-go (), key) -> action (A,). Raw units.
    act: Callable[[PyTree, Array, Array, Key], Array]


class Generator(NamedTuple):
    """A trainable source of transitions that nobody recorded."""

    sequence_length: int
    init: Init
    update: Update
    inference: Inference
    # (model, key) -> a transition, raw units.
    generate: Callable[[PyTree, Key], Transition]


def independent_draws(rollout: Callable[[int, float], Rollout]) -> Callable[[int, float, int], Rollout]:
    """`WorldModel.alternatives` of a model whose own randomness is its doubt: m draws, one key each."""

    def alternatives(horizon: int, gamma: float, count: int) -> Rollout:
        imagine_one = rollout(horizon, gamma)

        def imagine(model: PyTree, start: Start, choose_action: ChooseAction, key: Key) -> Trajectory:
            def draw(key: Key) -> Trajectory:
                return imagine_one(model, start, choose_action, key)

            return jax.vmap(draw)(jax.random.split(key, count))

        return imagine

    return alternatives


class TrainedModel(NamedTuple):
    """What one pretraining leaves."""

    model: WorldModel | Planner | Generator
    settings: dict[str, Any]  # the keywords it was made with
    state: PyTree  # as training left it: fine-tuning goes on from here
    seconds: float  # wall time of the training, whenever it was

    @property
    def inference(self) -> PyTree:
        """What a rollout, a plan or a generation needs of the state; jax arrays."""
        return jax.tree.map(jnp.asarray, self.model.inference(self.state))
