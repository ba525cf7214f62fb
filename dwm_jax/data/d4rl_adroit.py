"""D4RL's adroit hand in the simulator of Gymnasium-Robotics, with D4RL's rewards, ends and clock.

Rewards are computed here, from D4RL's formulas (d4rl/hand_manipulation_suite): Gymnasium-Robotics' own have changed
between releases of one version of its environments, and pay the hand for being far from door, hammer and ball.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from dwm_jax.data.robotics import gymnasium_robotics


class Outcome(NamedTuple):
    """Of one step."""

    reward: float
    terminated: bool


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other))


def door(data: Any) -> Outcome:
    """-0.1 |palm - handle| - 0.1 (angle - 1.57)^2 - 1e-5 |v|^2, and 2, 8, 10 beyond an angle of 0.2, 1, 1.35."""
    angle = float(data.joint("door_hinge").qpos[0])
    reward = -0.1 * _distance(data.site("S_grasp").xpos, data.site("S_handle").xpos)
    reward += -0.1 * (angle - 1.57) ** 2 - 1e-5 * float(np.sum(data.qvel**2))
    return Outcome(reward + 2 * (angle > 0.2) + 8 * (angle > 1.0) + 10 * (angle > 1.35), False)


def hammer(data: Any) -> Outcome:
    """-0.1 |palm - hammer| - |head - nail| - 10 |nail - goal| - 0.01 |v|; 2 for lifting it, 25, 75 for a nail in.

    In is within 0.02 and 0.01 of the goal; lifted is hammer and head above 0.04.
    """
    hammered, head, nail = data.body("Object").xpos, data.site("tool").xpos, data.site("S_target").xpos
    left = _distance(nail, data.site("nail_goal").xpos)
    reward = -0.1 * _distance(data.site("S_grasp").xpos, hammered) - _distance(head, nail) - 10 * left
    reward -= 1e-2 * float(np.linalg.norm(data.qvel))
    lifted = hammered[2] > 0.04 and head[2] > 0.04
    return Outcome(reward + 2 * lifted + 25 * (left < 0.02) + 75 * (left < 0.01), False)


def pen(data: Any) -> Outcome:
    """-distance + cosine of the two pens; 10, 50 for a cosine beyond 0.9, 0.95 close by; -5 for a drop, which ends.

    Close by is within 0.075 of the goal, dropped is below a height of 0.075.
    """
    position = data.body("Object").xpos
    held = data.site("object_top").xpos - data.site("object_bottom").xpos
    wanted = data.site("target_top").xpos - data.site("target_bottom").xpos
    cosine = float(held @ wanted / (np.linalg.norm(held) * np.linalg.norm(wanted)))
    distance = _distance(position, data.site("eps_ball").xpos)
    is_close, dropped = distance < 0.075, bool(position[2] < 0.075)
    reward = -distance + cosine + 10 * (is_close and cosine > 0.9) + 50 * (is_close and cosine > 0.95)
    return Outcome(reward - 5 * dropped, dropped)


def relocate(data: Any) -> Outcome:
    """-0.1 |palm - ball|; lifted above 0.04: 1 - 0.5 |palm - target| - 0.5 |ball - target|; 10, 20 if on target.

    On target is within 0.1 and 0.05 of it.
    """
    palm, ball, target = data.site("S_grasp").xpos, data.body("Object").xpos, data.site("target").xpos
    left = _distance(ball, target)
    reward = -0.1 * _distance(palm, ball)
    if ball[2] > 0.04:
        reward += 1.0 - 0.5 * _distance(palm, target) - 0.5 * left
    return Outcome(reward + 10 * (left < 0.1) + 20 * (left < 0.05), False)


class AdroitV0(gym.Wrapper[np.ndarray, np.ndarray, Any, Any]):
    """One of D4RL's adroit tasks; the outcome of every step is D4RL's."""

    def __init__(
        self,
        simulator: str,
        outcome: Callable[[Any], Outcome],
        max_episode_steps: int,
        render_mode: str | None = None,
    ):
        gym.register_envs(gymnasium_robotics)
        super().__init__(gym.make(simulator, max_episode_steps=max_episode_steps, render_mode=render_mode))
        self._outcome = outcome

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, _, _, truncated, info = self.env.step(action)
        simulator: Any = self.env.unwrapped
        reward, terminated = self._outcome(simulator.data)
        return observation, float(reward), terminated, truncated, info


ENVIRONMENTS: dict[str, Callable[..., gym.Env[Any, Any]]] = {
    "door-v0": partial(AdroitV0, "AdroitHandDoor-v1", door, max_episode_steps=200),
    "hammer-v0": partial(AdroitV0, "AdroitHandHammer-v1", hammer, max_episode_steps=200),
    "pen-v0": partial(AdroitV0, "AdroitHandPen-v1", pen, max_episode_steps=100),
    "relocate-v0": partial(AdroitV0, "AdroitHandRelocate-v1", relocate, max_episode_steps=200),
}
