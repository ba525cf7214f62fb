"""Data of somebody else's: what it says is shown or refused, never called."""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from dwm_jax.data import environments, minari_store, notes, prepare, tasks
from dwm_jax.data.check import check_all
from dwm_jax.data.conversion import Findings
from dwm_jax.data.importing import ImportOptions
from tests.data.d4rl_files import arrays_of, make_episodes, write

ID = "theirs/set-v0"
SOURCE = {"file": "a.hdf5", "bytes": 3, "sha256": "0"}
FINDING = dict.fromkeys(Findings._fields, 0) | {"timeouts": "present", "next_observations": "used"}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The metadata.json of a data set of Hopper-v5 in a root of its own."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "a.hdf5", arrays_of(make_episodes([(2, True)] * 3, 11, 3)), "Hopper-v5")
    prepare.prepare(ID, [file], ImportOptions())
    return minari_store.path_of(ID) / "data" / "metadata.json"


def rewrite(metadata: Path, **changes: Any) -> None:
    """What stands in the metadata; None removes it."""
    described = json.loads(metadata.read_text()) | changes
    metadata.write_text(json.dumps({key: value for key, value in described.items() if value is not None}))


def spec(**changes: Any) -> str:
    return json.dumps(json.loads(gym.spec("Hopper-v5").to_json()) | changes)


def test_entry_points_come_from_this_machine_and_arguments_and_clock_from_the_data(data: Path) -> None:
    called = {
        "entry_point": "numpy:savez",
        "vector_entry_point": "numpy:savez",
        "kwargs": {"file": "written", "reset_noise_scale": 0.0},
        "max_episode_steps": 7,
        "additional_wrappers": [{"name": "w", "entry_point": "numpy:savez", "kwargs": {"file": "written"}}],
    }
    rewrite(data, dwm_jax=None, eval_env_spec=spec(**called))
    task = tasks.make_local_task(ID, minari_store.read_stored(ID))
    with pytest.raises(ValueError, match=r"Hopper-v5' cannot be made here: TypeError: .*'file'"):
        task.make_env()
    del called["kwargs"]["file"]  # type: ignore[attr-defined]
    rewrite(data, eval_env_spec=spec(**called))
    env = tasks.make_local_task(ID, minari_store.read_stored(ID)).make_env()
    assert environments.clock_of(env) == 7
    np.testing.assert_array_equal(env.reset(seed=0)[0], env.reset(seed=1)[0])  # no noise: the data's argument counts
    env.close()
    assert not list(Path().glob("written*"))


@pytest.mark.parametrize("where", ["own", "spec", "file"])
def test_no_module_is_imported_that_the_user_has_not_named(where: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("open('imported', 'w').close()\n")
    sys.path.insert(0, str(tmp_path))
    try:
        if where == "file":
            file = write(tmp_path / "b.hdf5", arrays_of(make_episodes([(2, True)] * 3, 11, 3)), "evil:Hopper-v5")
            with pytest.raises(ValueError, match="evil:Hopper-v5"):
                prepare.prepare("b-v0", [file], ImportOptions())
        else:
            own = {"dwm_jax": {"environment": "evil:Hopper-v5"}}
            rewrite(data, **(own if where == "own" else {"dwm_jax": None, "eval_env_spec": spec(id="evil:Hopper-v5")}))
            with pytest.raises(ValueError, match="'evil', which is imported only where you have named it yourself"):
                tasks.make_local_task(ID, minari_store.read_stored(ID)).make_env()
    finally:
        sys.path.remove(str(tmp_path))
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"total_steps": 10**15},
        {"total_episodes": -1},
        {"total_episodes": "many"},
        {"data_format": "../../../etc"},
        {"data_format": "pickle"},
        {"observation_space": "__import__('os').system('touch called')"},
        {"observation_space": json.dumps({"type": "os.system", "command": "touch called"})},
        {"action_space": json.dumps({"type": "Discrete", "dtype": "int64", "start": 0, "n": 2})},
        {"dwm_jax": {"observation_keys": 3}},
        {"dwm_jax": {"action_range": [["a"], ["b"]]}},
        {"dwm_jax": ["a", "list"]},
        {"dwm_jax": {"findings": [{}], "sources": [{}]}},
        {"dwm_jax": {"findings": [FINDING], "sources": [{"file": "a.hdf5", "sha256": "0"}]}},
        {"dwm_jax": {"findings": [FINDING | {"cuts": "some"}], "sources": [SOURCE]}},
        {"dwm_jax": {"findings": [FINDING | {"next_observations": "lost"}], "sources": [SOURCE]}},
        {"dwm_jax": {"findings": [FINDING], "sources": []}},
        {"dwm_jax": {"step_limit": "long", "sources": [SOURCE], "findings": [FINDING]}},
        {"dwm_jax": {"changes": {"clipped_actions": 3}}},
        {"dwm_jax": None, "eval_env_spec": "{"},
        {"dwm_jax": None, "eval_env_spec": "[]"},
        {"dataset_id": ["a"]},
        {"ref_min_score": "low", "ref_max_score": {}},
    ],
    ids=lambda changes: json.dumps(changes)[:40],
)
def test_metadata_that_is_not_in_order_is_one_line_or_harmless(changes: dict[str, Any], data: Path) -> None:
    rewrite(data, **changes)
    with suppress(ValueError):  # which every command turns into one line; anything else fails here
        stored = minari_store.read_stored(ID)
        episodes = tasks.make_local_task(ID, stored).load_episodes()
        check_all(episodes, stored.provenance)
        notes.collect_notes(stored.provenance)
    assert not Path("called").exists()


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n" + b"\0" * 100, b"not HDF5", b"PK\x03\x04"])
def test_a_file_that_is_something_else_is_one_line(content: bytes, data: Path) -> None:
    data.with_name("main_data.hdf5").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        tasks.make_local_task(ID, minari_store.read_stored(ID)).load_episodes()
