"""What environments are made with beside what the data says."""

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from dwm_jax.data import environments
from dwm_jax.data.spaces import ActionRange


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
        assert environments.inspect("Impatient-v0").clock == 5
        assert environments.inspect("Impatient-v0", clock=4).clock == 4
        with pytest.raises(ValueError, match=r"Impatient-v0 ends its episodes after 5 steps .* the 6 of"):
            environments.inspect("Impatient-v0", clock=6)
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


class Echo(gym.Env):
    """Shows the action that it was given."""

    def __init__(self, action_space: gym.spaces.Box) -> None:
        self.action_space = action_space
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, action_space.shape, np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(self.action_space.shape), {}

    def step(self, action):
        assert action.dtype == self.action_space.dtype
        return action.astype(np.float64), 0.0, False, False, {}


@pytest.fixture
def echo(request: pytest.FixtureRequest):
    gym.register("Echo-v0", lambda: Echo(request.param), max_episode_steps=9)
    yield environments.make("Echo-v0", actions=ActionRange((-2.0,), (2.0,)))
    gym.registry.pop("Echo-v0")


@pytest.mark.parametrize(
    ("echo", "expected"),
    [
        # 0.3 of [-2, 2] is 0.6, of [-1, 1] is 0.3.
        (gym.spaces.Box(-2, 2, (1,), np.float64), 0.6),
        (gym.spaces.Box(-2, 2, (1,), np.int64), 1),
        # Float32's largest number is what older environments say for no bound at all: the data's bounds hold.
        (gym.spaces.Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (1,), np.float32), 0.6),
    ],
    indirect=["echo"],
)
def test_an_environment_is_given_its_own_units_and_whole_numbers_where_it_takes_them(echo, expected) -> None:
    echo.reset(seed=0)
    np.testing.assert_allclose(echo.step(np.array([0.3], np.float32))[0], [expected], rtol=1e-6)
