"""Maze2d: D4RL's point maze in Gymnasium-Robotics' simulator, and data by D4RL's recipe, made locally in seconds.

The observation is the simulator's (x, y, vx, vy). D4RL's whole-number positions lie 0.2 beyond the centres of the
cells, towards higher rows and columns (`Maze.point`): there its balls start, there its goals are.

*The recipe* (D4RL's waypoint_controller and generate_maze2d_datasets): a point is driven from one random cell to the
next, without a reset between them,

    a = clip( 10 (waypoint - position) - velocity + N(0, 0.5^2), -1, 1 )

along a shortest path whose waypoints are the cells' whole-number positions less U(0, 0.2) each way, the goal's
exactly; it turns to the next goal within 0.1 of this one, or when the clock has run out on the way. Rewards are those
of the one goal of the evaluation: 1 on a step that ends within 0.5 of it, else 0.

*What differs from D4RL's files.* reward[t] belongs to the state after action t, as the environment pays it (theirs
belongs to the state before it). Episodes are cut by the environment's clock, of one recording (theirs are cut at
goals reached). The step on which a goal is reached is recorded (theirs repeats the state before it). The same cell is
never the goal twice in a row, paths start from the cell the point is in, and equally short paths are chosen otherwise.
Random numbers and the version of MuJoCo are not theirs.
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
# Within this of a waypoint or goal the controller turns to the next one.
ARRIVAL_RADIUS = 0.1
WAYPOINT_JITTER = 0.2
# Starts: around a whole-number position, and in motion.
START_JITTER, START_SPEED = 0.1, 0.1
# From the centre of a cell to D4RL's whole-number position, in rows and columns.
POINT_OFFSET = 0.2


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

    def point(self, cell: tuple[int, int]) -> np.ndarray:
        """D4RL's position of a cell, whose coordinates there are the cell's whole numbers."""
        return self.xy(cell) + np.array([POINT_OFFSET, -POINT_OFFSET])

    def cell(self, xy: np.ndarray) -> tuple[int, int]:
        """The cell that holds a position."""
        rows, columns = np.shape(self.cells)
        return int(np.floor(rows / 2 - xy[1])), int(np.floor(xy[0] + columns / 2))

    def episodes_of(self, num_steps: int) -> int:
        """Whole episodes that hold at least so many steps."""
        return -(-num_steps // self.episode_steps)

    @property
    def free_cells(self) -> list[tuple[int, int]]:
        return [(int(row), int(column)) for row, column in np.argwhere(np.array(self.cells) == 0)]


MAZES = {
    "umaze": Maze("PointMaze_UMaze-v3", 300, (1, 1), (23.85, 161.86), maps.U_MAZE),
    "medium": Maze("PointMaze_Medium-v3", 600, (6, 6), (13.13, 277.39), maps.MEDIUM_MAZE),
    "large": Maze("PointMaze_Large-v3", 800, (7, 9), (6.7, 273.99), maps.LARGE_MAZE),
}


class FixedGoal(gym.Wrapper[np.ndarray, np.ndarray, Any, Any]):
    """The point maze as D4RL's maze2d: observation (x, y, vx, vy), reward for one fixed goal.

    An episode starts at the point of any free cell, the goal's included, plus U(-0.1, 0.1) each way, with velocity
    0.1 N(0, 1): the reference scores count on that. (The simulator's own starts avoid the goal and are at rest.)
    """

    def __init__(self, env: gym.Env[Any, Any], maze: Maze):
        super().__init__(env)
        self.maze = maze
        self.goal = maze.point(maze.goal_cell)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        # Cells are named so that the simulator draws none; what it makes of them is overwritten.
        cell = np.array(self.maze.goal_cell)
        _, info = self.env.reset(seed=seed, options={"goal_cell": cell, "reset_cell": cell})
        maze_env: Any = self.env.unwrapped
        maze_env.goal = self.goal.copy()
        maze_env.update_target_site_pos()
        cells = self.maze.free_cells
        start = self.maze.point(cells[self.np_random.integers(len(cells))])
        position = start + self.np_random.uniform(-START_JITTER, START_JITTER, 2)
        velocity = START_SPEED * self.np_random.standard_normal(2)
        maze_env.point_env.set_state(position, velocity)
        return np.concatenate([position, velocity]), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, _, _, truncated, info = self.env.step(action)
        return observation["observation"], float(reward(observation["observation"], self.goal)), False, truncated, info


def reward(observations: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """1 within GOAL_RADIUS of the goal, else 0: (..., 4) -> (...)."""
    distance = np.linalg.norm(observations[..., :2] - goal, axis=-1)
    return (distance <= GOAL_RADIUS).astype(np.float32)


def make_env(
    name: str, render_mode: str | None = None, max_episode_steps: int | None = None
) -> gym.Env[np.ndarray, np.ndarray]:
    """The evaluation environment of maze2d-`name`; episodes are truncated by the clock, never terminated.

    Args:
      max_episode_steps: another clock than the maze's.
    """
    gym.register_envs(gymnasium_robotics)
    maze = MAZES[name]
    env = gym.make(
        maze.environment_id,
        max_episode_steps=max_episode_steps or maze.episode_steps,
        continuing_task=True,
        reset_target=False,
        render_mode=render_mode,
    )
    return FixedGoal(env, maze)


def record_episodes(
    name: str, num_steps: int, seed: int, on_step: Callable[[int], object] = lambda step: None
) -> list[Episode]:
    """Records the noisy waypoint controller in whole episodes, at least `num_steps` steps in all.

    They are one recording, cut every `episode_steps` steps: an episode begins where the last one ended.

    Args:
      name: "umaze", "medium" or "large".
      num_steps: recorded steps, rounded up to whole episodes.
      seed: the same seed gives the same episodes (on one version of MuJoCo).
      on_step: called with the number of steps done, after every episode.
    """
    maze = MAZES[name]
    rng = np.random.default_rng(seed)
    env = make_env(name)
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    simulator: Any = env.unwrapped  # without the clock
    route = Route(maze, rng)
    episodes = []
    for index in range(maze.episodes_of(num_steps)):
        interruption.raise_if_requested()
        observations, actions = [observation], []
        for _ in range(maze.episode_steps):
            command = POSITION_GAIN * (route.waypoint(observation[:2]) - observation[:2])
            command = command + VELOCITY_GAIN * observation[2:]
            action = np.clip(command + ACTION_NOISE * rng.standard_normal(2), -1, 1).astype(np.float32)
            observation = simulator.step(action)[0]["observation"]
            observations.append(observation)
            actions.append(action)
        states = np.asarray(observations, np.float32)
        rewards = reward(states[1:], maze.point(maze.goal_cell))
        episodes.append(Episode(states, np.asarray(actions), rewards, terminated=False))
        on_step((index + 1) * maze.episode_steps)
    env.close()
    return episodes


class Route:
    """Waypoints to the point of a random cell, and to the next one on arrival."""

    def __init__(self, maze: Maze, rng: np.random.Generator):
        self._maze, self._rng = maze, rng
        cells = maze.free_cells
        adjacent = [[abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for b in cells] for a in cells]
        _, self._previous = shortest_path(np.array(adjacent, float), return_predecessors=True)
        self._waypoints: list[np.ndarray] = []
        self._goal = -1  # index of its cell
        self._steps = 0  # under way to it

    def waypoint(self, position: np.ndarray) -> np.ndarray:
        """Where to steer from here; called once a step."""
        if self._goal < 0 or self._has_arrived(position) or self._steps >= self._maze.episode_steps:
            self._plan(position)
        elif np.linalg.norm(position - self._waypoints[0]) < ARRIVAL_RADIUS:
            self._waypoints.pop(0)
        self._steps += 1
        return self._waypoints[0]

    def _has_arrived(self, position: np.ndarray) -> bool:
        return len(self._waypoints) == 1 and bool(np.linalg.norm(position - self._waypoints[0]) < ARRIVAL_RADIUS)

    def _plan(self, position: np.ndarray) -> None:
        cells = self._maze.free_cells
        start = cells.index(self._maze.cell(position))
        self._goal = int(self._rng.choice([index for index in range(len(cells)) if index != self._goal]))
        path = [self._goal]
        while path[-1] != start:
            path.append(int(self._previous[start, path[-1]]))
        # The first cell is where the point is already, unless that is the goal.
        points = np.array([self._maze.point(cells[index]) for index in path[-2::-1] or path])
        # Less in rows and columns is more in y and less in x.
        points[:-1] += self._rng.uniform(0, WAYPOINT_JITTER, points[:-1].shape) * [-1, 1]
        self._waypoints, self._steps = list(points), 0
