"""What the phases of a run hand to each other: recorded data, finished models, finished policies."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.data.dataset import Dataset
from dwm_jax.imagination import Units
from dwm_jax.learners.base import Learner
from dwm_jax.types import Array, Key, PyTree
from dwm_jax.world_models.base import Generator, Planner, WorldModel


class Recording(NamedTuple):
    """A task's episodes laid out flat, divided for training world models and for measuring them."""

    dataset: Dataset
    return_scale: float
    training_episodes: np.ndarray
    heldout_episodes: np.ndarray
    fingerprint: str


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
