"""What the phases of a run hand to each other: recorded data, finished world models, finished policies."""

from typing import NamedTuple

import numpy as np

from dwm_jax.data.dataset import Dataset
from dwm_jax.imagination import Units
from dwm_jax.learners.base import Learner
from dwm_jax.types import PyTree
from dwm_jax.world_models.base import WorldModel


class Recording(NamedTuple):
    """A task's episodes laid out flat, divided for training world models and for measuring them."""

    dataset: Dataset
    return_scale: float
    training_episodes: np.ndarray
    heldout_episodes: np.ndarray
    fingerprint: str


class TrainedModel(NamedTuple):
    """A finished world model."""

    model: WorldModel
    inference: PyTree


class Policies(NamedTuple):
    """One method's policies, all seeds stacked, and the units they see the world in: a pytree, saved as one."""

    states_S: PyTree  # the learner's states
    units: Units


class TrainedMethod(NamedTuple):
    """A finished method."""

    learner: Learner
    policies: Policies
