"""The loop, end to end: what a run leaves, and that stopping it changes nothing."""

import csv
import datetime
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from dwm_jax.config import ConfigError
from dwm_jax.runtime import provenance
from dwm_jax.runtime.checkpoints import Checkpoints
from dwm_jax.runtime.locks import InUseError, exclusive
from dwm_jax.runtime.row_files import JsonLines, Result
from dwm_jax.train import train
from dwm_jax.workdir import load_recording
from tests import tiny


@pytest.fixture(scope="module", autouse=True)
def as_users_start_it() -> Iterator[None]:
    """Where the environment has no XLA_FLAGS, first states are compiled otherwise than in the other tests."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("XLA_FLAGS", raising=False)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(tiny.config(), folder / "run")
    return folder


def test_run_leaves_every_file_the_readme_names(undisturbed: Path) -> None:
    run = undisturbed / "run"
    for name in ("config.json", "metrics.jsonl", "results.csv", "summary.md", "diagnostics.json", "timing.jsonl"):
        assert (run / name).stat().st_size > 0, name
    pictures = {path.name for path in (run / "figures").glob("*.png")}
    assert pictures == {
        "calibration.png",
        "critics.png",
        "imagination.png",
        "imagined_states.png",
        "learning_curves.png",
        "prediction_error.png",
        "returns_to_go.png",
    }
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"DWM-TD3BC", "TD3+BC", "OneStep-TD3BC"}


def test_every_start_is_written_down_with_command_commit_and_machine(undisturbed: Path) -> None:
    (start,) = JsonLines(undisturbed / "run" / "starts.jsonl").read()
    assert start["command"] == sys.orig_argv
    assert start["commit"] == provenance.find_commit()
    assert start["num_devices"] == jax.device_count()
    assert datetime.datetime.fromisoformat(start["time"]).tzinfo is not None
    measured_on = json.loads((undisturbed / "run" / "diagnostics.json").read_text())["measured_on"]
    assert measured_on == {key: start[key] for key in measured_on} | {"load_at_start": measured_on["load_at_start"]}


def test_every_episode_of_every_seed_and_evaluation_is_kept(undisturbed: Path) -> None:
    rows = list(csv.DictReader((undisturbed / "run" / "results.csv").open()))
    # 3 methods x 2 evaluations (updates 10 and 20) x 2 seeds x 1 episode
    assert len(rows) == 3 * 2 * 2 * 1
    assert list(rows[0]) == list(Result._fields)
    for row in rows:
        # D4RL's reference scores of umaze: 23.85 and 161.86
        expected = (float(row["return_raw"]) - 23.85) / (161.86 - 23.85)
        np.testing.assert_allclose(float(row["score_0_1"]), expected, rtol=1e-6)
        np.testing.assert_allclose(float(row["score_0_100"]), 100 * expected, rtol=1e-6)
        # Of rewards 0 and 1 the discounted sum is the smaller; the critics said something of the start.
        assert 0 <= float(row["discounted_return"]) <= float(row["return_raw"])
        assert np.isfinite(float(row["value_at_start"]))


def test_metrics_have_one_row_per_seed_and_dispatch(undisturbed: Path) -> None:
    rows = [json.loads(line) for line in (undisturbed / "run" / "metrics.jsonl").open()]
    assert [(row["step"], row["seed"]) for row in rows if row["phase"] == "TD3+BC"] == [
        (step, seed) for step in (5, 10, 15, 20) for seed in (0, 1)
    ]


def test_summary_names_every_method(undisturbed: Path) -> None:
    text = (undisturbed / "run" / "summary.md").read_text()
    assert all(f"| {method} | 2 | 20 |" in text for method in ("DWM-TD3BC", "TD3+BC", "OneStep-TD3BC"))
    # How critics value imagined states: of those that learn from such, in every world model that they learn from.
    valued = re.findall(r"^\| (\S+)[^|]* \| (\S+) \| \d \| \S+% \| \S+% \| -\S+% \|$", text, re.MULTILINE)
    assert valued == [("dwm", "DWM-TD3BC"), ("one_step,", "OneStep-TD3BC"), ("one_step,", "OneStep-TD3BC")]


class StoppedError(Exception):
    """Stands for a kill."""


def test_a_run_stopped_after_every_save_equals_an_undisturbed_one_bit_for_bit(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Checkpoints.save

    def save_then_stop(self: Checkpoints, step: int, state: object) -> None:
        save(self, step, state)
        raise StoppedError

    monkeypatch.setattr(Checkpoints, "save", save_then_stop)
    # 2 saves of each of the two world models, 2 of each of the three methods; every start gets one further.
    for _ in range(10):
        with pytest.raises(StoppedError):
            train(tiny.config(), tmp_path / "run")
        # What a kill leaves behind when it strikes later than the checkpoint: rows nothing vouches for.
        for metrics in tmp_path.rglob("metrics.jsonl"):
            last = json.loads(metrics.read_text().splitlines()[-1])
            with metrics.open("a") as file:
                file.write(json.dumps(last | {"step": last["step"] + 5}) + '\n{"phase": "torn')
    monkeypatch.undo()
    train(tiny.config(), tmp_path / "run")

    assert tiny.files(tmp_path) == tiny.files(undisturbed)
    expected, arrays = tiny.final_arrays(undisturbed), tiny.final_arrays(tmp_path)
    assert expected.keys() == arrays.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


def test_finished_world_model_is_found_again(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved: list[Path] = []
    save = Checkpoints.save

    def record(self: Checkpoints, step: int, state: object) -> None:
        saved.append(self.directory)
        save(self, step, state)

    monkeypatch.setattr(Checkpoints, "save", record)
    train(tiny.config(methods="DWM-TD3BC", seed=7), undisturbed / "other")
    assert {path.name for path in saved} == {"DWM-TD3BC"}  # no world model was saved, hence none trained


def test_other_config_is_refused_with_the_difference(undisturbed: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.horizon: 3 -> 2"):
        train(tiny.config(policy__horizon=2), undisturbed / "run")
    with pytest.raises(ConfigError, match=r"methods: DWM-TD3BC,TD3\+BC,OneStep-TD3BC -> DWM-TD3BC,TD3\+BC,IQL"):
        train(tiny.config(methods="DWM-TD3BC,TD3+BC,IQL"), undisturbed / "run")


def test_methods_that_are_added_learn_as_if_they_had_been_there(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed / "world_models", tmp_path / "world_models")
    train(tiny.config(methods="TD3+BC"), tmp_path / "run")
    train(tiny.config(), tmp_path / "run")

    expected, arrays = tiny.final_arrays(undisturbed / "run"), tiny.final_arrays(tmp_path / "run")
    assert expected.keys() == arrays.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
    for file, rows in tiny.files(undisturbed / "run").items():
        assert sorted(tiny.files(tmp_path / "run")[file].splitlines()) == sorted(rows.splitlines()), file
    summaries = [(folder / "run" / "summary.md").read_text() for folder in (tmp_path, undisturbed)]
    assert [text.count("| 2 | 20 |") for text in summaries] == [3, 3]


def test_other_data_under_the_same_name_is_refused(undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tiny.files(undisturbed)
    config = tiny.config()
    task, recording = load_recording(config)
    other = recording._replace(fingerprint="0" * 64)
    monkeypatch.setattr("dwm_jax.workdir.load_recording", lambda config: (task, other))
    with pytest.raises(ConfigError, match=r"holds a run on other data: 1,200 steps .* now 1,200 with 000000000000"):
        train(config, undisturbed / "run")
    assert tiny.files(undisturbed) == before


def test_workdir_in_use_is_refused(tmp_path: Path) -> None:
    with exclusive(tmp_path / "run" / ".lock", wait=False), pytest.raises(InUseError, match="in use by process"):
        train(tiny.config(), tmp_path / "run")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            {"policy__imagined_pairs": 1_201, "policy__refresh_every": 10},
            r"policy\.imagined_pairs=1,201 is not allowed: the data has 1,200; 0 takes all",
        ),
        (
            {"data__pad": "drop", "world_models__dwm__sequence_length": 301},
            r"data\.pad='drop' is not allowed for the world model dwm, .* of 301 rows: no episode",
        ),
    ],
)
def test_what_asks_for_more_than_the_data_has_is_refused_before_compute(
    overrides: dict[str, object], line: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=line):
        train(tiny.config(methods="DWM-TD3BC", **overrides), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_evaluations_that_were_lost_are_said(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(undisturbed, tmp_path / "copy")
    results = tmp_path / "copy" / "run" / "results.csv"
    rows = results.read_text().splitlines(keepends=True)
    # Of DWM-TD3BC's first evaluation one of two rows; a row of somebody else's.
    lost = next(row for row in rows if row.startswith("DWM-TD3BC,maze2d-umaze,1,10,"))
    theirs = "foo,maze2d-umaze,0,20,0,1.0,0.1,10.0,1.0,1.0\n"
    results.write_text("".join(row for row in rows if row != lost) + theirs)
    (tmp_path / "copy" / "run" / "metrics.jsonl").unlink()
    capsys.readouterr()
    train(tiny.config(), tmp_path / "copy" / "run")
    said = capsys.readouterr().err
    assert "results.csv has no complete evaluation at update 10; averages leave it out" in said
    left = [row for row in rows if not row.startswith(("DWM-TD3BC,maze2d-umaze,0,10,", "DWM-TD3BC,maze2d-umaze,1,10,"))]
    assert results.read_text() == "".join([*left, theirs])
    summary = (tmp_path / "copy" / "run" / "summary.md").read_text()
    # The critics' mean Q was in the metrics.
    (mean_q,) = re.findall(r"^\| DWM-TD3BC \| \S+ \| \S+ \| \S+ \| (\S+) \|$", summary, re.MULTILINE)
    assert mean_q == "-"


@pytest.mark.parametrize("earlier", [{}, {"steps": "many"}, {"steps": None, "fingerprint": 3}, {"fingerprint": None}])
def test_odd_descriptions_of_the_data_are_one_line(
    undisturbed: Path, tmp_path: Path, earlier: dict[str, object]
) -> None:
    shutil.copytree(undisturbed / "run", tmp_path / "run")
    (tmp_path / "run" / "data.json").write_text(json.dumps(earlier))
    with pytest.raises(ConfigError, match="an unknown number of steps with the fingerprint"):
        train(tiny.config(), tmp_path / "run")
