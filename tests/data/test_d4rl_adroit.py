"""D4RL's adroit tasks: sizes, clocks, and rewards by hand where what they depend on is seen."""

import numpy as np
import pytest

from dwm_jax.data import environments

# Observations, actions, clock.
SIZES = {"door-v0": (39, 28, 200), "hammer-v0": (46, 26, 200), "pen-v0": (45, 24, 100), "relocate-v0": (39, 30, 200)}


def stepped(name, actions=3):
    """An environment after some steps, its last observation and outcome."""
    env = environments.make(name, observation_size=SIZES[name][0])
    env.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(actions):
        outcome = env.step(rng.uniform(-1, 1, SIZES[name][1]).astype(np.float32))
    return env, *outcome[:4]


@pytest.mark.parametrize("name", SIZES)
def test_sizes_and_clock_are_d4rls(name):
    env, observation, _, terminated, truncated = stepped(name)
    assert observation.shape == (SIZES[name][0],)
    assert env.action_space.shape == (SIZES[name][1],)
    assert environments.clock_of(env) == SIZES[name][2]
    assert not terminated
    assert not truncated
    env.close()


def test_the_doors_reward_by_hand():
    # ..., door angle (28), palm (29:32), handle (32:35), palm - handle (35:38), open or not (38).
    env, o, reward, *_ = stepped("door-v0")
    angle = o[28]
    speed = float(np.sum(env.unwrapped.data.qvel**2))
    expected = -0.1 * np.linalg.norm(o[35:38]) - 0.1 * (angle - 1.57) ** 2 - 1e-5 * speed
    assert angle < 0.2  # closed: no bonus
    np.testing.assert_allclose(reward, expected, rtol=1e-6)
    env.unwrapped.data.joint("door_hinge").qpos[0] = 1.5
    _, opened, *_ = env.step(np.zeros(28, np.float32))
    assert opened - reward == pytest.approx(20, abs=0.5)  # 2 + 8 + 10
    env.close()


def test_the_balls_reward_by_hand():
    # ..., palm - ball (30:33), palm - target (33:36), ball - target (36:39).
    env, o, reward, *_ = stepped("relocate-v0")
    assert np.linalg.norm(o[36:39]) > 0.1  # on the table, away from the target: no bonus
    np.testing.assert_allclose(reward, -0.1 * np.linalg.norm(o[30:33]), rtol=1e-6)
    env.close()


def test_the_hammers_reward_by_hand():
    # hand (27), speeds (6), palm (33:36), hammer (36:39), its rotation (39:42), nail (42:45), impact.
    env, o, reward, *_ = stepped("hammer-v0")
    data = env.unwrapped.data
    goal, head = data.site("nail_goal").xpos, data.site("tool").xpos
    expected = -0.1 * np.linalg.norm(o[33:36] - o[36:39]) - np.linalg.norm(head - o[42:45])
    expected -= 10 * np.linalg.norm(o[42:45] - goal) + 0.01 * np.linalg.norm(data.qvel)
    assert o[38] < 0.04 or head[2] < 0.04  # not lifted
    np.testing.assert_allclose(reward, expected, rtol=1e-6)
    env.close()


def test_the_pens_reward_by_hand_and_its_end():
    # ..., pen (24:27), speeds (6), its direction (33:36), the wanted one (36:39), pen - goal (39:42).
    env, o, reward, terminated, _ = stepped("pen-v0")
    cosine = o[33:36] @ o[36:39] / np.linalg.norm(o[33:36]) / np.linalg.norm(o[36:39])
    bonus = 10 * (np.linalg.norm(o[39:42]) < 0.075) * (cosine > 0.9)
    np.testing.assert_allclose(reward, -np.linalg.norm(o[39:42]) + cosine + bonus, rtol=1e-5)
    assert not terminated
    data = env.unwrapped.data
    data.qpos[-6] += 0.3  # the first of its axes points down: dropped
    _, dropped, terminated, *_ = env.step(np.zeros(24, np.float32))
    assert terminated
    assert dropped < reward - 4
    env.close()
