"""D4RL's mazes for the evaluation of policies learnt from D4RL's own files, in D4RL's coordinates.

The mazes that Gymnasium-Robotics offers are the same, mirrored, moved and differently driven; a policy that has
seen D4RL's numbers must meet D4RL's numbers again. Starts and goals are drawn as D4RL draws them (d4rl/pointmaze,
d4rl/locomotion), with other random numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from dwm_jax.data import maze2d
from dwm_jax.data.flat_arrays import FlatArrays
from dwm_jax.data.robotics import gymnasium_robotics, maps

ANT_CELL = 4.0
# What D4RL's ant.xml says where Gymnasium's says otherwise: torque per unit of action, time step, contact stiffness.
ANT_TORQUE, ANT_TIME_STEP, ANT_SOLIMP = 30.0, 0.02, (0.8, 0.8, 0.01)
# Of the start: added to every position, and the size of every velocity.
ANT_START_JITTER, ANT_START_SPEED = 0.1, 0.1
# Numbers of an ant's position (3), attitude (a quaternion) and joints (8), and of their velocities.
ANT_POSITIONS, ANT_VELOCITIES = 15, 14
ATTITUDE = slice(3, 7)


class Maze2dV1(gym.Wrapper[np.ndarray, np.ndarray, Any, Any]):
    """maze2d-*-v1: observation (row, column, and their velocities), action (row, column), D4RL's units.

        row = rows / 2 - y - 1/2 - 0.2,   column = x + columns / 2 - 1/2 - 0.2

    Starts, reward and clock are `maze2d.FixedGoal`'s: a free cell's whole numbers + U(-0.1, 0.1), velocity
    0.1 N(0, 1); reward 1 within 0.5 of the goal's whole numbers, else 0; never terminated.
    """

    def __init__(self, name: str, render_mode: str | None = None, max_episode_steps: int | None = None):
        super().__init__(maze2d.make_env(name, render_mode, max_episode_steps))
        self._maze = maze2d.MAZES[name]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self.to_d4rl(observation), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        row, column = action
        observation, reward, terminated, truncated, info = self.env.step(np.array([column, -row], np.float32))
        return self.to_d4rl(observation), float(reward), terminated, truncated, info

    def to_d4rl(self, observation: np.ndarray) -> np.ndarray:
        """(x, y, vx, vy) of the simulator in D4RL's units."""
        x, y, vx, vy = observation
        rows, columns = np.shape(self._maze.cells)
        offset = 0.5 + maze2d.POINT_OFFSET
        return np.array([rows / 2 - y - offset, x + columns / 2 - offset, -vy, vx])


def rewards_of_states(environment: str, arrays: FlatArrays) -> bool:
    """Whether reward[t] of a recording belongs to observations[t] rather than to the state that follows.

    True for maze2d, as D4RL made its files, unless the rewards themselves say otherwise: those that are wrong about
    the state before are ten times as many as those that are wrong about the state after.
    """
    name = environment.removeprefix("maze2d-").removesuffix("-v1")
    if not environment.startswith("maze2d-") or name not in maze2d.MAZES:
        return False
    distances = np.linalg.norm(arrays.observations[:, :2] - np.array(maze2d.MAZES[name].goal_cell), axis=1)
    at_goal = distances <= maze2d.GOAL_RADIUS
    wrong_before = np.sum(arrays.rewards[:-1] != at_goal[:-1])
    wrong_after = np.sum(arrays.rewards[:-1] != at_goal[1:])
    return bool(wrong_before <= 10 * wrong_after)


@dataclass(frozen=True)
class AntMaze:
    """One of D4RL's mazes for the ant; its walls, with rows counted upwards from the ant's own."""

    cells: list[list[int]]
    goal_cell: tuple[int, int]  # (row, column), the "G" of D4RL's map
    episode_steps: int


START_CELL = (1, 1)  # the "R" of every map
ANT_MAZES = {
    "umaze": AntMaze(maps.U_MAZE, (3, 1), 700),
    "medium": AntMaze(maps.MEDIUM_MAZE, (6, 6), 1000),
    "large": AntMaze(maps.LARGE_MAZE, (7, 9), 1000),
}


class AntmazeV2(gym.Wrapper[np.ndarray, np.ndarray, Any, Any]):
    """antmaze-*-v2: observation (position, attitude, joints, velocities), 29 numbers, without the goal.

    D4RL's y grows with the row of its map, the simulator's falls; so the simulator is given the map upside down, and
    the origin is the start's cell. The ant is D4RL's: torque 30, time step 0.02, contact solimp (0.8, 0.8, 0.01).

    An episode starts at the origin at rest, height 0.75, joints 0, plus U(-0.1, 0.1) in every position and 0.1 N(0, 1)
    in every velocity. The attitude is a quaternion of unit length after that, as the MuJoCo of D4RL's time made it.
    The goal is drawn anew for every episode: its cell's position + U(0, 1) + U(0, 0.5) each way. Reward 1 within 0.5
    of it, which terminates; else 0.
    """

    def __init__(self, name: str, render_mode: str | None = None, max_episode_steps: int | None = None) -> None:
        gym.register_envs(gymnasium_robotics)
        maze = ANT_MAZES[name]
        env: gym.Env[Any, Any] = gym.make(
            "AntMaze_UMaze-v4",
            maze_map=maze.cells[::-1],
            max_episode_steps=max_episode_steps or maze.episode_steps,
            render_mode=render_mode,
        )
        super().__init__(env)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (ANT_POSITIONS + ANT_VELOCITIES,), np.float64)
        simulator: Any = self.env.unwrapped
        self._ant = simulator.ant_env
        self._ant.model.actuator_gear[:, 0] = ANT_TORQUE
        self._ant.model.opt.timestep = ANT_TIME_STEP
        self._ant.model.geom_solimp[:, : len(ANT_SOLIMP)] = ANT_SOLIMP
        self._start_cell = np.array([len(maze.cells) - 1 - START_CELL[0], START_CELL[1]])
        self._origin = simulator.maze.cell_rowcol_to_xy(self._start_cell)
        row, column = np.subtract(maze.goal_cell, START_CELL)
        self._goal_corner = ANT_CELL * np.array([column, row])
        self._goal = self._goal_corner

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        # Cells are named so that the simulator draws none; what it makes of them is overwritten.
        _, info = self.env.reset(seed=seed, options={"goal_cell": self._start_cell, "reset_cell": self._start_cell})
        noise = self.np_random
        self._goal = self._goal_corner + noise.uniform(0, 1, 2) + noise.uniform(0, 0.5, 2)
        positions = np.concatenate([self._origin, self._ant.init_qpos[2:]])
        positions = positions + noise.uniform(-ANT_START_JITTER, ANT_START_JITTER, ANT_POSITIONS)
        positions[ATTITUDE] /= np.linalg.norm(positions[ATTITUDE])
        simulator: Any = self.env.unwrapped
        simulator.goal = self._origin + self._goal
        simulator.update_target_site_pos()
        self._ant.set_state(positions, ANT_START_SPEED * noise.standard_normal(ANT_VELOCITIES))
        return self._observation(), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        _, _, _, truncated, info = self.env.step(action)
        observation = self._observation()
        reached = bool(np.linalg.norm(observation[:2] - self._goal) <= maze2d.GOAL_RADIUS)
        return observation, float(reached), reached, truncated, info

    def _observation(self) -> np.ndarray:
        positions, velocities = self._ant.data.qpos, self._ant.data.qvel
        return np.concatenate([positions[:2] - self._origin, positions[2:], velocities])


ENVIRONMENTS: dict[str, Callable[..., gym.Env[Any, Any]]] = {
    **{f"maze2d-{name}-v1": partial(Maze2dV1, name) for name in maze2d.MAZES},
    "antmaze-umaze-v2": partial(AntmazeV2, "umaze"),
    "antmaze-umaze-diverse-v2": partial(AntmazeV2, "umaze"),
    **{
        f"antmaze-{name}-{kind}-v2": partial(AntmazeV2, name)
        for name in ("medium", "large")
        for kind in ("play", "diverse")
    },
}
