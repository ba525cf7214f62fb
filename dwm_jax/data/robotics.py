"""Imports MuJoCo and gymnasium_robotics, without their messages and failures that do not matter here."""

import contextlib
import io
import os

from dwm_jax.runtime.progress import say

try:
    import mujoco
except Exception as error:  # whatever the drawing library raises that MUJOCO_GL names
    if "MUJOCO_GL" not in os.environ:
        raise
    # A container may name a library that the machine lacks, and MuJoCo cannot be imported then. Only films draw.
    name = os.environ["MUJOCO_GL"]
    say(f"MUJOCO_GL={name} cannot be used here ({type(error).__name__}: {error}); all but films works without")
    os.environ["MUJOCO_GL"] = "disable"
    import mujoco

# Its messages are about environments that are not used here.
with contextlib.redirect_stderr(io.StringIO()):
    import gymnasium_robotics
    from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer
    from gymnasium_robotics.envs.maze import maps
    from gymnasium_robotics.envs.maze.maze_v4 import Maze

__all__ = ["Maze", "MujocoRenderer", "gymnasium_robotics", "maps", "mujoco"]
