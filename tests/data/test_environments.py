"""What environments are made with beside what the data says."""

import gymnasium as gym
import mujoco
import pytest

from dwm_jax.data import environments


@pytest.mark.parametrize("name", ["Hopper-v4", "HalfCheetah-v4", "Walker2d-v4", "Ant-v5"])
def test_a_film_goes_with_the_robot(name: str) -> None:
    renderer = environments.make(name, render_mode="rgb_array").unwrapped.mujoco_renderer
    assert renderer.camera_id == mujoco.mj_name2id(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, "track") != -1


def test_a_camera_that_the_data_names_is_kept() -> None:
    spec = gym.spec("HalfCheetah-v5")
    spec.kwargs["camera_id"] = 7
    env = environments.make("HalfCheetah-v5", spec.to_json(), render_mode="rgb_array")
    assert env.unwrapped.mujoco_renderer.camera_id == 7


def test_robots_without_such_a_camera_keep_the_one_they_have() -> None:
    env = environments.make("InvertedPendulum-v5", render_mode="rgb_array")
    assert env.unwrapped.mujoco_renderer.camera_id == -1
