"""A step of each robot's simulator: what evaluation costs on a processor, whatever device learns."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from ..benchmark.timing import Timed
from .points import Point, cpu_seconds

ROBOTS = ("Hopper-v4", "Walker2d-v4", "HalfCheetah-v4")
STEPS = 500


def cost_of_environments() -> Iterator[Point]:
    """Random actions, a new episode wherever one ends."""
    for robot in ROBOTS:
        yield Point(f"a step of {robot}", "steps", 1, cpu_seconds(acting_in(robot)) / STEPS, "CPU s")


def acting_in(robot: str) -> Timed:
    """`STEPS` steps of a simulator."""
    environment: Any = gym.make(robot)
    rng, space = np.random.default_rng(0), environment.action_space
    environment.reset(seed=0)

    def run() -> None:
        for _ in range(STEPS):
            _, _, terminated, truncated, _ = environment.step(rng.uniform(space.low, space.high))
            if terminated or truncated:
                environment.reset()

    return run
