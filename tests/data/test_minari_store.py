"""Episodes in Minari's local folder."""

import errno
import os
import socket
import threading
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest
from minari.dataset.minari_storage import MinariStorage
from minari.storage.datasets_root_dir import get_dataset_path

from dwm_jax.data import tasks
from dwm_jax.data.minari_store import Contents, make_once, path_of, read_episodes
from dwm_jax.runtime import files, progress
from dwm_jax.runtime.locks import exclusive
from dwm_jax.types import Episode

ID = "dwm-test-v0"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def make_episodes(count=12):
    """More than ten, so that sorting their names as text would show; their lengths differ."""
    rng = np.random.default_rng(0)
    return [
        Episode(
            rng.normal(size=(i + 3, 2)).astype(np.float32),
            rng.uniform(-1, 1, size=(i + 2, 1)).astype(np.float32),
            rng.normal(size=i + 2).astype(np.float32),
            terminated=bool(i % 2),
        )
        for i in range(count)
    ]


def write(make=make_episodes, reference_scores=(1.5, 20.0)):
    def contents():
        return Contents(
            make(),
            observation_space=gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
            action_space=gym.spaces.Box(-1, 1, (1,), np.float32),
            reference_scores=reference_scores,
            description="random numbers",
            algorithm="none",
        )

    make_once(ID, contents)


def never():
    raise AssertionError("made again")


def test_what_is_written_is_read_in_its_order(monkeypatch):
    write()
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("reading touched the network"))
    expected = make_episodes()
    episodes = read_episodes(ID)
    assert [e.terminated for e in episodes] == [e.terminated for e in expected]
    for actual, wanted in zip(episodes, expected, strict=True):
        for a, b in zip(actual[:3], wanted[:3], strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_end_of_an_episode_is_either_a_termination_or_a_truncation():
    write()
    for episode in minari.load_dataset(ID).iterate_episodes():
        assert not episode.terminations[:-1].any()
        assert not episode.truncations[:-1].any()
        assert episode.terminations[-1] != episode.truncations[-1]


def test_a_data_set_that_is_there_is_not_made_again():
    write()
    write(never)


def test_reference_scores_are_kept_and_may_be_missing():
    write()
    metadata = minari.load_dataset(ID).storage.metadata
    assert (metadata["ref_min_score"], metadata["ref_max_score"]) == (1.5, 20.0)


def test_without_reference_scores_there_are_none_in_the_metadata():
    write(reference_scores=None)
    assert not {"ref_min_score", "ref_max_score"} & minari.load_dataset(ID).storage.metadata.keys()


def test_making_that_fails_leaves_nothing_and_can_be_repeated():
    with pytest.raises(ZeroDivisionError):
        write(lambda: 1 / 0)
    assert not get_dataset_path(ID).exists()
    write()
    assert len(read_episodes(ID)) == 12


def test_writing_that_fails_leaves_nothing_and_can_be_repeated(root, monkeypatch):
    def rename_fails(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", rename_fails)
        with pytest.raises(OSError, match="disk full"):
            write()
    assert os.environ["MINARI_DATASETS_PATH"] == str(root)
    assert not [path for path in root.iterdir() if path.is_dir()]
    write()
    assert len(read_episodes(ID)) == 12


def test_a_disk_without_room_for_the_data_is_said_before_hdf5_writes(root, monkeypatch):
    """HDF5 1.14 and 2.0 crash the process where they cannot write."""

    def disk_is_full(descriptor, offset, num_bytes):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", disk_is_full)
    monkeypatch.setattr(MinariStorage, "update_episodes", lambda *_: pytest.fail("HDF5 would have crashed"))
    with pytest.raises(files.WriteError, match=r"No space left on device.* Make room and start the same command again"):
        write()
    assert not [path for path in root.iterdir() if path.is_dir()]


def test_a_file_system_that_cannot_reserve_is_written_to(monkeypatch):
    def cannot(descriptor, offset, num_bytes):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    write()
    assert len(read_episodes(ID)) == 12


@pytest.mark.parametrize(("num_episodes", "length"), [(1, 1), (300, 1), (3, 5_000)])
def test_no_more_is_written_than_was_asked_room_for(num_episodes, length, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "posix_fallocate", lambda descriptor, offset, num_bytes: asked.append(num_bytes))
    zeros = np.zeros((length + 1, 2), np.float32)
    write(lambda: [Episode(zeros, zeros[1:, :1], zeros[1:, 0], False)] * num_episodes)
    written = (get_dataset_path(ID) / "data" / "main_data.hdf5").stat().st_size
    assert 0.3 * asked[0] < written <= asked[0]


def test_the_folder_still_lists_its_data_sets():
    write()
    assert list(minari.list_local_datasets()) == [ID]


def test_one_who_waited_for_another_does_not_make_it_again():
    path = get_dataset_path(ID)
    with exclusive(path.parent / f".{path.name}.lock", wait=True):
        errors = []

        def late():
            try:
                write(never)
            except BaseException as error:
                errors.append(error)

        waiting = threading.Thread(target=late)
        waiting.start()
        (path / "data").mkdir(parents=True)
    waiting.join()
    assert errors == []


def test_made_data_that_was_damaged_is_named_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    task = tasks.get_task("maze2d-umaze", num_steps=300, seed=0)
    expected = task.load_episodes()
    assert "recording maze2d-umaze: step 300/300" in capsys.readouterr().err
    (file,) = tmp_path.glob("*/data/main_data.hdf5")
    for damage in (b"", file.read_bytes()[:1000]):
        file.write_bytes(damage)
        (episode,) = task.load_episodes()
        np.testing.assert_array_equal(episode.observations, expected[0].observations)
        assert "cannot be read" in (shown := capsys.readouterr().err)
        assert "; it is made again\nrecording maze2d-umaze" in shown
    (file.parent / "metadata.json").write_text("")
    assert len(task.load_episodes()) == 1
    assert "; it is made again\nrecording maze2d-umaze" in capsys.readouterr().err


def test_data_that_takes_long_to_write_says_how_far_it_is(monkeypatch, capsys):
    write()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    monkeypatch.setenv("MINARI_DATASETS_PATH", f"{os.environ['MINARI_DATASETS_PATH']}-2")
    write()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(make_episodes())
    assert lines[7].startswith(f"writing {ID}: episode 7/12")


def test_a_home_folder_that_no_shell_has_filled_in_is_no_place_for_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", "~/data")
    with pytest.raises(ValueError, match=r"^~/data: the shell has left its ~ as it is; "):
        path_of("x-v0")
    assert not Path("~").exists()
