"""Your own data and environment: a slider on a rail, recorded by a noisy controller, and a policy that learns from it.

    python -m experiments.tutorials.own_data --workdir runs/tutorials/own_data

You learn: what data is expected to look like (D4RL's HDF5 layout: one row per step, in the order of recording), how an
environment is named so that it is found again (`module:Id-v0`, the module registers it when it is imported), and that
everything that is odd about either is said before anything is trained. On the command line the middle step is

    python -m dwm_jax.data prepare tutorial-slider --file slider.hdf5 --env experiments.tutorials.own_data:Slider-v0
    python -m dwm_jax.data check tutorial-slider

Takes: 30 s of processor time, most of it compilation. It leaves a small data set, `tutorial-slider`, among your
Minari data sets.
"""

import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
from ml_collections import ConfigDict

from dwm_jax.config_files import load
from dwm_jax.data.importing import ImportOptions
from dwm_jax.data.minari_store import exists, local_id
from dwm_jax.data.prepare import prepare
from dwm_jax.train import main

MODULE, ENVIRONMENT, TASK = "experiments.tutorials.own_data", "Slider-v0", "tutorial-slider"


class Slider(gym.Env[np.ndarray, np.ndarray]):
    """State: position and velocity. Action: a push in [-1, 1]. Reward: near the middle; beyond 2 it falls off."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._state = self.np_random.uniform(-1, 1, 2)
        return self._state.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        place, speed = self._state
        speed = 0.98 * speed + 0.1 * float(action[0])
        self._state = np.array([place + 0.1 * speed, speed])
        return self._state.copy(), float(np.exp(-(self._state[0] ** 2))), abs(self._state[0]) > 2, False, {}


# The clock is part of the registration: an evaluation must end.
if ENVIRONMENT not in gym.registry:
    gym.register(ENVIRONMENT, entry_point=f"{MODULE}:Slider", max_episode_steps=50)


def record(path: Path, num_episodes: int = 40) -> None:
    """Records a noisy controller and writes the file in D4RL's layout."""
    env, rng = gym.make(ENVIRONMENT), np.random.default_rng(0)
    rows: dict[str, list[Any]] = {
        key: [] for key in ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")
    }
    for episode in range(num_episodes):
        observation, _ = env.reset(seed=episode)
        is_over = False
        while not is_over:
            action = np.clip(-observation.sum() + rng.normal(0, 0.7, 1), -1, 1).astype(np.float32)
            following, reward, terminated, truncated, _ = env.step(action)
            # A terminal ended the task, nothing is worth anything after; a time-out ended the recording alone.
            row = (observation, action, reward, following, terminated, truncated)
            for column, value in zip(rows.values(), row, strict=True):
                column.append(value)
            observation, is_over = following, terminated or truncated
    with h5py.File(path, "w") as file:
        for key, values in rows.items():
            file[key] = np.array(values)


def get_config() -> ConfigDict:
    """Prepares the data where it is missing; the config then has its name for a task."""
    if not exists(local_id(TASK)):
        with tempfile.TemporaryDirectory() as folder:
            record(Path(folder) / "slider.hdf5")
            named = ImportOptions(environment=f"{MODULE}:{ENVIRONMENT}")
            prepare(TASK, [Path(folder) / "slider.hdf5"], named)
    config = load("smoke")
    config.task = TASK
    config.methods = "TD3+BC-H"  # "DWM-TD3BC" works as well, and takes longer to compile
    return config


if __name__ == "__main__":
    main(__file__, __doc__)
