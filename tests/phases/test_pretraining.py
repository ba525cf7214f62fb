"""A world model that is finished is found by whoever wants it, and nothing is made where it is not."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from dwm_jax.phases import kept_models
from dwm_jax.phases.pretraining import find_finished_model, identity_in_run, pretraining
from dwm_jax.workdir import load_recording
from tests import tiny


def test_a_finished_model_is_found_without_training_and_another_one_is_not_made(tmp_path: Path) -> None:
    config = tiny.config(methods="OneStep")
    run = tiny.run_of(config, load_recording(config)[1], tmp_path / "run")
    assert find_finished_model(run, "one_step") is None
    assert not list(tmp_path.iterdir())
    trained = tiny.pretrain("one_step", config, run.recording, tmp_path / "run")
    found = find_finished_model(run, "one_step")
    assert found is not None
    for leaf, expected in zip(jax.tree.leaves(found.state), jax.tree.leaves(trained.state), strict=True):
        np.testing.assert_array_equal(leaf, expected)
    folders = set(tmp_path.glob("world_models/*"))
    other = tiny.config(methods="OneStep", world_models__one_step__seed=5)
    assert find_finished_model(run._replace(config=other), "one_step") is None
    assert set(tmp_path.glob("world_models/*")) == folders


def everything_below(folder: Path) -> dict[str, tuple[int, bytes | None]]:
    """Of every file and folder when it was last changed, and what is in it."""
    paths = [folder, *folder.rglob("*")]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None) for path in paths}


def test_looking_for_a_model_writes_nothing_not_even_beside_a_damaged_or_unfinished_save(tmp_path: Path) -> None:
    config = tiny.config(methods="OneStep")
    run = tiny.run_of(config, load_recording(config)[1], tmp_path / "run")
    tiny.pretrain("one_step", config, run.recording, tmp_path / "run")
    (folder,) = tmp_path.glob("world_models/*")
    checkpoints = kept_models.checkpoints_in(folder, identity_in_run(run, "one_step"))
    assert {path.name for path in checkpoints.iterdir()} == {"10", "20"}
    (checkpoints / "30.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    (folder / ".lock").unlink()
    before = everything_below(tmp_path)
    assert find_finished_model(run, "one_step") is not None
    assert everything_below(tmp_path) == before

    # The last one cannot be read: the one before it is no finished model.
    shutil.rmtree(checkpoints / "20" / "description")
    before = everything_below(tmp_path)
    assert find_finished_model(run, "one_step") is None
    assert everything_below(tmp_path) == before


def test_a_model_that_is_no_longer_beside_its_run_is_said_to_be_trained_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny.config(methods="OneStep")
    run = tiny.run_of(config, load_recording(config)[1], tmp_path / "run")
    for _ in range(2):  # begun, and gone on with
        with pretraining(run, "one_step"):
            assert "anew" not in capsys.readouterr().err
    (folder,) = tmp_path.glob("world_models/*")
    shutil.copytree(run.workdir, tmp_path / "moved" / "run")
    with pretraining(run._replace(workdir=tmp_path / "moved" / "run"), "one_step"):
        line = (
            f"world model one_step of this run is not in {tmp_path}/moved/world_models and is trained anew; to keep "
            f"what there is, move {folder.name} there, or name its place by --config.world_model_dir\n"
        )
        assert capsys.readouterr().err == line
