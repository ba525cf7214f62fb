"""What a run is refused for before anything is computed: the environment of its evaluation, what lies in its folder."""

import errno
import os
import re

import gymnasium as gym
import numpy as np
import pytest

from dwm_jax import workdir
from dwm_jax.config import ConfigError
from dwm_jax.data import environments
from dwm_jax.data.dataset import flatten
from dwm_jax.data.tasks import Task
from dwm_jax.runtime import files
from dwm_jax.runtime.files import UnreadableError
from dwm_jax.runtime.row_files import JsonLines
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

    def set_task(make_env, has_environment=True, reward=1.0):
        def load_episodes():
            read.append(True)
            return [e._replace(rewards=reward * e.rewards) for e in make_episodes([(6, True)] * 4)]

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


def test_data_that_cannot_be_learnt_from_is_a_wrong_command(task):
    task(nowhere, has_environment=False, reward=np.nan)
    with pytest.raises(
        ConfigError, match=r"^the data of mine is not in order: episode 0: rewards\[0\] is nan; data must"
    ):
        load_recording(tiny.config(methods="DWM"))


def test_a_folder_of_data_sets_that_is_none_is_not_taken_for_data_out_of_order(task, monkeypatch):
    task(clocked)
    monkeypatch.setenv("MINARI_DATASETS_PATH", "")
    with pytest.raises(ConfigError, match=r"^MINARI_DATASETS_PATH is empty; name a folder"):
        load_recording(tiny.config(methods="DWM"))


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
    workdir.print_asked_return(config, dataset)
    line = capsys.readouterr().err
    assert line.startswith(said)
    assert ("extrapolates" in line) == (ask == "constant" and asked == 9)


@pytest.mark.parametrize(
    ("methods", "key", "value", "line"),
    [
        # Four episodes of six transitions; of the world model's segments, one begins at each of those it learns from.
        ("TD3+BC", "policy.batch_size", 25, "the data has 24 transitions"),
        ("DWM", "world_models.dwm.batch_size", 19, "the data has 18 segments to learn from"),
    ],
)
def test_a_batch_that_would_hold_all_of_the_data_several_times_is_refused(task, methods, key, value, line):
    task(clocked)
    load_recording(tiny.config(methods=methods, **{key.replace(".", "__"): value - 1}))
    with pytest.raises(ConfigError, match=rf"^{key}={value} is not allowed: {line}; ask for no more, or record more$"):
        load_recording(tiny.config(methods=methods, **{key.replace(".", "__"): value}))


BLOCKED_FOLDERS = ["checkpoints", "policies", "figures", "checkpoints/TD3+BC", "../world_models"]
BLOCKED_FILES = ["config.json", "timing.jsonl", "results.csv", "summary.md", "horizons.json", "policies/TD3+BC.npz"]


@pytest.mark.parametrize("name", BLOCKED_FOLDERS + BLOCKED_FILES)
def test_what_has_the_name_of_an_output_is_refused_before_data_is_read(name, task, tmp_path):
    read, path = task(clocked), tmp_path / "run" / name
    (tmp_path / "run").mkdir()
    path.parent.mkdir(exist_ok=True)
    if name in BLOCKED_FOLDERS:
        path.write_text("mine")
    else:
        path.mkdir()
    with pytest.raises(ConfigError) as refusal:
        workdir.begin_run(tiny.config(methods="TD3+BC"), tmp_path / "run")
    kind = "folder, and the run keeps" if name in BLOCKED_FOLDERS else "file, and the run writes"
    remedy = "move it away, or choose another --workdir"
    shown = path.resolve() if name == "../world_models" else path
    assert str(refusal.value) == f"{shown} is no {kind} one under that name; {remedy}"
    assert not read


def test_a_link_that_leads_nowhere_is_no_folder(task, tmp_path):
    task(clocked)
    (tmp_path / "figures").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match="figures is no folder"):
        workdir.begin_run(tiny.config(methods="TD3+BC"), tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("metrics.jsonl", b"\xff\xfe\n"), ("results.csv", b"\xff\xfe\n"), ("results.csv", b"a,b\n1,2\n")],
)
def test_rows_that_cannot_be_read_are_refused_before_data_is_read_with_what_to_do(name, content, task, tmp_path):
    read = task(clocked)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableError, match=rf"{name} cannot be read: .*; move it away to go on .* --workdir$"):
        workdir.begin_run(tiny.config(methods="TD3+BC"), tmp_path)
    assert not read
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == content


def test_files_that_only_inform_stop_nothing_and_are_kept(task, tmp_path, capsys):
    task(clocked)
    config = tiny.config(methods="TD3+BC")
    workdir.begin_run(config, tmp_path)
    for name in ("starts.jsonl", "timing.jsonl"):
        (tmp_path / name).write_bytes(b"\xff\xfe\n")
    workdir.begin_run(config, tmp_path)
    said = capsys.readouterr().err
    for name in ("starts.jsonl", "timing.jsonl"):
        assert (tmp_path / f"{name}.unreadable").read_bytes() == b"\xff\xfe\n"
        assert f"; it is kept as {name}.unreadable, and a new one begun" in said
    assert len(JsonLines(tmp_path / "starts.jsonl").read()) == 1
    assert not (tmp_path / "timing.jsonl").exists()


def test_without_a_config_and_a_start_that_can_be_read_nothing_is_begun(task, tmp_path):
    task(clocked)
    (tmp_path / "starts.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(ConfigError, match=r"starts.jsonl cannot be read: .* may hold another run; choose another"):
        workdir.begin_run(tiny.config(methods="TD3+BC"), tmp_path)
    assert os.listdir(tmp_path) == ["starts.jsonl"]


def test_a_disk_that_cannot_be_written_is_refused_before_data_is_read_and_a_full_one_is_not(
    task, tmp_path, monkeypatch
):
    read, number = task(clocked), errno.EROFS

    def refuse(**_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    line = f"--workdir {tmp_path}: nothing can be written in {tmp_path}: Read-only file system; name another"
    for content in (None, "| method |"):
        if content is not None:
            (tmp_path / "summary.md").write_text(content)
            line += f"; its table is {tmp_path}/summary.md"
        with pytest.raises(ConfigError, match=f"^{re.escape(line)}$"):
            workdir.begin_run(tiny.config(methods="TD3+BC"), tmp_path)
        assert not read
    number = errno.ENOSPC
    workdir.begin_run(tiny.config(methods="TD3+BC"), tmp_path)
    assert read
