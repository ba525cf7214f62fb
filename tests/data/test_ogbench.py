"""OGBench's files are read for the task in the data set's name, and paid as its environments pay."""

import sys
import types

import numpy as np
import pytest

from dwm_jax.data import minari_store, ogbench, tasks
from dwm_jax.data.__main__ import main
from dwm_jax.data.ogbench import SingleTask, read_arrays, single_task

NAME = "antmaze-large-navigate-singletask-task2-v0"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))


def published(xs):
    """Two trajectories of five rows each whose first position goes along `xs`; the goal of task 2 is (0, 24)."""
    count = len(xs)
    observations = np.stack([xs, np.full(count, 24.0)], axis=1).astype(np.float32)
    return {
        "observations": observations,
        "actions": np.linspace(-1, 1, count)[:, None].astype(np.float32),
        "terminals": (np.arange(count) % 5 == 4).astype(np.float32),
        "qpos": observations,
    }


# At the goal (0, 24) within 0.5 in rows 2, 3, and 9.
XS = np.array([2.0, 1.0, 0.4, -0.4, -1.2, 4.4, 3.4, 2.4, 1.4, 0.4])


@pytest.fixture
def path(tmp_path):
    def save(arrays):
        np.savez(tmp_path / "file.npz", **arrays)
        return tmp_path / "file.npz"

    return save


@pytest.mark.parametrize(
    ("name", "task"),
    [
        (NAME, SingleTask("antmaze-large-singletask-task2-v0", "antmaze", "large", 2)),
        ("cube-single-play-singletask-v0", SingleTask("cube-single-singletask-v0", "cube", "single", 1)),
        ("scene-play-singletask-task5-v0", SingleTask("scene-singletask-task5-v0", "scene", "", 5)),
        ("puzzle-3x3-play-singletask-v0", SingleTask("puzzle-3x3-singletask-v0", "puzzle", "3x3", 1)),
        ("antmaze-large-navigate-v0", None),
        ("hopper-medium-v2", None),
    ],
)
def test_the_task_that_a_name_says(name, task):
    assert single_task(name) == task


def test_rewards_are_paid_for_the_next_state_by_hand(path):
    arrays = read_arrays(path(published(XS)), NAME)
    # Row 1 leads to row 2, row 2 to row 3, row 8 to row 9, in which the task is done; row 4 leads nowhere.
    np.testing.assert_array_equal(np.flatnonzero(arrays.terminals), [1, 2, 8])
    np.testing.assert_array_equal(np.flatnonzero(arrays.timeouts), [4, 9])
    np.testing.assert_array_equal(arrays.rewards[[0, 1, 2, 3, 5, 6, 7, 8]], [-1, 0, 0, -1, -1, -1, -1, 0])


def test_a_published_file_becomes_a_task_that_trains_world_models(path, capsys):
    assert main(["prepare", NAME, "--file", str(path(published(XS)))]) == 0
    assert "no environment is named" in capsys.readouterr().out
    episodes = minari_store.read_episodes(NAME)
    assert [(e.rewards.tolist(), e.terminated) for e in episodes] == [
        ([-1, 0], True),
        ([-1], False),  # rows 3 and 4: behind the goal the recording goes on
        ([-1, -1, -1, 0], True),
    ]
    np.testing.assert_allclose(episodes[2].observations[:, 0], XS[5:])
    assert not tasks.get_task(NAME, num_steps=1, seed=0).has_environment


def regular(xs, *, compact):
    """What OGBench's loader returns for a single task, saved: rewards and masks of the state before."""
    arrays = published(xs)
    done = np.abs(xs) <= 0.5
    ends = arrays["terminals"].astype(bool)
    arrays |= {"rewards": (done - 1).astype(np.float32), "masks": (~done).astype(np.float32)}
    before_ends = np.append(ends[1:], True)
    if compact:
        return arrays | {"valids": 1 - arrays["terminals"], "terminals": (ends | before_ends).astype(np.float32)}
    kept = {key: array[~ends] for key, array in arrays.items()}
    following = arrays["observations"][np.append(False, ~ends[:-1])]
    return kept | {"terminals": before_ends[~ends].astype(np.float32), "next_observations": following}


@pytest.mark.parametrize("compact", [False, True])
def test_a_file_with_rewards_keeps_them(path, compact):
    # Done in rows 2 and 3 (a run), and in row 9, whose action leads nowhere.
    assert main(["prepare", "mine", "--file", str(path(regular(XS, compact=compact)))]) == 0
    episodes = minari_store.read_episodes("mine-v0")
    assert [(e.rewards.tolist(), e.terminated) for e in episodes] == [
        ([-1, -1, 0], True),
        ([-1, -1, -1, -1], False),
    ]
    np.testing.assert_allclose(episodes[1].observations[:, 0], XS[5:])


def test_other_tasks_are_paid_by_ogbench_itself(path, monkeypatch):
    name = "cube-single-play-singletask-task3-v0"
    with pytest.raises(ValueError, match="those of cube-single-singletask-task3-v0 are computed by OGBench itself"):
        read_arrays(path(published(XS)), name)

    def relabel_dataset(environment, env, arrays):
        assert environment == "cube-single-singletask-task3-v0"
        arrays["rewards"] = np.arange(10) - 10.0
        arrays["masks"] = np.array([1, 1, 1, 0, 1, 1, 1, 1, 1, 1.0])

    module = types.ModuleType("ogbench")
    utils = types.ModuleType("ogbench.relabel_utils")
    utils.relabel_dataset = relabel_dataset
    monkeypatch.setitem(sys.modules, "ogbench", module)
    monkeypatch.setitem(sys.modules, "ogbench.relabel_utils", utils)
    monkeypatch.setattr("gymnasium.make", lambda name: types.SimpleNamespace(close=lambda: None))
    arrays = read_arrays(path(published(XS)), name)
    np.testing.assert_array_equal(arrays.rewards[:4], [-9, -8, -7, -6])
    np.testing.assert_array_equal(np.flatnonzero(arrays.terminals), [2])


def test_ogbenchs_environment_is_named_where_it_is_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert ogbench.environment_of(NAME) is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert ogbench.environment_of(NAME) == "ogbench:antmaze-large-singletask-task2-v0"
    assert ogbench.environment_of("mine") is None


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (lambda a: a, "mine", "no rewards; OGBench's single-task sets have those of the task in their name"),
        (lambda a: {k: v for k, v in a.items() if k != "qpos"}, NAME, "no qpos; it holds actions, obs"),
        (lambda a: a | {"actions": a["actions"][:3]}, NAME, "arrays of different lengths"),
        (lambda a: a | {"observations": np.full((10, 2), np.nan)}, NAME, r"observations\[0, 0\] is nan"),
        (lambda a: a | {"actions": np.array([{}] * 10)}, NAME, "truncated, or not an .npz file"),
    ],
)
def test_a_broken_file_is_refused_by_name(path, change, name, message):
    file = path(change(published(XS)))
    with pytest.raises(ValueError, match=f"(?s){file}: .*{message}"):
        read_arrays(file, name)


def test_a_file_that_is_none_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.npz: no such file"):
        read_arrays(tmp_path / "gone.npz", NAME)
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ValueError, match=r"torn\.npz: truncated, or not an .npz file"):
        read_arrays(tmp_path / "torn.npz", NAME)
