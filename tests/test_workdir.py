"""What a run is refused for before anything is computed: the environment of its evaluation."""

import gymnasium as gym
import numpy as np
import pytest

from dwm_jax import workdir
from dwm_jax.config import ConfigError
from dwm_jax.data import environments
from dwm_jax.data.dataset import flatten
from dwm_jax.data.tasks import Task
from dwm_jax.workdir import load_recording
from tests import tiny
from tests.data.d4rl_files import make_episodes


class Still(gym.Env):
    """Never moves, never ends by itself."""

    observation_space = gym.spaces.Box(-1, 1, (3,))
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(3), {}

    def step(self, action):
        return np.zeros(3), 0.0, False, False, {}


def clocked():
    return gym.wrappers.TimeLimit(Still(), 5)


def nowhere():
    raise ValueError("mine names no environment to evaluate policies in; import it with --env ID")


@pytest.fixture
def task(monkeypatch):
    """Sets the one task there is; returns what was read of its data."""
    read = []

    def set_task(make_env, has_environment=True):
        def load_episodes():
            read.append(True)
            return make_episodes([(6, True)] * 4)

        one = Task("mine", load_episodes, make_env, None, None, has_environment=has_environment)
        monkeypatch.setattr(workdir, "get_task", lambda *_, **__: one)
        return read

    return set_task


@pytest.mark.parametrize(
    ("make_env", "message"),
    [
        (nowhere, "names no environment"),
        (Still, "the environment of mine has no clock, and an evaluation in it might never end"),
        (lambda: environments.make("Gone-v0"), "environment 'Gone-v0' cannot be made here"),
    ],
)
def test_an_environment_that_cannot_serve_is_refused_before_data_is_read(task, make_env, message):
    read = task(make_env)
    with pytest.raises(ConfigError, match=message):
        load_recording(tiny.config(methods="DWM,TD3+BC"))
    assert not read


def test_an_environment_of_other_sizes_is_refused_before_anything_is_learnt(task):
    task(lambda: gym.make("Hopper-v5"))
    with pytest.raises(ConfigError, match="has 11 observations and 3 actions, the data 3 and 2"):
        load_recording(tiny.config(methods="TD3+BC"))


def test_world_models_alone_need_no_environment(task):
    task(nowhere, has_environment=False)
    assert load_recording(tiny.config(methods="DWM,OneStep"))[1].dataset.observations.shape == (28, 3)


def test_an_environment_that_fits_is_no_obstacle(task):
    task(clocked)
    assert load_recording(tiny.config(methods="DD"))[0].name == "mine"


@pytest.mark.parametrize(
    ("ask", "asked", "said"),
    [
        ("constant", 9.0, "policies ask for a return-to-go of 9; 0.0% of the recorded ones are as high"),
        # No more than a pair can reach is asked for: nothing to extrapolate.
        ("reachable", 9.0, "policies ask for a return-to-go of at most 9; 0.0% of the recorded ones are as high"),
        ("constant", 0.5, "policies ask for a return-to-go of 0.5; 8.3% of the recorded ones are as high"),
    ],
)
def test_what_is_asked_is_held_against_the_data(ask, asked, said, capsys):
    config = tiny.config(methods="DWM-TD3BC", policy__ask=ask, policy__return_to_go=asked)
    dataset, _ = flatten(make_episodes([(6, True)] * 4), config.gamma, None)
    workdir.say_what_is_asked(config, dataset)
    line = capsys.readouterr().err
    assert line.startswith(said)
    assert ("extrapolates" in line) == (ask == "constant" and asked == 9)
