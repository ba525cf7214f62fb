"""An environment that only the data's specification describes: found where its package is installed and trusted."""

import json
import sys
import warnings

import gymnasium as gym
import minari
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from minari.data_collector import EpisodeBuffer

from dwm_jax.data import environments, minari_store, tasks
from dwm_jax.data.__main__ import main
from tests.data.d4rl_files import assert_same, make_episodes

# Registers nothing, and takes no render_mode.
PACKAGE = """
import gymnasium as gym
import numpy as np


class Mine(gym.Env):
    observation_space = gym.spaces.Box(-9, 9, (3,))
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, reward=0.0):
        self.reward = reward

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return np.zeros(3, np.float32), self.reward, False, False, {}


def call(**arguments):
    raise AssertionError("called")
"""


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Makes Minari data whose specification names an entry point; returns its folder."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine_package.py").write_text(PACKAGE)

    def make(entry_point="mine_package:Mine", clock=6):
        buffers = [
            EpisodeBuffer(
                id=index,
                observations=episode.observations,
                actions=episode.actions,
                rewards=episode.rewards,
                terminations=np.arange(4) == 3,
                truncations=np.zeros(4, bool),
            )
            for index, episode in enumerate(make_episodes([(4, True)] * 3))
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            minari.create_dataset_from_buffers(
                "others-v0",
                buffers,
                observation_space=gym.spaces.Box(-np.inf, np.inf, (3,), np.float32),
                action_space=gym.spaces.Box(-1, 1, (2,), np.float32),
            )
        folder = minari_store.path_of("others-v0")
        spec = EnvSpec("Mine-v0", entry_point=entry_point, max_episode_steps=clock, kwargs={"reward": 0.25})
        path = folder / "data" / "metadata.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "env_spec": spec.to_json()}))
        return folder

    yield make
    sys.modules.pop("mine_package", None)


def test_it_is_made_where_the_user_names_its_package_with_the_datas_clock_and_arguments(data):
    assert main(["prepare", "mine", "--file", str(data()), "--env", "mine_package:Mine-v0"]) == 0
    task = tasks.get_task("mine", num_steps=1, seed=0)
    assert_same(task.load_episodes(), make_episodes([(4, True)] * 3))
    env = task.make_env()
    env.reset(seed=0)
    assert env.step(np.zeros(2, np.float32))[1] == 0.25
    assert environments.clock_of(env) == 6
    assert main(["check", "mine"]) == 0


@pytest.mark.parametrize("said", [[], ["--env", "mine_package:Mine-v0"]])
@pytest.mark.parametrize(("clock", "given"), [(6, []), (None, ["--max-episode-steps", "9"])])
def test_data_that_is_prepared_again_keeps_arguments_and_clock(data, clock, given, said):
    assert main(["prepare", "mine", "--file", str(data(clock=clock)), "--env", "mine_package:Mine-v0", *given]) == 0
    assert main(["prepare", "again", "--file", str(minari_store.path_of("mine-v0")), *said]) == 0
    env = tasks.get_task("again", num_steps=1, seed=0).make_env()
    env.reset(seed=0)
    assert env.step(np.zeros(2, np.float32))[1] == 0.25
    assert environments.clock_of(env) == (clock or 9)


def test_without_that_the_way_to_it_is_named_and_nothing_is_imported(data, capsys):
    assert main(["prepare", "mine", "--file", str(data())]) == 1
    assert "--env mine_package:Mine-v0" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"with --file and --env mine_package:Mine-v0"):
        tasks.try_environment(tasks.get_task("others-v0", num_steps=1, seed=0))
    assert "mine_package" not in sys.modules


@pytest.mark.parametrize("entry_point", ["mine_package:call", "numpy:savez", "mine_package:gone"])
def test_what_is_no_environment_of_that_package_is_not_called(data, capsys, entry_point):
    assert main(["prepare", "mine", "--file", str(data(entry_point)), "--env", "mine_package:Mine-v0"]) == 1
    assert "cannot be made here" in capsys.readouterr().err


def test_a_clock_that_neither_has_is_asked_for(data, capsys):
    given = ["prepare", "mine", "--file", str(data(clock=None)), "--env", "mine_package:Mine-v0"]
    assert main(given) == 1
    assert "has no clock, and an evaluation in it might never end" in capsys.readouterr().err
    assert main([*given, "--max-episode-steps", "9"]) == 0
