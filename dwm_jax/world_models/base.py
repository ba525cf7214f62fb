"""What every world model offers to the joinery and the loop: four pure functions.

A new world model is one file with one constructor that returns a `WorldModel`, plus its line in the registry
(`dwm_jax/registry.py`). It sees raw units on the outside and keeps its own normalisers in its state.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from dwm_jax.types import Array, Average, ChooseAction, Key, Metrics, PyTree, Segment, Trajectory


class TrainingRows(NamedTuple):
    """Rows a world model fits its normalisers on. Host arrays, raw units, one entry per transition."""

    observations: np.ndarray  # (P, O)
    rewards: np.ndarray  # (P,)
    next_observations: np.ndarray  # (P, O)
    actions: np.ndarray  # (P, A)
    # Whether episodes terminate: segments are then padded with reward 0, which a reward's range must hold.
    absorbing: bool


class Rollout(Protocol):
    """Imagines what follows one data pair. Raw units; `jax.vmap` makes a batch."""

    def __call__(
        self,
        model: PyTree,
        observation_O: Array,
        action_A: Array,
        return_to_go: Array,
        choose_action: ChooseAction,
        key: Key,
    ) -> Trajectory:
        """From (s_t, a_t), asked for the scaled return-to-go, H steps.

        `choose_action` acts at steps 1 .. H-1; a model that generates the future at once never calls it.
        """
        ...


class WorldModel(NamedTuple):
    """A trainable generator of trajectories."""

    # T of the segments it trains on.
    sequence_length: int
    # (key, rows) -> state: an immutable pytree, normalisers included.
    init: Callable[[Key, TrainingRows], PyTree]
    # (state, segments with leading axis B, keys (B,), step (), average) -> (state, metrics)
    update: Callable[[PyTree, Segment, Array, Array, Average], tuple[PyTree, Metrics]]
    # state -> what a rollout needs of it (EMA parameters and normalisers).
    inference: Callable[[PyTree], PyTree]
    # (horizon, gamma) -> rollout. Raises ValueError where the model cannot reach the horizon.
    rollout: Callable[[int, float], Rollout]
    # Whether a rollout follows a policy's actions; if not, its trajectories can be drawn before any policy exists.
    needs_policy: bool
