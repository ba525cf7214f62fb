"""D4RL's mazes for the evaluation of policies learnt from D4RL's own files, in D4RL's coordinates.

The mazes that Gymnasium-Robotics offers are the same, mirrored, moved and differently driven; a policy that has
seen D4RL's numbers must meet D4RL's numbers again. Jitter of starts and goals is close to D4RL's, not equal.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from dwm_jax.data import maze2d
from dwm_jax.data.robotics import gymnasium_robotics

# In D4RL's point maze a position counts cells, offset by this: the body starts at 1.2, the walls' centres at 1.
BODY_OFFSET = 0.2
# D4RL's ant: torque per unit of action, and the simulator's time step.
ANT_TORQUE, ANT_TIME_STEP = 30.0, 0.02
ANT_CELL = 4.0


class Maze2dV1(gym.Wrapper[np.ndarray, np.ndarray, Any, Any]):
    """maze2d-*-v1: observation (row, column, and their velocities), action (row, column), D4RL's units.

        row = rows / 2 - y - 1/2 - 0.2,   column = x + columns / 2 - 1/2 - 0.2

    Reward 1 within 0.5 of the goal's cell (its whole numbers), else 0; never terminated.
    """

    def __init__(self, name: str, render_mode: str | None = None):
        super().__init__(maze2d.make_env(name, render_mode))
        self._maze = maze2d.MAZES[name]
        self._goal = np.array(self._maze.goal_cell, float)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self.to_d4rl(observation), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        row, column = action
        observation, _, terminated, truncated, info = self.env.step(np.array([column, -row], np.float32))
        observation = self.to_d4rl(observation)
        reward = float(np.linalg.norm(observation[:2] - self._goal) <= maze2d.GOAL_RADIUS)
        return observation, reward, terminated, truncated, info

    def to_d4rl(self, observation: np.ndarray) -> np.ndarray:
        """(x, y, vx, vy) of the simulator in D4RL's units."""
        x, y, vx, vy = observation
        rows, columns = np.shape(self._maze.cells)
        return np.array([rows / 2 - y - 0.5 - BODY_OFFSET, x + columns / 2 - 0.5 - BODY_OFFSET, -vy, vx])


class AntmazeUmazeV2(gym.Wrapper[np.ndarray, np.ndarray, Any, Any]):
    """antmaze-umaze-v2: observation (position, pose, velocities), 29 numbers, without the goal.

    D4RL counts rows upwards from the start; the U is its own mirror image, so starting in the simulator's lower
    left cell and aiming at the upper left one gives the same maze: xy = simulator's xy + (4, 4). The ant is driven
    as D4RL's (torque 30, time step 0.02). The goal is drawn anew for every episode in [0, 1.5] x [8, 9.5]; reward 1
    within 0.5 of it, which terminates.
    """

    def __init__(self, render_mode: str | None = None) -> None:
        gym.register_envs(gymnasium_robotics)
        env: gym.Env[Any, Any] = gym.make("AntMaze_UMaze-v4", max_episode_steps=700, render_mode=render_mode)
        super().__init__(env)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (29,), np.float64)
        maze: Any = self.env.unwrapped
        maze.ant_env.model.actuator_gear[:, 0] = ANT_TORQUE
        maze.ant_env.model.opt.timestep = ANT_TIME_STEP
        maze.position_noise_range = 0.0
        self._goal = np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        cells = {"goal_cell": np.array([1, 1]), "reset_cell": np.array([3, 1])}
        observation, info = self.env.reset(seed=seed, options={**cells, **(options or {})})
        noise = self.np_random if seed is None else np.random.default_rng(seed)
        self._goal = np.array([0.0, 2 * ANT_CELL]) + noise.uniform(0, 1, 2) + noise.uniform(0, 0.5, 2)
        return self.to_d4rl(observation), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, _, _, truncated, info = self.env.step(action)
        observation = self.to_d4rl(observation)
        reached = bool(np.linalg.norm(observation[:2] - self._goal) <= maze2d.GOAL_RADIUS)
        return observation, float(reached), reached, truncated, info

    def to_d4rl(self, observation: Any) -> np.ndarray:
        """The simulator's dict observation as D4RL's vector."""
        return np.concatenate([observation["achieved_goal"] + ANT_CELL, observation["observation"]])


ENVIRONMENTS: dict[str, Callable[..., gym.Env[Any, Any]]] = {
    **{f"maze2d-{name}-v1": partial(Maze2dV1, name) for name in maze2d.MAZES},
    "antmaze-umaze-v2": AntmazeUmazeV2,
}
