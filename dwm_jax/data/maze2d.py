"""Maze2d: D4RL's recipe replayed in the Gymnasium-Robotics point maze, made locally in seconds.

A waypoint controller drives the point from goal to goal under action noise; rewards are then relabelled for the
one goal of the evaluation: 1 on a step that ends within 0.5 of it, else 0. Episodes end by the clock alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from scipy.sparse.csgraph import shortest_path

from dwm_jax.data.robotics import gymnasium_robotics, maps
from dwm_jax.runtime import interruption
from dwm_jax.types import Episode

GOAL_RADIUS = 0.5
POSITION_GAIN, VELOCITY_GAIN = 10.0, -1.0
ACTION_NOISE = 0.5
WAYPOINT_RADIUS = 0.1
WAYPOINT_JITTER = 0.1


@dataclass(frozen=True)
class Maze:
    """One maze: where it lives in Gymnasium-Robotics, its clock and the goal of its evaluation."""

    environment_id: str
    episode_steps: int
    goal_cell: tuple[int, int]  # (row, column), the "G" of D4RL's map
    reference_scores: tuple[float, float]  # D4RL's (min, max) return
    cells: list[list[int]]  # 1 where there is a wall

    def xy(self, cell: tuple[int, int]) -> np.ndarray:
        """Centre of a cell; the maze is centred on the origin, cells have side 1, rows run downwards."""
        rows, columns = np.shape(self.cells)
        return np.array([cell[1] + 0.5 - columns / 2, rows / 2 - cell[0] - 0.5])

    def cell(self, xy: np.ndarray) -> tuple[int, int]:
        """The cell that holds a position."""
        rows, columns = np.shape(self.cells)
        return int(np.floor(rows / 2 - xy[1])), int(np.floor(xy[0] + columns / 2))

    @property
    def free_cells(self) -> list[tuple[int, int]]:
        return [(int(row), int(column)) for row, column in np.argwhere(np.array(self.cells) == 0)]


MAZES = {
    "umaze": Maze("PointMaze_UMaze-v3", 300, (1, 1), (23.85, 161.86), maps.U_MAZE),
    "medium": Maze("PointMaze_Medium-v3", 600, (6, 6), (13.13, 277.39), maps.MEDIUM_MAZE),
    "large": Maze("PointMaze_Large-v3", 800, (7, 9), (6.7, 273.99), maps.LARGE_MAZE),
}


class FixedGoal(gym.Wrapper[np.ndarray, np.ndarray, Any, Any]):
    """The point maze as D4RL's maze2d: observation (x, y, vx, vy), reward for one fixed goal, any start.

    The simulator jitters the goal at every reset and starts away from it; D4RL starts in any free cell, the
    goal's included, and its reference scores count on that. The jitter of the start stays.
    """

    def __init__(self, env: gym.Env[Any, Any], maze: Maze):
        super().__init__(env)
        self.maze = maze
        self.goal = maze.xy(maze.goal_cell)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        rng = self.np_random if seed is None else np.random.default_rng(seed)
        start = self.maze.free_cells[rng.integers(len(self.maze.free_cells))]
        cells = {"goal_cell": np.array(self.maze.goal_cell), "reset_cell": np.array(start)}
        observation, info = self.env.reset(seed=seed, options={**cells, **(options or {})})
        maze_env: Any = self.env.unwrapped
        maze_env.goal = self.goal.copy()
        maze_env.update_target_site_pos()
        return observation["observation"], info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, _, _, truncated, info = self.env.step(action)
        return observation["observation"], float(reward(observation["observation"], self.goal)), False, truncated, info


def reward(observations: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """1 within GOAL_RADIUS of the goal, else 0: (..., 4) -> (...)."""
    distance = np.linalg.norm(observations[..., :2] - goal, axis=-1)
    return (distance <= GOAL_RADIUS).astype(np.float32)


def make_env(name: str, render_mode: str | None = None) -> gym.Env[np.ndarray, np.ndarray]:
    """The evaluation environment of maze2d-`name`; episodes are truncated by the clock, never terminated."""
    gym.register_envs(gymnasium_robotics)
    maze = MAZES[name]
    env = gym.make(
        maze.environment_id,
        max_episode_steps=maze.episode_steps,
        continuing_task=True,
        reset_target=False,
        render_mode=render_mode,
    )
    return FixedGoal(env, maze)


def record_episodes(
    name: str, num_steps: int, seed: int, on_step: Callable[[int], None] = lambda step: None
) -> list[Episode]:
    """Records whole episodes of the noisy waypoint controller, at least `num_steps` steps in all.

    The controller goes to a random cell, and on to the next when it is within GOAL_RADIUS of it. Its command is

        a = clip( 10 (waypoint - position) - velocity + N(0, 0.5^2), -1, 1 )

    along the jittered centres of the cells of a shortest path. Source: D4RL (Fu et al. 2020), maze2d.

    Args:
      name: "umaze", "medium" or "large".
      num_steps: recorded steps, rounded up to whole episodes.
      seed: the same seed gives the same episodes (on one version of MuJoCo).
      on_step: called with the number of steps done, now and then.
    """
    maze = MAZES[name]
    rng = np.random.default_rng(seed)
    env = make_env(name)
    episodes = []
    for index in range(-(-num_steps // maze.episode_steps)):
        interruption.check()
        observation, _ = env.reset(seed=int(rng.integers(2**31)))
        route = Route(maze, rng)
        observations, actions = [observation], []
        for _ in range(maze.episode_steps):
            command = POSITION_GAIN * (route.waypoint(observation[:2]) - observation[:2])
            command = command + VELOCITY_GAIN * observation[2:]
            action = np.clip(command + ACTION_NOISE * rng.standard_normal(2), -1, 1).astype(np.float32)
            observation, *_ = env.step(action)
            observations.append(observation)
            actions.append(action)
        states = np.asarray(observations, np.float32)
        rewards = reward(states[1:], maze.xy(maze.goal_cell))
        episodes.append(Episode(states, np.asarray(actions), rewards, terminated=False))
        on_step((index + 1) * maze.episode_steps)
    env.close()
    return episodes


class Route:
    """Waypoints to a random cell, and to the next one on arrival."""

    def __init__(self, maze: Maze, rng: np.random.Generator):
        self._maze, self._rng = maze, rng
        cells = maze.free_cells
        adjacent = [[abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for b in cells] for a in cells]
        _, self._previous = shortest_path(np.array(adjacent, float), return_predecessors=True)
        self._goal: np.ndarray | None = None
        self._waypoints: list[np.ndarray] = []

    def waypoint(self, position: np.ndarray) -> np.ndarray:
        """Where to steer from here."""
        if self._goal is None or np.linalg.norm(position - self._goal) <= GOAL_RADIUS:
            self._plan(position)
        if len(self._waypoints) > 1 and np.linalg.norm(position - self._waypoints[0]) < WAYPOINT_RADIUS:
            self._waypoints.pop(0)
        return self._waypoints[0]

    def _plan(self, position: np.ndarray) -> None:
        cells = self._maze.free_cells
        start = cells.index(self._maze.cell(position))
        target = int(self._rng.choice([i for i in range(len(cells)) if i != start]))
        path = [target]
        while path[-1] != start:
            path.append(int(self._previous[start, path[-1]]))
        jitter = self._rng.uniform(-WAYPOINT_JITTER, WAYPOINT_JITTER, (len(path), 2))
        # The first cell is where the point stands already.
        self._waypoints = [self._maze.xy(cells[i]) for i in path[::-1]][1:]
        self._waypoints = [w + j for w, j in zip(self._waypoints, jitter, strict=False)]
        self._goal = self._waypoints[-1]
