"""Checkpoints: what was saved comes back to the bit, the two newest are kept, and damage is noticed."""

import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from dwm_jax.maths.normalizers import CdfNormalizer, fit_cdf
from dwm_jax.runtime.checkpoints import CheckpointError, Checkpoints


class State(NamedTuple):
    params: dict[str, jax.Array]
    optimizer_state: optax.OptState
    normalizer: CdfNormalizer


def state(value: float) -> State:
    params = {"w": jnp.full((3, 2), value), "b": jnp.arange(2.0)}
    return State(params, optax.adam(0.1).init(params), fit_cdf(np.arange(10.0)[:, None]))


def test_round_trip_keeps_structure_and_bits(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore(state(0.0)) is None
    checkpoints.save(5, state(1 / 3))
    checkpoints.close()

    step, restored = Checkpoints(tmp_path).restore(state(0.0)) or (None, None)
    assert step == 5
    assert jax.tree.structure(restored) == jax.tree.structure(state(0.0))
    jax.tree.map(np.testing.assert_array_equal, restored, state(1 / 3))


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3, 4):
        checkpoints.save(step, state(float(step)))
    assert sorted(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()) == [3, 4]
    assert checkpoints.latest_step() == 4


def test_saving_a_step_again_changes_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1.0))
    checkpoints.save(1, state(2.0))
    _, restored = checkpoints.restore(state(0.0)) or (None, None)
    assert restored is not None
    np.testing.assert_array_equal(restored.params["w"], jnp.full((3, 2), 1.0))


# ----------------------------------------------------------------------------------------------- machines


def names_a_device(checkpoint: Path) -> bool:
    """Whether what orbax wrote says where its arrays lived: it does for arrays of a device, not for the host's."""
    files = {path.name: path for path in checkpoint.rglob("*") if path.is_file()}
    return "_sharding" in files or "jax.Array" in files["_METADATA"].read_text()


def test_a_checkpoint_names_no_device_so_that_any_machine_can_read_it(tmp_path: Path) -> None:
    on_a_device = jax.device_put(state(1 / 3), jax.devices()[0])
    checkpoints = Checkpoints(tmp_path / "ours")
    checkpoints.save(1, on_a_device)
    checkpoints.close()
    assert not names_a_device(tmp_path / "ours" / "1")

    # What orbax does with the same arrays when they come as they are; a machine without that device would refuse it.
    manager = ocp.CheckpointManager(tmp_path / "orbax")
    manager.save(1, args=ocp.args.Composite(state=ocp.args.StandardSave(on_a_device)))
    manager.close()
    assert names_a_device(tmp_path / "orbax" / "1")


def test_what_is_restored_lives_on_no_device(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1.0))
    _, restored = checkpoints.restore(state(0.0)) or (None, None)
    leaves = jax.tree.leaves(restored)
    assert leaves
    assert {type(leaf) for leaf in leaves} == {np.ndarray}


# ------------------------------------------------------------------------------------------------ damage


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Steps 1 and 2; the second is to be damaged."""
    folder = tmp_path / "phase"
    checkpoints = Checkpoints(folder)
    for step in (1, 2):
        checkpoints.save(step, state(float(step)))
    checkpoints.close()
    return folder


def largest_file(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(folder: Path) -> None:
    file = largest_file(folder / "state")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def garble(folder: Path) -> None:
    for file in (path for path in (folder / "state").rglob("*") if path.is_file()):
        file.write_bytes(bytes(255 - byte for byte in file.read_bytes()))


def remove_every_file(folder: Path) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.unlink()


def remove_the_description(folder: Path) -> None:
    shutil.rmtree(folder / "description")


def remove_the_largest_file(folder: Path) -> None:
    largest_file(folder / "state").unlink()


DAMAGES = [truncate, garble, remove_every_file, remove_the_description, remove_the_largest_file]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_said_and_the_one_before_it_taken(
    damage: Callable[[Path], None], saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(saved / "2")
    checkpoints = Checkpoints(saved)
    step, restored = checkpoints.restore(state(0.0)) or (None, None)
    assert step == 1
    assert restored is not None
    np.testing.assert_array_equal(restored.params["w"], np.full((3, 2), 1.0, np.float32))
    assert "checkpoint 2" in capsys.readouterr().err
    # Its step can be saved anew, and nothing was deleted.
    checkpoints.save(2, state(5.0))
    _, again = checkpoints.restore(state(0.0)) or (None, None)
    assert again is not None
    np.testing.assert_array_equal(again.params["w"], np.full((3, 2), 5.0, np.float32))
    assert saved.with_name("phase.damaged-2").is_dir()


def test_a_second_damage_of_the_same_step_is_set_aside_too(saved: Path) -> None:
    for value in (5.0, 6.0):
        truncate(saved / "2")
        checkpoints = Checkpoints(saved)
        step, _ = checkpoints.restore(state(0.0)) or (None, None)
        assert step == 1
        checkpoints.save(2, state(value))
        checkpoints.close()
    assert {path.name for path in saved.parent.iterdir()} == {"phase", "phase.damaged-2", "phase.damaged-2-2"}


def test_what_killed_saves_left_is_removed(saved: Path) -> None:
    (saved / "3.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    (saved / "3.orbax-checkpoint-tmp-1700000000" / "state").mkdir(parents=True)
    Checkpoints(saved).close()
    assert {path.name for path in saved.iterdir()} == {"1", "2"}


@pytest.mark.parametrize("name", ["plain", "with space", "50%", "#1", "lr=0.001,x", "é"])
def test_odd_names_of_folders_work(name: str, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / name / "checkpoints")
    checkpoints.save(1, state(1.0))
    checkpoints.close()
    step, _ = Checkpoints(tmp_path / name / "checkpoints").restore(state(0.0)) or (None, None)
    assert step == 1


@pytest.mark.parametrize(
    "name", ["lr=[0.001]", "a\\b", "what?", "a*", "gs://bucket/run", "s3:/bucket/run", os.fsdecode(b"caf\xe9")]
)
def test_names_below_which_nothing_could_be_read_are_refused_before_anything_is_made(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"below it cannot be .*; rename it|is not a local path; name a folder"
    ) as refusal:
        Checkpoints(tmp_path / name / "checkpoints")
    assert str(refusal.value).isprintable()
    assert not list(tmp_path.iterdir())


def test_the_first_save_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A disk that keeps nothing: what is read is not what was written.
    monkeypatch.setattr(ocp.CheckpointManager, "restore", lambda *arguments, **keywords: 1 / 0)
    with pytest.raises(CheckpointError, match=r"could not save step 1 in .*: division by zero"):
        Checkpoints(tmp_path).save(1, state(1.0))


def test_arrays_that_are_not_those_saved_are_damage_too(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What no checksum below noticed: step 2 comes back with another number in it.
    read = ocp.CheckpointManager.restore

    def alter(self: ocp.CheckpointManager, step: int, args: object) -> object:
        restored = read(self, step, args=args)
        if step == 2 and restored.state is not None:
            restored.state.params["w"][0, 0] += 1e-6
        return restored

    monkeypatch.setattr(ocp.CheckpointManager, "restore", alter)
    step, _ = Checkpoints(saved).restore(state(0.0)) or (None, None)
    assert step == 1


def test_where_none_can_be_read_the_run_is_refused_and_nothing_deleted(saved: Path) -> None:
    for step in ("1", "2"):
        truncate(saved / step)
    before = sorted(saved.rglob("*"))
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read; nothing was deleted"):
        Checkpoints(saved).restore(state(0.0))
    assert sorted(saved.rglob("*")) == before


def test_other_arrays_are_refused_by_name_not_taken_for_damage(saved: Path) -> None:
    wider = state(0.0)._replace(params={"w": jnp.zeros((3, 4)), "b": jnp.zeros(2)})
    with pytest.raises(CheckpointError, match=r"params\['w'\] is float32\[3, 2\], wanted float32\[3, 4\]"):
        Checkpoints(saved).restore(wider)


def test_another_format_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dwm_jax.runtime.checkpoints.FORMAT", 2)
    with pytest.raises(CheckpointError, match="has format 1, this version reads 2"):
        Checkpoints(saved).restore(state(0.0))


def test_a_disk_with_too_little_room_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    needed = 2 * (24 + 4096)  # two arrays of six numbers in float32
    of_two = {"a": np.zeros(6, np.float32), "b": np.ones(6, np.float32)}
    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(CheckpointError, match=r"could not save step 1 in .*No space left on device; the checkpoints"):
        checkpoints.save(1, of_two)
    assert list(tmp_path.iterdir()) == []
    for step, free in enumerate((needed, 0), 2):  # 0 where a disk counts nothing
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        checkpoints.save(step, of_two)
        assert checkpoints.latest_step() == step
    assert capfd.readouterr().err == ""


def test_a_full_disk_is_said_and_leaves_the_older_checkpoints(saved: Path) -> None:
    checkpoints = Checkpoints(saved)
    # No file may grow beyond 100 bytes: what a full disk does, to this process alone.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(CheckpointError, match=r"could not save step 3 .* checkpoints before it are whole"):
            checkpoints.save(3, state(3.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    step, _ = Checkpoints(saved).restore(state(0.0)) or (None, None)
    assert step == 2
