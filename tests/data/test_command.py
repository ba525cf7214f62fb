"""`python -m dwm_jax.data`, as a user and as forty-five jobs at once would run it."""

import importlib
import json
import logging
import multiprocessing
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest

from dwm_jax.data import d4rl_tasks, download, environments, minari_store, prepare, tasks
from dwm_jax.data.__main__ import main
from dwm_jax.data.importing import ImportOptions
from dwm_jax.runtime import interruption
from tests.data.d4rl_files import arrays_of, assert_same, make_episodes, write

ENDS = [(6, True), (9, False), (5, True)]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def hopper(seed=0):
    return make_episodes(ENDS, 11, 3, seed)


@pytest.fixture
def file(tmp_path):
    """A file of Hopper's sizes that names its environment."""
    return write(tmp_path / "mine.hdf5", arrays_of(hopper()), "Hopper-v5")


@pytest.fixture
def command(capsys):
    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


def test_a_file_becomes_a_task(command, file):
    code, out, err = command("prepare", "hopper-mine", "--file", file)
    assert (code, err) == (0, "")
    assert "hopper-mine: made, 20 steps in 3 episodes" in out
    task = tasks.get_task("hopper-mine", num_steps=1, seed=0)
    assert_same(task.load_episodes(), hopper())
    assert task.reference_scores == (-20.272305, 3234.3)
    assert task.return_scale == 400
    assert task.make_env().spec.id == "Hopper-v5"
    provenance = minari_store.read_stored("hopper-mine-v0").provenance
    (source,) = provenance["sources"]
    assert source == {"file": "mine.hdf5", "bytes": file.stat().st_size, "sha256": download.file_digest(file)}
    assert minari.load_dataset("hopper-mine-v0").recover_environment(eval_env=True).spec.id == "Hopper-v5"


def test_several_files_are_one_data_set_in_their_order(command, file, tmp_path):
    other = write(tmp_path / "expert.hdf5", arrays_of(hopper(1)), "Hopper-v5")
    assert command("prepare", "both", "--file", file, "--file", other)[0] == 0
    assert_same(minari_store.read_episodes("both-v0"), hopper() + hopper(1))


def test_an_environment_can_be_given_and_a_d4rl_name_brings_its_own(command, tmp_path):
    nameless = write(tmp_path / "nameless.hdf5", arrays_of(hopper()))
    assert command("prepare", "mine", "--file", nameless, "--env", "Hopper-v4")[0] == 0
    assert minari_store.read_stored("mine-v0").environment == "Hopper-v4"
    assert command("prepare", "hopper-medium-v2", "--file", nameless)[0] == 0
    assert minari_store.read_stored("hopper-medium-v2").environment == "Hopper-v4"


def test_whoever_waited_for_another_of_the_same_name_is_told_that_its_files_were_others(
    command, file, tmp_path, monkeypatch
):
    other = write(tmp_path / "other.hdf5", arrays_of(hopper(1)), "Hopper-v5")
    make_once = minari_store.make_once

    def be_slow(dataset_id, make):
        # Both have found the name free; the other one is first at the lock.
        monkeypatch.setattr(minari_store, "make_once", make_once)
        assert command("prepare", "mine", "--file", other)[0] == 0
        return make_once(dataset_id, make)

    monkeypatch.setattr(minari_store, "make_once", be_slow)
    code, _, err = command("prepare", "mine", "--file", file)
    assert code == 1
    assert "made from other files; choose another name, or remove that folder" in err


def test_preparing_again_does_nothing_and_other_files_are_refused(command, file, tmp_path):
    command("prepare", "mine", "--file", file)
    code, out, _ = command("prepare", "mine", "--file", file)
    assert code == 0
    assert "mine: there already" in out
    other = write(tmp_path / "other.hdf5", arrays_of(hopper(1)), "Hopper-v5")
    code, _, err = command("prepare", "mine", "--file", other)
    assert code == 1
    assert "made from other files; choose another name, or remove that folder" in err
    code, _, err = command("prepare", "mine", "--file", file, "--env", "Hopper-v4")
    assert code == 1
    assert "is evaluated in Hopper-v5, not Hopper-v4" in err


def test_an_empty_name_of_the_folder_of_data_sets_is_said_to_be_one(command, file, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", "")
    line = "error: MINARI_DATASETS_PATH is empty; name a folder for data sets, or unset it for Minari's own\n"
    for given in (["list"], ["prepare", "mine", "--file", file, "--env", "json:Mine-v0"]):
        code, _, err = command(*given)
        assert (code, err) == (1, line)


@pytest.mark.parametrize(
    ("name", "environment", "given", "message"),
    [
        ("mine", "Hopper-v5", "Nothing-v7", "'Nothing-v7' is not an environment that Gymnasium knows here"),
        ("mine", "HalfCheetah-v5", None, "takes 6 actions, the data has 3"),
        ("walker2d-medium-v2", "Hopper-v5", None, "is a task of Walker2d-v4, the data one of Hopper-v5"),
        ("a name", "Hopper-v5", None, "'a name' cannot name a data set"),
        ("maze2d-umaze", "Hopper-v5", None, "is generated by the training run itself"),
        (
            "mine",
            "Hopper-v2",
            None,
            "names Hopper-v2, which Gymnasium does not know here; name the environment .* or --env none",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_and_leaves_nothing(
    command, tmp_path, root, name, environment, given, message
):
    path = write(tmp_path / "data.hdf5", arrays_of(hopper()), environment)
    code, out, err = command("prepare", name, "--file", path, *(["--env", given] if given else []))
    assert (code, out) == (1, "")
    assert re.fullmatch(f"error: .*{message}.*\n", err)
    assert minari_store.local_ids() == []


def test_a_broken_file_is_refused_with_its_name_and_the_place(command, file, tmp_path):
    arrays = arrays_of(hopper())
    arrays["rewards"][7] = np.nan
    broken = write(tmp_path / "broken.hdf5", arrays, "Hopper-v5")
    code, _, err = command("prepare", "mine", "--file", file, "--file", broken)
    assert code == 1
    assert err == f"error: {broken}: rewards[7] is nan (row 7; 1 such row(s)); data must be finite\n"


def test_prepare_tells_the_rewards_before_and_after(command, tmp_path):
    arrays = arrays_of(hopper()) | {"next_observations": None}
    arrays["rewards"] = np.where(arrays["terminals"], 1.0, 0.0)
    arrays["rewards"][np.argmax(arrays["timeouts"])] = 5
    path = write(tmp_path / "sparse.hdf5", arrays, "Hopper-v5")
    code, out, _ = command("prepare", "mine", "--file", path)
    assert code == 0
    assert "sparse.hdf5: sum of rewards 7 in the file, 2 kept" in out
    assert "1 truncated episodes lose their last transition (rewards 5 in all)" in out


def test_a_file_of_whose_rewards_nothing_is_left_is_refused(command, tmp_path, root):
    arrays = arrays_of(hopper()) | {"next_observations": None}
    arrays["rewards"] = np.where(arrays["timeouts"], 1.0, 0.0)
    path = write(tmp_path / "sparse.hdf5", arrays, "Hopper-v5")
    code, _, err = command("prepare", "mine", "--file", path)
    assert code == 1
    assert f"{path}: the rewards add up to 1 and all of them are in transitions that cannot be kept" in err
    assert minari_store.local_ids() == []


@pytest.mark.parametrize(("kept", "code"), [(None, 1), ("next_observations", 0)])
def test_data_that_an_earlier_version_converted_with_loss_is_refused(command, tmp_path, root, kept, code):
    arrays = arrays_of(hopper())
    arrays["next_observations"] = arrays["next_observations"] if kept else None
    command("prepare", "mine", "--file", write(tmp_path / "old.hdf5", arrays, "Hopper-v5"))
    path = root / "mine-v0" / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    for finding in metadata["dwm_jax"]["findings"]:
        for key in [key for key in finding if key.startswith(("reward_", "dropped_", "terminals_"))]:
            del finding[key]
    path.write_text(json.dumps(metadata))
    actual, out, err = command("check", "mine")
    assert actual == code, out + err
    if code:
        assert "converted by an earlier version" in out + err
        assert "converted by an earlier version" in command("prepare", "mine", "--file", tmp_path / "old.hdf5")[2]


@pytest.mark.parametrize("options", [[], ["--env", "none"]])
def test_a_world_model_needs_no_environment(command, tmp_path, options):
    nameless = write(tmp_path / "nameless.hdf5", arrays_of(hopper()))
    code, out, _ = command("prepare", "mine", "--file", nameless, *options)
    assert code == 0
    assert "no environment is named: it trains world models; policies need one (--env)" in out
    assert_same(tasks.get_task("mine", num_steps=1, seed=0).load_episodes(), hopper())
    code, out, _ = command("check", "mine")
    assert code == 0
    assert re.search("note +environment +none is named", out)
    assert "none named; it trains world models" in command("show", "mine")[1]


ONES_OWN = """
import gymnasium as gym
import numpy as np


class Mine(gym.Env):
    observation_space = gym.spaces.Box(-9, 9, (11,))
    action_space = gym.spaces.Box({low}, {high}, (3,), np.float32)

    def __init__(self, size=1):
        self.size = size

    def reset(self, *, seed=None, options=None):
        return np.zeros(11, np.float32), {{}}

    def step(self, action):
        return np.zeros(11, np.float32), float(action[0]), False, False, {{}}


gym.register("Mine-v0", Mine, max_episode_steps={clock})
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of one's own that registers Mine-v0, which takes no render_mode; returns the module's name."""
    written = []

    def write_module(low=-1, high=1, clock=7):
        name = f"ones_own_{len(written)}_{os.getpid()}"
        (tmp_path / f"{name}.py").write_text(ONES_OWN.format(low=low, high=high, clock=clock))
        monkeypatch.syspath_prepend(str(tmp_path))
        written.append(name)
        return name

    yield write_module
    gym.registry.pop("Mine-v0", None)
    for name in written:
        sys.modules.pop(name, None)


def test_an_environment_of_ones_own_is_found_by_its_module(command, tmp_path, module):
    path, name = write(tmp_path / "a.hdf5", arrays_of(hopper())), module()
    assert "Mine-v0" not in gym.registry
    assert command("prepare", "mine", "--file", path, "--env", f"{name}:Mine-v0")[0] == 0
    env = tasks.get_task("mine", num_steps=1, seed=0).make_env()
    env.reset(seed=0)
    assert env.step(np.array([0.5, 0, 0], np.float32))[1] == 0.5
    assert environments.clock_of(env) == 7
    _, out, _ = command("check", "mine")
    assert re.search("WRONG +episode boundaries .*the environment's clock allows 7", out)
    assert re.search("ok +environment", out)


@pytest.mark.parametrize("arguments", [{}, {"size": len}])
def test_an_environment_may_be_registered_by_a_class_and_with_functions(command, tmp_path, module, arguments):
    mine = importlib.import_module(module()).Mine
    gym.registry.pop("Mine-v0")
    gym.register("Mine-v0", mine, max_episode_steps=7, kwargs=arguments)  # as a plugin of Gymnasium may, at its import
    path = write(tmp_path / "a.hdf5", arrays_of(hopper()))
    assert command("prepare", "mine", "--file", path, "--env", "Mine-v0")[0] == 0
    env = tasks.get_task("mine", num_steps=1, seed=0).make_env()
    assert env.unwrapped.size == arguments.get("size", 1)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ("nothing_of_the_kind:Mine-v0", "module 'nothing_of_the_kind' cannot be imported here: ModuleNotFoundError"),
        ("leaving:Mine-v0", "module 'leaving' cannot be imported here: SystemExit: 0"),
        ("json:Mine-v0", "'json:Mine-v0' is not an environment that Gymnasium knows here"),
    ],
)
def test_a_module_that_is_not_there_or_registers_nothing_is_one_line(
    command, tmp_path, monkeypatch, environment, message
):
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    path = write(tmp_path / "a.hdf5", arrays_of(hopper()))
    code, _, err = command("prepare", "mine", "--file", path, "--env", environment)
    assert (code, err.count("\n")) == (1, 1)
    assert message in err


def test_an_environment_without_a_clock_is_refused_until_it_is_given_one(command, tmp_path, module):
    path = write(tmp_path / "a.hdf5", arrays_of(hopper()))
    given = ["prepare", "mine", "--file", path, "--env", f"{module(clock=None)}:Mine-v0"]
    code, _, err = command(*given)
    assert code == 1
    assert "has no clock, and an evaluation in it might never end" in err
    assert command(*given, "--max-episode-steps", "9")[0] == 0
    assert environments.clock_of(tasks.get_task("mine", num_steps=1, seed=0).make_env()) == 9
    assert "was made with max episode steps 9, not 8" in command(*given, "--max-episode-steps", "8")[2]


def beyond(tmp_path, excess=0.5):
    arrays = arrays_of(hopper())
    arrays["actions"][3, 1] = 1 + excess
    return arrays, write(tmp_path / "beyond.hdf5", arrays, "Hopper-v5")


def test_actions_beyond_their_bounds_are_clipped_where_that_is_asked_for(command, tmp_path):
    arrays, path = beyond(tmp_path)
    code, _, err = command("prepare", "mine", "--file", path)
    assert code == 1
    assert "1 of 20 actions lie beyond [-1, 1], by up to 0.5" in err
    assert "--actions clip" in err
    assert "--actions scale" in err
    code, out, _ = command("prepare", "mine", "--file", path, "--actions", "clip")
    assert code == 0
    assert "1 actions clipped to [-1, 1], by up to 0.5\n" in out
    episodes = minari_store.read_episodes("mine-v0")
    np.testing.assert_array_equal(np.concatenate([e.actions for e in episodes]), np.clip(arrays["actions"], -1, 1))
    assert (
        "was made with actions clip, not scale" in command("prepare", "mine", "--file", path, "--actions", "scale")[2]
    )


def test_actions_in_the_environments_units_are_scaled_by_its_bounds(command, tmp_path, module):
    arrays = arrays_of(hopper())
    path = write(tmp_path / "a.hdf5", arrays | {"actions": 2 * arrays["actions"] + 1})
    given = ["prepare", "mine", "--file", path, "--env", f"{module(low=-1, high=3)}:Mine-v0"]
    code, _, err = command(*given)
    assert code == 1
    assert "--actions scale" in err
    code, out, _ = command(*given, "--actions", "scale")
    assert code == 0
    assert "actions scaled to [-1, 1] from [[-1.0, -1.0, -1.0], [3.0, 3.0, 3.0]]" in out
    task = tasks.get_task("mine", num_steps=1, seed=0)
    stored = np.concatenate([e.actions for e in task.load_episodes()])
    np.testing.assert_allclose(stored, arrays["actions"], atol=1e-6)
    env = task.make_env()
    env.reset()
    assert env.step(np.array([0.5, 0, 0], np.float32))[1] == pytest.approx(2.0)  # 1 + 2 x 0.5


def test_actions_without_bounds_are_scaled_by_what_is_recorded(command, tmp_path, module):
    arrays = arrays_of(hopper())
    arrays["actions"] = 10 * arrays["actions"]
    arrays["actions"][:, 2] = 4  # one that never changes
    path = write(tmp_path / "a.hdf5", arrays)
    given = ["prepare", "mine", "--file", path, "--env", f"{module(low='-np.inf', high='np.inf')}:Mine-v0"]
    assert "--actions scale" in command(*given)[2]
    assert command(*given, "--actions", "scale")[0] == 0
    task = tasks.get_task("mine", num_steps=1, seed=0)
    stored = np.concatenate([e.actions for e in task.load_episodes()])
    np.testing.assert_allclose(stored[:, :2].min(axis=0), -1, atol=1e-6)
    np.testing.assert_allclose(stored[:, :2].max(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(stored[:, 2], 0)
    env = task.make_env()
    env.reset()
    largest = arrays["actions"][:, 0].max()
    assert env.step(np.ones(3, np.float32))[1] == pytest.approx(float(largest), rel=1e-6)


def point_maze_file(tmp_path, paid):
    """Two walks over umaze's goal cell (1, 1); `paid` says whose rewards: the state's before, or after the step."""
    columns = np.concatenate([np.linspace(3, 1, 21), np.linspace(1, 3, 21)])
    observations = np.stack([np.ones(42), columns, np.zeros(42), np.zeros(42)], axis=1).astype(np.float32)
    at_goal = (np.abs(columns - 1) <= 0.5).astype(np.float32)
    timeouts = np.zeros(42, bool)
    timeouts[[20, 41]] = True
    rewards = {"before": at_goal, "after": np.append(at_goal[1:], 0), "neither": np.arange(42) % 2}[paid]
    arrays = {
        "observations": observations,
        "actions": np.zeros((42, 2), np.float32),
        "rewards": rewards,
        "terminals": np.zeros(42, bool),
        "timeouts": timeouts,
    }
    arrays["actions"][::2] = 0.5
    return write(tmp_path / f"maze-{paid}.hdf5", arrays), at_goal, rewards


@pytest.mark.parametrize("paid", ["before", "after", "neither"])
def test_maze2d_files_are_paid_as_the_environment_pays(command, tmp_path, paid):
    path, at_goal, rewards = point_maze_file(tmp_path, paid)
    code, out, _ = command("prepare", "maze2d-umaze-v1", "--file", path)
    assert code == 0
    first, second = minari_store.read_episodes("maze2d-umaze-v1")
    expected = at_goal if paid != "neither" else rewards
    np.testing.assert_array_equal(first.rewards, expected[1:21])
    np.testing.assert_array_equal(second.rewards, expected[22:42])
    is_moved = paid != "after"
    said = "rewards in the file belong to states (reward[t] to observations[t])"
    assert (said in out) == is_moved
    assert (said in command("show", "maze2d-umaze-v1")[1]) == is_moved


def test_maze2d_time_outs_may_be_ignored_for_the_clock(command, tmp_path, module):
    # State 20 is recorded twice over the first time-out: the recording goes on there.
    path, at_goal, _ = point_maze_file(tmp_path, "before")
    assert command("prepare", "maze2d-umaze-v1", "--file", path, "--timeouts", "clock")[0] == 0
    (only,) = minari_store.read_episodes("maze2d-umaze-v1")
    np.testing.assert_array_equal(only.rewards, at_goal[1:])
    assert not only.terminated
    assert "was made with timeouts clock" not in command("prepare", "maze2d-umaze-v1", "--file", path)[2]


def test_the_clock_cuts_without_losing_a_transition(command, tmp_path, module):
    arrays = arrays_of(make_episodes([(20, False)], 11, 3)) | {"next_observations": None}
    path = write(tmp_path / "long.hdf5", arrays)
    given = ["prepare", "mine", "--file", path, "--env", f"{module(clock=8)}:Mine-v0", "--timeouts", "clock"]
    assert command(*given)[0] == 0
    episodes = minari_store.read_episodes("mine-v0")
    assert [len(e.actions) for e in episodes] == [8, 8, 3]  # the last row's next observation is unknown
    np.testing.assert_array_equal(np.concatenate([e.rewards for e in episodes]), arrays["rewards"][:19])
    np.testing.assert_array_equal(episodes[0].observations[-1], episodes[1].observations[0])


def test_a_file_whose_terminals_flag_every_end_needs_no_time_outs_where_that_is_said(command, tmp_path):
    episodes = make_episodes([(6, True), (5, True)], 60, 9)
    arrays = arrays_of(episodes) | {"next_observations": None, "timeouts": None}
    path = write(tmp_path / "kitchen.hdf5", arrays)
    assert "say `--timeouts none` if terminals flag every end" in command("prepare", "mine", "--file", path)[2]
    for name, said in (("mine", ["--timeouts", "none"]), ("kitchen-partial-v0", [])):
        assert command("prepare", name, "--file", path, *said)[0] == 0
        read = minari_store.read_episodes(minari_store.local_id(name))
        assert [(len(e.actions), e.terminated) for e in read] == [(6, True), (5, True)]
    assert "there already" in command("prepare", "kitchen-partial-v0", "--file", path)[1]


def test_options_that_would_change_nothing_of_the_files_are_refused(command, file, root, tmp_path):
    def refused(*arguments):
        code, _, err = command("prepare", "other", *arguments)
        assert code == 1
        assert minari_store.local_ids() == ["mine-v0"]
        return err

    assert command("prepare", "mine", "--file", file)[0] == 0
    folder = root / "mine-v0"
    # Of the three episodes the second was truncated.
    assert "--timeouts none, but its timeouts flag 1 row(s)" in refused("--file", file, "--timeouts", "none")
    assert "--timeouts is for files in D4RL's layout" in refused("--file", folder, "--timeouts", "clock")
    assert "--actions scale, but its actions were brought to [-1, 1]" in refused("--file", folder, "--actions", "scale")
    for place in (file, folder):
        err = refused("--file", place, "--env", "none", "--max-episode-steps", "9")
        assert "--max-episode-steps is for an environment, and none is named" in err


def test_the_size_of_gyms_old_ant_is_recognised(command, tmp_path):
    path = write(tmp_path / "ant.hdf5", arrays_of(make_episodes(ENDS, 111, 8)), "Ant-v4")
    code, _, err = command("prepare", "mine", "--file", path)
    assert code == 1
    assert "gives 27 observations, the data has 111, as gym's Ant of D4RL's time had with 84 contact forces" in err
    code, out, _ = command("prepare", "ant-medium-v2", "--file", path)
    assert code == 0
    assert "no environment is named: it trains world models" in out


def test_files_of_different_robots_are_refused(command, file, tmp_path):
    other = write(tmp_path / "cheetah.hdf5", arrays_of(make_episodes(ENDS, 17, 6)), "HalfCheetah-v5")
    code, _, err = command("prepare", "mine", "--file", file, "--file", other)
    assert code == 1
    assert "'mine.hdf5': 'Hopper-v5', 'cheetah.hdf5': 'HalfCheetah-v5'" in err
    code, _, err = command("prepare", "mine", "--file", file, "--file", other, "--env", "Hopper-v5")
    assert code == 1
    assert "observation and action sizes differ: [(11, 3), (17, 6)]" in err


def test_a_folder_of_minari_episodes_is_imported_with_an_environment_of_ones_own(command, tmp_path, monkeypatch, root):
    space = gym.spaces.Dict(
        {
            "observation": gym.spaces.Box(-9, 9, (4,)),
            "desired_goal": gym.spaces.Box(-9, 9, (2,)),
            "achieved_goal": gym.spaces.Box(-9, 9, (2,)),
        }
    )
    episodes = make_episodes(ENDS, 8, 2)
    buffers = [
        minari.data_collector.EpisodeBuffer(
            observations={
                "achieved_goal": e.observations[:, :2],
                "desired_goal": e.observations[:, 2:4],
                "observation": e.observations[:, 4:],
            },
            actions=e.actions,
            rewards=e.rewards,
            terminations=(np.arange(len(e.actions)) == len(e.actions) - 1) & e.terminated,
            truncations=np.zeros(len(e.actions), bool),
        )
        for e in episodes
    ]
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "elsewhere"))
    minari.create_dataset_from_buffers(
        "someones-v0", buffers, observation_space=space, action_space=gym.spaces.Box(-1, 1, (2,))
    )
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    folder = tmp_path / "elsewhere" / "someones-v0"

    assert command("prepare", "maze", "--file", folder, "--env", "PointMaze_UMaze-v3")[0] == 0
    task = tasks.get_task("maze", num_steps=1, seed=0)
    assert_same(task.load_episodes(), episodes)
    # The goal stays in the observation, in the order of the data: achieved, desired, observation.
    env = task.make_env()
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation[2:4], env.unwrapped.goal)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("rewards", np.nan, r"episode 1: rewards\[0\] is nan; data must be finite"),
        ("observations", 1e300, r"episode 1: observations\[0, 0\] is inf; data must be finite"),
    ],
)
def test_a_folder_with_what_is_not_finite_is_refused_as_a_file_is(
    command, tmp_path, monkeypatch, root, field, value, said
):
    first, second = make_episodes([(3, True), (4, True)], 2, 1)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "elsewhere"))
    minari.create_dataset_from_buffers(
        "someones-v0",
        [
            minari.data_collector.EpisodeBuffer(
                observations=e.observations,
                actions=e.actions,
                rewards=e.rewards,
                terminations=np.arange(len(e.actions)) == len(e.actions) - 1,
                truncations=np.zeros(len(e.actions), bool),
            )
            for e in (first, second._replace(**{field: np.full(getattr(second, field).shape, value)}))
        ],
        observation_space=gym.spaces.Box(-9, 9, (2,), np.float64),
        action_space=gym.spaces.Box(-1, 1, (1,)),
    )
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    folder = tmp_path / "elsewhere" / "someones-v0"
    code, _, err = command("prepare", "mine", "--file", folder)
    assert code == 1
    assert re.fullmatch(f"error: {folder}/data, {said}", err.strip())
    assert not (root / "mine-v0").exists()


def test_a_d4rl_name_is_downloaded_once_and_its_file_removed(command, file, monkeypatch, root):
    asked = []

    def fetch(urls, target, on_progress, known):
        asked.append(urls)
        assert known == d4rl_tasks.read_checksums()["hopper_medium-v2.hdf5"]
        target.parent.mkdir(parents=True)
        shutil.copy(file, target)
        return urls[1]

    monkeypatch.setattr(download, "fetch", fetch)
    assert command("prepare", "hopper-medium-v2")[0] == 0
    assert command("prepare", "hopper-medium-v2")[0] == 0
    assert asked == [d4rl_tasks.D4RL_TASKS["hopper-medium-v2"].urls]
    (source,) = minari_store.read_stored("hopper-medium-v2").provenance["sources"]
    assert source["url"] == asked[0][1]
    assert source["sha256"] == download.file_digest(file)
    assert list((root / ".downloads").iterdir()) == []


def test_a_download_outlives_an_interrupt_while_its_data_set_is_written(command, file, monkeypatch, root):
    asked = []

    def fetch(urls, target, on_progress, known):
        asked.append(urls)
        target.parent.mkdir(parents=True)
        shutil.copy(file, target)
        return urls[0]

    def interrupted(*_):
        raise interruption.Interrupted(signal.SIGINT)

    known = download.Known(file.stat().st_size, download.file_digest(file))
    monkeypatch.setattr(prepare, "read_checksums", lambda: {"hopper_medium-v2.hdf5": known})
    monkeypatch.setattr(download, "fetch", fetch)
    with monkeypatch.context() as patch:
        patch.setattr(minari_store, "_buffers", interrupted)
        assert command("prepare", "hopper-medium-v2")[0] == 130
    assert command("prepare", "hopper-medium-v2")[0] == 0
    assert len(asked) == 1
    assert list((root / ".downloads").iterdir()) == []


def test_a_file_under_d4rls_name_is_called_d4rls_only_where_it_is(command, file, monkeypatch):
    said = "not D4RL's file, though it has its name"
    assert said in command("prepare", "hopper-medium-v2", "--file", file)[1]
    assert said in command("show", "hopper-medium-v2")[1]
    assert tasks.get_task("hopper-medium-v2", num_steps=1, seed=0).origin == "not D4RL's file"

    known = download.Known(file.stat().st_size, download.file_digest(file))
    monkeypatch.setattr(d4rl_tasks, "read_checksums", lambda: {"hopper_expert-v2.hdf5": known})
    assert "D4RL" not in command("prepare", "hopper-expert-v2", "--file", file)[1]
    assert tasks.get_task("hopper-expert-v2", num_steps=1, seed=0).origin == "D4RL's file"

    assert "nobody has published a checksum" in command("prepare", "hopper-random-v2", "--file", file)[1]
    assert "D4RL" not in command("prepare", "mine", "--file", file)[1]
    assert tasks.get_task("mine", num_steps=1, seed=0).origin is None


def test_the_checksums_are_those_of_the_tasks_files():
    known = d4rl_tasks.read_checksums()
    assert len(known) == 38
    assert all(re.fullmatch("[0-9a-f]{64}", k.sha256) and k.size > 2_000_000 for k in known.values())
    assert {task.file for task in d4rl_tasks.D4RL_TASKS.values()} >= set(known)
    assert known["hopper_medium-v2.hdf5"].size == 152_756_557


def test_when_no_mirror_answers_one_line_names_the_way_out(command, monkeypatch):
    task = d4rl_tasks.D4RL_TASKS["hopper-medium-v2"]._replace(urls=("http://127.0.0.1:1/hopper.hdf5",))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(d4rl_tasks.D4RL_TASKS, "hopper-medium-v2", task)
    code, _, err = command("prepare", "hopper-medium-v2")
    assert code == 1
    assert re.fullmatch(
        r"error: no mirror gave hopper_medium-v2.hdf5 \(127.0.0.1:1: .*\); .* name it with --file\n", err
    )


def test_options_of_a_minari_id_are_refused_before_anything_is_downloaded(monkeypatch):
    monkeypatch.setattr(minari, "download_dataset", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(ValueError, match="options go with files, or with a D4RL name"):
        prepare.prepare("mujoco/hopper/medium-v0", options=ImportOptions(actions="clip"))


def test_a_remote_minari_id_is_downloaded_aside_and_moved(command, file, monkeypatch, root, tmp_path):
    command("prepare", "other/hopper/test-v1", "--file", file)
    shutil.move(root / "other", tmp_path / "remote")
    roots = []

    def fake_download(dataset_id):
        roots.append(os.environ["MINARI_DATASETS_PATH"])
        shutil.copytree(tmp_path / "remote", Path(roots[0]) / "other", dirs_exist_ok=True)

    monkeypatch.setattr(minari, "download_dataset", fake_download)
    assert command("prepare", "other/hopper/test-v1")[0] == 0
    assert command("prepare", "other/hopper/test-v1")[0] == 0
    assert len(roots) == 1
    assert roots[0] != str(root)
    assert_same(minari_store.read_episodes("other/hopper/test-v1"), hopper())
    assert minari_store.local_ids() == ["other/hopper/test-v1"]


def test_a_remote_that_fails_is_one_line_with_the_way_out(command, monkeypatch, caplog):
    def fails(dataset_id):
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(minari, "download_dataset", fails)
    code, _, err = command("prepare", "mujoco/hopper/medium-v0")
    assert code == 1
    assert err.splitlines() == [
        "Minari looks for mujoco/hopper/medium-v0 at its server, several times where that does not answer",
        "error: Minari could not download 'mujoco/hopper/medium-v0' (ConnectionError: no route to host); have it "
        "downloaded elsewhere (minari download mujoco/hopper/medium-v0) and name its folder with --file",
    ]
    assert not caplog.records


@pytest.mark.parametrize("flag", ["--env", "--file"])
def test_an_empty_argument_is_refused(flag, file, capsys):
    with pytest.raises(SystemExit) as left:
        main(["prepare", "mine", "--file", str(file), flag, ""])
    assert left.value.code == 2
    assert f"error: argument {flag}: it is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [("prepare", "mine", "--file=~/mine.hdf5"), ("show", "mine", "--picture=~/mine.png")]
)
def test_a_tilde_that_the_shell_has_left_alone_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main([*arguments])
    assert left.value.code == 2
    assert f"error: argument {arguments[2][: arguments[2].index('=')]}: ~/mine." in capsys.readouterr().err


def test_what_might_never_end_is_no_file(command, tmp_path):
    os.mkfifo(tmp_path / "pipe.hdf5")
    for path in ("/dev/zero", tmp_path / "pipe.hdf5"):
        code, _, err = command("prepare", "mine", "--file", path)
        assert (code, err) == (1, f"error: {path}: a device, a pipe or the like; --file takes a file or a folder\n")


def test_a_file_that_cannot_be_read_is_named(command, file, monkeypatch):
    def fails(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(download, "file_digest", fails)
    code, _, err = command("prepare", "mine", "--file", file)
    assert (code, err) == (1, f"error: {file} cannot be read: Input/output error\n")


def test_a_name_that_is_nearly_known_is_asked_for(command, monkeypatch):
    def fails(dataset_id):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(minari, "download_dataset", fails)
    assert "did you mean 'hopper-medium-v2'? known names are " in command("prepare", "hoper-medium")[2]
    # This might be an id of Minari's.
    assert "no route to host); did you mean 'hopper-medium-v2'? have it " in command("prepare", "hoper-medium-v2")[2]


@pytest.mark.parametrize("verb", ["prepare", "check", "show"])
def test_an_unknown_name_is_refused(command, verb):
    code, out, err = command(verb, "nothing")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "nothing" in err


@pytest.mark.parametrize(
    "arguments", [[], ["bake"], ["prepare"], ["prepare", "x-v0", "--env", "Hopper-v4"], ["list", "--file", "x"]]
)
def test_wrong_usage_is_code_two(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for word in ("prepare hopper-medium-v2 --file", "terminals", "timeouts", "MINARI_DATASETS_PATH", "exit codes"):
        assert word in out


def test_list_tells_what_is_prepared(command, file):
    command("prepare", "hopper-medium-v2", "--file", file)
    command("prepare", "mine", "--file", file)
    code, out, _ = command("list")
    assert code == 0
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines() if "  " in line)
    assert lines["maze2d-umaze"] == "made on the spot"
    assert lines["hopper-medium-v2"] == "20 steps in 3 episodes"
    assert lines["walker2d-medium-v2"] == "not prepared"
    assert lines["kitchen-mixed-v0"] == "not prepared, for world models alone"
    assert lines["mine-v0"] == "20 steps in 3 episodes"


@pytest.mark.parametrize("left", [None, "", "{", "[]", '{"total_steps": "many"}'])
def test_list_tells_of_a_broken_folder_and_goes_on(command, file, root, left):
    command("prepare", "mine", "--file", file)
    broken = root / "broken-v0" / "data"
    broken.mkdir(parents=True)
    if left is not None:
        (broken / "metadata.json").write_text(left)
    code, out, _ = command("list")
    assert code == 0
    assert re.search(r"broken-v0 +unreadable: .*; remove .*broken-v0", out)
    assert re.search(r"mine-v0 +20 steps in 3 episodes", out)


def test_check_passes_good_data_and_fails_bad_data(command, file, tmp_path, root):
    command("prepare", "good", "--file", file)
    code, out, err = command("check", "good")
    assert (code, err) == (0, "")
    assert out.endswith("good: in order\n")
    assert "WRONG" not in out

    arrays = arrays_of(hopper())
    arrays["next_observations"][2] += 1
    command("prepare", "bad", "--file", write(tmp_path / "bad.hdf5", arrays, "Hopper-v5"))
    code, out, _ = command("check", "bad")
    assert code == 1
    assert "bad.hdf5: at 1 row(s), first row 2" in out
    assert out.endswith("bad: wrong: continuity\n")

    (root / "good-v0" / "data" / "main_data.hdf5").write_bytes(b"")
    code, out, _ = command("check", "good")
    assert code == 1
    assert "cannot be read" in out


def test_check_and_show_make_maze_data_of_any_size(command, tmp_path):
    assert command("check", "maze2d-umaze", "--num-steps", "600")[0] == 0
    picture = tmp_path / "maze.png"
    code, out, _ = command("show", "maze2d-umaze", "--num-steps", "600", "--picture", picture)
    assert code == 0
    assert "600 in 2 episodes" in out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_show_prints_the_card_and_saves_the_picture(command, file, root):
    command("prepare", "mine", "--file", file)
    code, out, err = command("show", "mine")
    assert (code, err) == (0, "")
    card = dict(re.findall(r"^  (.+?)  +(.*)$", out, re.MULTILINE))
    returns = [float(e.rewards.sum()) for e in hopper()]
    assert card["steps"] == "20 in 3 episodes"
    assert card["episodes"] == "2 terminated, 1 truncated"
    assert card["lengths"] == "mean 7, median 6, from 5 to 9"
    assert card["returns"].startswith(f"mean {np.mean(returns):.1f}, ")
    assert card["return-to-go"].startswith("discount 0.99, in units of 400.0: ")
    assert card["foresight"].startswith("correlation of an episode's discounted return with its return: 0.")
    assert card["reference scores"].startswith("-20.2723 to 3234.3; the data's mean episode scores 0.00")
    assert card["environment"] == "Hopper-v5"
    assert download.file_digest(file) in card["source mine.hdf5"]
    assert (root / "mine-v0" / "card.png").read_bytes().startswith(b"\x89PNG")


def count_imports(arguments):
    """Prepares in a process of its own; returns whether it did the work."""
    root, file = arguments
    os.environ["MINARI_DATASETS_PATH"] = root
    return prepare.prepare("shared", [Path(file)])[1]


def test_many_at_once_prepare_once(file, root):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        made = pool.map(count_imports, [(str(root), str(file))] * 6, chunksize=1)
    assert sorted(made) == [False] * 5 + [True]
    assert_same(minari_store.read_episodes("shared-v0"), hopper())


def test_what_a_killed_process_left_is_cleared_away(command, file, root):
    left = root / ".partial-mine-v0" / "data"
    left.mkdir(parents=True)
    (left / "main_data.hdf5").write_bytes(b"half")
    assert not tasks.is_known("mine")
    assert command("prepare", "mine", "--file", file)[0] == 0
    assert_same(minari_store.read_episodes("mine-v0"), hopper())
    assert [path.name for path in root.iterdir() if path.is_dir()] == ["mine-v0"]


def test_an_interrupt_leaves_nothing_half_done(command, file, root, monkeypatch):
    def interrupted(*_):
        raise interruption.Interrupted(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        code, _, err = command("prepare", "mine", "--file", file)
    assert code == 130
    assert err == "stopped by SIGINT; start the same command again to go on, a download where it stopped\n"
    assert not [path for path in root.rglob("*") if path.name != ".mine-v0.lock"]
    assert command("prepare", "mine", "--file", file)[0] == 0


def test_the_metadata_is_plain_json(command, file, root):
    command("prepare", "mine", "--file", file)
    metadata = json.loads((root / "mine-v0" / "data" / "metadata.json").read_text())
    assert metadata["ref_max_score"] == 3234.3
    assert metadata["dwm_jax"]["findings"][0]["next_observations"] == "used"
    assert str(root.parent) not in json.dumps(metadata)


def test_the_command_runs_as_a_module(root, run_module):
    done = run_module("dwm_jax.data", "check", "nothing")
    assert done.returncode == 1
    assert "error: nothing is not prepared" in done.stderr


def test_a_namespace_may_be_called_as_any_folder_of_minaris(command, file):
    for name in ("data/mine", "x-v0/mine"):
        assert command("prepare", name, "--file", file)[0] == 0
    code, out, _ = command("list")
    assert code == 0
    assert "data/mine-v0 " in out
    assert "x-v0/mine-v0 " in out
    code, _, err = command("prepare", "x", "--file", file)
    assert code == 1
    assert "x-v0 is there already and holds no data set of that name; choose another name" in err


# Data that cannot be made, and recorded data, of which neither size nor seed can be chosen.
@pytest.mark.parametrize(
    ("data", "flag", "says"),
    [
        *[("maze2d-umaze", f"--num-steps={number}", "--num-steps must be") for number in (0, 2**31, -5)],
        *[("maze2d-umaze", f"--seed={number}", "--seed must be") for number in (-1, 2**32)],
        ("mine", "--num-steps=7", "--num-steps goes with data made on the spot: maze2d-umaze, "),
        *[("mine", f"--seed={n}", "--seed goes with data made on the spot: maze2d-umaze, ") for n in (3, 0)],
    ],
)
@pytest.mark.parametrize("name", ["check", "show"])
def test_a_size_or_seed_that_makes_no_data_is_a_wrong_command(name, data, flag, says, capsys):
    with pytest.raises(SystemExit) as left:
        main([name, data, flag])
    assert left.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("total", "line"), [(4_000, "downloaded 1,000 of 4,000 bytes"), (None, "downloaded 1,000 bytes")]
)
def test_a_download_tells_how_far_it_is_where_its_size_is_known(command, file, monkeypatch, total, line):
    def fetch(urls, target, on_progress, known):
        on_progress(1_000, total)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        return urls[0]

    monkeypatch.setattr(download, "fetch", fetch)
    code, _, err = command("prepare", "hopper-medium-v2")
    assert (code, err) == (0, f"{line}\n")


def test_a_name_too_long_for_a_folder_is_no_task():
    assert not tasks.is_known("a" * 300)
