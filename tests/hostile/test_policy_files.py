"""Policies of somebody else's: a file gives names, numbers and settings; whatever else it holds is refused."""

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from dwm_jax import evaluate
from dwm_jax.learners.iql import IQL
from dwm_jax.learners.policies import Acting
from dwm_jax.maths.normalizers import fit_standard
from dwm_jax.registry import LEARNERS
from dwm_jax.results import policy_files
from dwm_jax.results.policy_files import PolicyHeader
from experiments.configs import smoke

SETTINGS = {"observation_size": 4, "action_size": 2, "num_updates": 1, **smoke.get_config().learners.iql.to_dict()}


class Called:
    """A pickle that writes a file when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("called", "w")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Policies that are in order."""
    monkeypatch.chdir(tmp_path)
    assert LEARNERS["iql"] is IQL
    learner = IQL(**SETTINGS)
    states_S = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 2))
    policy_files.save_actors(
        tmp_path / "IQL.npz",
        PolicyHeader("IQL", "maze2d-umaze", [0, 1], {"maze": "umaze"}),
        "iql",
        SETTINGS,
        Acting(learner.inference(states_S), fit_standard(np.eye(4))),
    )
    return tmp_path / "IQL.npz"


def parts_of(file: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(file) as found:
        arrays = dict(found)
    return arrays, json.loads(str(arrays.pop("about.json")))


def test_what_is_in_order_is_read(file: Path) -> None:
    assert policy_files.load(file).evaluated_in == {"maze": "umaze"}


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": SETTINGS | {"hidden": [10**12]}},
        {"settings": SETTINGS | {"hidden": "numpy"}},
        {"settings": SETTINGS | {"observation_size": -1}},
        {"settings": SETTINGS | {"no_such_setting": 1}},
        {"settings": None},
        {"learner": "numpy:savez"},
        {"learner": ["iql"]},
        {"kind": "pickle"},
        {"kind": {}},
        {"seeds": "all"},
        {"seeds": [0, 1, 2]},
        {"format": "newest"},
        {"format": 10**9},
        {"format": None},
    ],
    ids=lambda changes: json.dumps(changes)[:50],
)
def test_a_description_that_is_not_in_order_is_one_line(changes: dict[str, Any], file: Path) -> None:
    arrays, about = parts_of(file)
    np.savez(file, **arrays, **{"about.json": np.array(json.dumps(about | changes))})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=str(file)):
        policy_files.load(file)


def of_pickles(file: Path) -> None:
    arrays, about = parts_of(file)
    arrays[next(iter(arrays))] = np.array([Called()], object)
    np.savez(file, **arrays, **{"about.json": np.array(json.dumps(about))})  # type: ignore[arg-type]


def a_pickle(file: Path) -> None:
    file.write_bytes(pickle.dumps(Called()))


def of_other_shapes(file: Path) -> None:
    arrays, about = parts_of(file)
    np.savez(file, **{name: array[..., None] for name, array in arrays.items()}, **{"about.json": json.dumps(about)})


def without_arrays(file: Path) -> None:
    np.savez(file, **{"about.json": np.array(json.dumps(parts_of(file)[1]))})  # type: ignore[arg-type]


def of_more_than_there_is_memory_for(file: Path) -> None:
    arrays, about = parts_of(file)
    np.savez_compressed(file, **arrays, **{"about.json": np.array(json.dumps(about))})  # type: ignore[arg-type]


def that_promises_more_than_it_holds(file: Path) -> None:
    arrays, _ = parts_of(file)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**15,)})
    content = {f"{name}.npy": header.getvalue() for name in arrays}
    with zipfile.ZipFile(file, "w") as archive:
        for name, part in content.items():
            archive.writestr(name, part)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize(
    "make",
    [
        of_pickles,
        a_pickle,
        of_other_shapes,
        without_arrays,
        of_more_than_there_is_memory_for,
        that_promises_more_than_it_holds,
        cut_short,
        empty,
    ],
    ids=lambda make: make.__name__,
)
def test_a_file_that_is_something_else_is_one_line_and_calls_nothing(make: Any, file: Path) -> None:
    make(file)
    with pytest.raises(ValueError, match=str(file)):
        policy_files.load(file)
    assert not Path("called").exists()


SAID_OF_THE_PLACE = {
    "entry point": {"environment": "numpy:savez"},
    "module": {"environment": "this:Hopper-v5"},
    "unknown": {"environment": "Nowhere-v0"},
    "arguments": {"environment_spec": json.dumps({"id": "Hopper-v5", "kwargs": {"file": "called"}})},
    "no JSON": {"environment_spec": "{"},
    "keys": {"observation_keys": [["../../etc"]]},
    "bounds": {"action_range": [[0], ["one"]]},
    "clock": {"max_episode_steps": "for ever"},
    "no clock": {"max_episode_steps": -1},
}


@pytest.mark.parametrize("name", SAID_OF_THE_PLACE)
def test_a_place_that_is_not_in_order_is_one_line(name: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = {
        "environment": "Hopper-v5",
        "environment_spec": None,
        "observation_keys": [[]],
        "action_range": [[-1.0] * 3, [1.0] * 3],
        "max_episode_steps": None,
        "reference_scores": None,
    }
    arrays, about = parts_of(file)
    about["evaluated_in"] = place | SAID_OF_THE_PLACE[name]
    np.savez(file, **arrays, **{"about.json": np.array(json.dumps(about))})  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as end:
        evaluate.main([str(file), "--episodes", "1"])
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert not Path("called").exists()
    assert not list(Path().glob("called*"))
