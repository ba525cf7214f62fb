"""gymnasium_robotics, imported without the notice it prints about environments that are not used here."""

import contextlib
import io

with contextlib.redirect_stderr(io.StringIO()):
    import gymnasium_robotics
    from gymnasium_robotics.envs.maze import maps

__all__ = ["gymnasium_robotics", "maps"]
