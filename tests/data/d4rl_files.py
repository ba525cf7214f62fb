"""Small files in D4RL's layout, and episodes to compare them with."""

from pathlib import Path

import h5py
import numpy as np

from dwm_jax.data import d4rl
from dwm_jax.data.conversion import Layout
from dwm_jax.data.importing import scale_and_convert
from dwm_jax.data.spaces import unit_range
from dwm_jax.types import Episode


def make_episodes(lengths_and_ends, observation_size=3, action_size=2, seed=0):
    """Random episodes: [(length, terminated), ...]."""
    rng = np.random.default_rng(seed)
    return [
        Episode(
            rng.normal(size=(length + 1, observation_size)).astype(np.float32),
            rng.uniform(-1, 1, size=(length, action_size)).astype(np.float32),
            rng.normal(size=length).astype(np.float32),
            terminated,
        )
        for length, terminated in lengths_and_ends
    ]


def arrays_of(episodes):
    """The flat arrays of D4RL's layout, all of them."""
    flags = [np.arange(len(e.actions)) == len(e.actions) - 1 for e in episodes]
    return {
        "observations": np.concatenate([e.observations[:-1] for e in episodes]),
        "actions": np.concatenate([e.actions for e in episodes]),
        "rewards": np.concatenate([e.rewards for e in episodes]),
        "terminals": np.concatenate([flag & e.terminated for flag, e in zip(flags, episodes, strict=True)]),
        "timeouts": np.concatenate([flag & (not e.terminated) for flag, e in zip(flags, episodes, strict=True)]),
        "next_observations": np.concatenate([e.observations[1:] for e in episodes]),
    }


def write(path: Path, arrays, environment=None) -> Path:
    """Writes arrays, those that are None left out."""
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            if array is not None:
                file[key] = array
        if environment is not None:
            file["metadata/environment"] = environment
    return path


def read(path: Path, step_limit=None):
    """The file as its conversion leaves it."""
    arrays = d4rl.read_arrays(path)
    return scale_and_convert(arrays, str(path), Layout(step_limit), unit_range(arrays.actions.shape[1]))


def assert_same(actual, expected):
    """The same episodes, bit by bit."""
    assert [e.terminated for e in actual] == [e.terminated for e in expected]
    for a, b in zip(actual, expected, strict=True):
        for field in ("observations", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field), err_msg=field)
