"""The cameras of films: the simulators' own lose sight of a walking robot, and of an ant behind the maze's walls."""

from typing import Any

import gymnasium as gym
import numpy as np

from dwm_jax.data.robotics import Maze, MujocoRenderer, mujoco

# MuJoCo's word for none.
NO_CAMERA = -1
# Of a maze, whose middle is the origin: in sides of the maze, so far away that all of it is seen.
DISTANCE = 1.25
FROM_ABOVE = {"lookat": np.zeros(3), "azimuth": 90.0, "elevation": -75.0}


def place_camera(env: gym.Env[Any, Any]) -> None:
    """Has `env.render` show a robot wherever it goes, or the whole maze around an ant.

    A robot is seen by the camera that its model calls "track", where it has one and the data names none. Other
    environments keep the camera they have.
    """
    maze: Any = getattr(env.unwrapped, "maze", None)
    renderer = find_renderer(env.unwrapped)
    of_ant = find_renderer(getattr(env.unwrapped, "ant_env", None))
    if of_ant is not None and isinstance(maze, Maze):
        side = maze.maze_size_scaling * max(maze.map_length, maze.map_width)
        of_ant.default_cam_config = FROM_ABOVE | {"distance": DISTANCE * side}
    elif renderer is not None and renderer.camera_id == NO_CAMERA:
        renderer.camera_id = mujoco.mj_name2id(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")


def find_renderer(simulator: Any) -> Any:
    """What draws a simulator of Gymnasium's; None for any other."""
    renderer = getattr(simulator, "mujoco_renderer", None)
    return renderer if isinstance(renderer, MujocoRenderer) else None
