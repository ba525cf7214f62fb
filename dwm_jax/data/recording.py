"""A task's recorded data as a run uses them."""

from typing import NamedTuple

import numpy as np

from dwm_jax.data.dataset import Dataset


class Recording(NamedTuple):
    """A task's episodes laid out flat, divided for training world models and for measuring them."""

    dataset: Dataset
    return_scale: float
    training_episodes: np.ndarray
    heldout_episodes: np.ndarray
    fingerprint: str

    @property
    def measured_on(self) -> str:
        """Which episodes world models are measured on: "held-out", or "training" where none is held out."""
        return "held-out" if len(self.heldout_episodes) else "training"
