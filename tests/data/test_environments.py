"""What environments are made with beside what the data says."""

import gymnasium as gym
import mujoco
import numpy as np
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


@pytest.mark.parametrize(
    ("name", "own"), [("Pendulum-v1", 200), ("maze2d-umaze-v1", 300), ("antmaze-umaze-v2", 700), ("door-v0", 200)]
)
def test_a_clock_that_is_given_stands_in_place_of_the_environments_own(name: str, own: int) -> None:
    for clock in (3, own + 1):
        env = environments.make(name, clock=clock)
        env.reset(seed=0)
        action = np.zeros(env.action_space.shape, np.float32)
        assert environments.clock_of(env) == clock
        assert [env.step(action)[3] for _ in range(clock)] == [False] * (clock - 1) + [True]


def test_a_clock_that_an_environments_own_code_would_stop_before_is_refused() -> None:
    gym.register("Impatient-v0", lambda: gym.wrappers.TimeLimit(gym.make("Pendulum-v1"), 5), max_episode_steps=9)
    try:
        assert environments.facts("Impatient-v0").clock == 5
        assert environments.facts("Impatient-v0", clock=4).clock == 4
        with pytest.raises(ValueError, match=r"Impatient-v0 ends its episodes after 5 steps .* the 6 of"):
            environments.facts("Impatient-v0", clock=6)
    finally:
        gym.registry.pop("Impatient-v0")


@pytest.mark.parametrize(("name", "side"), [("antmaze-large-play-v2", 48), ("AntMaze_Medium-v4", 32)])
def test_a_film_shows_the_whole_maze_around_an_ant(name: str, side: float) -> None:
    # 12 and 8 cells of 4 along the longer side; half the picture's angle is 22.5 degrees, so that from 0.5 / tan(22.5
    # degrees) = 1.207 sides above the middle the side just fits.
    camera = environments.make(name, render_mode="rgb_array").unwrapped.ant_env.mujoco_renderer.default_cam_config
    assert camera["distance"] > 1.207 * side
    assert camera["lookat"].tolist() == [0, 0, 0]


def test_the_goal_of_an_ant_is_drawn_where_it_is_from_the_first_frame_on() -> None:
    env = environments.make("antmaze-umaze-v2", render_mode="rgb_array")
    env.reset(seed=3)
    simulator = env.unwrapped
    drawn = simulator.ant_env.data.site_xpos[simulator.target_site_id]
    np.testing.assert_allclose(drawn[:2], simulator.goal)
