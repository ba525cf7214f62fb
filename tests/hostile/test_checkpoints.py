"""Checkpoints of somebody else's: arrays and nothing else; what is not in order is damage, or refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dwm_jax.runtime.checkpoints import CheckpointError, Checkpoints

STATE = {"w": np.arange(6, dtype=np.float32)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoints = Checkpoints(tmp_path / "phase")
    checkpoints.save(1, STATE)
    checkpoints.save(2, STATE)
    checkpoints.close()
    return tmp_path / "phase"


def description(folder: Path) -> Path:
    (path,) = (folder / "2" / "description").rglob("metadata")
    return path


@pytest.mark.parametrize(
    "content", ["", "null", "[]", '{"format": 1}', '{"format": [], "shapes": 3, "sha256": {}}', "[" * 100_000]
)
def test_a_description_that_is_not_in_order_is_damage(content: str, folder: Path) -> None:
    description(folder).write_text(content)
    try:
        found = Checkpoints(folder).restore(STATE)
    except CheckpointError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either is right
        return
    assert found is not None
    assert found[0] == 1


def test_other_numbers_under_an_honest_description_are_damage(folder: Path) -> None:
    other = folder.with_name("other")
    checkpoints = Checkpoints(other)
    checkpoints.save(2, {"w": STATE["w"] + 1})
    checkpoints.close()
    shutil.rmtree(folder / "2" / "state")
    shutil.copytree(other / "2" / "state", folder / "2" / "state")
    found = Checkpoints(folder).restore(STATE)
    assert found is not None
    assert found[0] == 1


def test_arrays_of_twice_the_bits_name_the_variable_that_made_them(folder: Path) -> None:
    described = description(folder).read_text()
    assert "float32[" in described
    description(folder).write_text(described.replace("float32[", "float64["))
    with pytest.raises(CheckpointError, match=r"is float64.*, wanted float32.*; set JAX_ENABLE_X64 as it was before"):
        Checkpoints(folder).restore(STATE)


def test_more_arrays_than_there_is_memory_for_are_refused_by_their_shapes(folder: Path) -> None:
    described = json.loads(description(folder).read_text())
    described["shapes"] = {"['w']": "float32[1000000000000000]"}
    description(folder).write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=r"holds other arrays than this run"):
        Checkpoints(folder).restore(STATE)


def test_a_checkpoint_that_links_elsewhere_is_read_as_what_it_holds_or_not_at_all(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    shutil.rmtree(folder / "2" / "state")
    (folder / "2" / "state").symlink_to(tmp_path)
    found = Checkpoints(folder).restore(STATE)
    assert found is not None
    assert found[0] == 1
    assert (tmp_path / "secret").read_text() == "secret"
