"""Mirrors show what the files hold, once, over any number of starts; the files do not depend on them."""

import json
import struct
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from dwm_jax.runtime import interruption, mirrors
from dwm_jax.runtime.row_files import JsonLines, Result, Results
from dwm_jax.train import train
from tests import tiny


def shown_by_tensorboard(folder: Path) -> dict[tuple[str, str], dict[int, float]]:
    """(run, tag) -> step -> value, by TensorBoard's rule: a start at step N takes back what there was from N on."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for path in sorted(folder.glob("**/events.*")):
        run = str(path.parent.relative_to(folder))
        for event in events(path):
            if event.session_log.status == event.session_log.START:
                for (other, _), values in found.items():
                    for step in [step for step in values if other == run and step >= event.step]:
                        del values[step]
            for value in event.summary.value:
                steps = found.setdefault((run, value.tag), {})
                assert event.step not in steps, f"{run} {value.tag}: step {event.step} is shown twice"
                steps[event.step] = value.simple_value
    return found


def events(path: Path) -> list[Event]:
    """The records of an event file: length, its checksum, the record, its checksum."""
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


class FakeWandb(ModuleType):
    """Keeps what it is told, by run id, as the service does."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.inits: list[dict[str, Any]] = []
        self.logged: dict[str, list[dict[str, float]]] = {}
        self.axes: list[tuple[str, str]] = []
        self.finished = 0
        self.is_broken = False
        self.Settings = SimpleNamespace

    def init(self, **given: Any) -> SimpleNamespace:
        self.inits.append(given)
        rows = self.logged.setdefault(given["id"], [])

        def log(row: dict[str, float]) -> None:
            if self.is_broken:
                raise RuntimeError("no room\nleft")
            rows.append(row)

        def define_metric(name: str, step_metric: str) -> None:
            self.axes.append((name, step_metric))

        return SimpleNamespace(define_metric=define_metric, log=log, finish=self.finish)

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(mirrors, "_require", lambda package, flag: None)
    return fake


def metric_row(step: int, seed: int, loss: float) -> dict[str, Any]:
    return {"phase": "IQL", "step": step, "seed": seed, "critic/loss": loss}


def episode(step: int, seed: int, number: int, score: float) -> Result:
    return Result("IQL", "maze", seed, step, number, 10 * score, score, 100 * score)


def test_a_resumed_phase_is_shown_once(tmp_path: Path, wandb: FakeWandb) -> None:
    """Killed after step 3, resumed from the checkpoint of step 1: steps 2 and 3 come again."""
    wanted = mirrors.choose_mirrors(True, "project")
    for first, last in ((1, 3), (2, 4)):
        with mirrors.open_mirrors(wanted, tmp_path, {"task": "maze"}):
            mirrors.resume("IQL", first - 1)
            for step in range(first, last + 1):
                mirrors.show_metrics([metric_row(step, seed, step + seed / 2) for seed in (0, 1)])
            mirrors.show_evaluation([episode(last, 0, 0, 0.25), episode(last, 0, 1, 0.75), episode(last, 1, 0, 1.0)])
    values = {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}
    on_tensorboard = shown_by_tensorboard(tmp_path / "tensorboard")
    assert on_tensorboard["IQL/seed0", "critic/loss"] == values
    assert on_tensorboard["IQL/seed1", "critic/loss"] == {step: value + 0.5 for step, value in values.items()}
    # Means over episodes: (0.25 + 0.75) / 2. The evaluation of step 3 was void too.
    assert on_tensorboard["IQL/seed0", "evaluation/score_0_1"] == {4: 0.5}
    assert on_tensorboard["IQL/seed1", "evaluation/return_raw"] == {4: 10.0}
    (rows,) = wandb.logged.values()
    losses = {row["IQL/update"]: row["IQL/critic/loss/seed0"] for row in rows if "IQL/critic/loss/seed0" in row}
    assert losses == values
    assert [row["IQL/update"] for row in rows] == [1, 2, 3, 3, 4, 4]
    assert ("IQL/*", "IQL/update") in wandb.axes
    assert [given["resume"] for given in wandb.inits] == ["allow", "allow"]
    assert wandb.finished == 2


def test_a_score_that_a_task_has_not_got_is_left_out(tmp_path: Path) -> None:
    with mirrors.open_mirrors(mirrors.choose_mirrors(True, None), tmp_path, {}):
        mirrors.show_evaluation([episode(1, 0, 0, 0.5)._replace(score_0_1=float("nan"))])
    assert {tag for _, tag in shown_by_tensorboard(tmp_path / "tensorboard")} == {"evaluation/return_raw"}


def test_a_mirror_that_fails_is_dropped_with_one_line(
    tmp_path: Path, wandb: FakeWandb, capsys: pytest.CaptureFixture[str]
) -> None:
    with mirrors.open_mirrors(mirrors.choose_mirrors(True, "project"), tmp_path, {}):
        wandb.is_broken = True
        for step in (1, 2):
            mirrors.show_metrics([metric_row(step, 0, 0.5)])
    assert shown_by_tensorboard(tmp_path / "tensorboard")["IQL/seed0", "critic/loss"] == {1: 0.5, 2: 0.5}
    assert capsys.readouterr().err == (
        "logging to WeightsAndBiases failed and is off for the rest of this run: no room left\n"
    )


def test_without_its_package_a_mirror_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "find_spec", lambda package: None)
    assert mirrors.choose_mirrors(False, None) == []
    with pytest.raises(ValueError, match="--wandb needs the name of a project"):
        mirrors.choose_mirrors(False, "")
    with pytest.raises(ValueError, match=r"--tensorboard needs the package tensorboardX, .* pip install tensorboardX"):
        mirrors.choose_mirrors(True, None)
    with pytest.raises(ValueError, match=r"--wandb needs the package wandb, .* pip install wandb"):
        mirrors.choose_mirrors(False, "project")


@pytest.mark.end_to_end
def test_an_interrupted_run_is_mirrored_as_its_files_have_it(
    tmp_path: Path, wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, workdir = tiny.config(methods="TD3+BC,OneStep"), tmp_path / "run"
    wanted = mirrors.choose_mirrors(True, "project")
    mirrored = mirrors.show_metrics

    def interrupted(rows: list[dict[str, Any]]) -> None:
        """Strikes after what was written and shown at step 15 of TD3+BC, five updates after its checkpoint."""
        mirrored(rows)
        if (rows[0]["phase"], rows[0]["step"]) == ("TD3+BC", 15):
            raise interruption.Interrupted(15)

    monkeypatch.setattr("dwm_jax.train.write_summary", lambda *_: "")  # measures and draws: nothing that is mirrored
    monkeypatch.setattr(mirrors, "show_metrics", interrupted)
    with pytest.raises(interruption.Interrupted):
        train(config, workdir, wanted)
    monkeypatch.setattr(mirrors, "show_metrics", mirrored)
    train(config, workdir, wanted)

    on_tensorboard = shown_by_tensorboard(workdir / "tensorboard")
    rows = JsonLines(workdir / "metrics.jsonl").read()
    assert {(row["phase"], row["step"]) for row in rows} == {("TD3+BC", step) for step in (5, 10, 15, 20)}
    for row in rows:
        value = on_tensorboard[f"TD3+BC/seed{row['seed']}", "critic/loss"][row["step"]]
        assert value == pytest.approx(row["critic/loss"], rel=1e-6)
    evaluated = Results(workdir / "results.csv").read()  # tiny has one episode per evaluation
    assert {result.step for result in evaluated} == {10, 20}
    for result in evaluated:
        value = on_tensorboard[f"TD3+BC/seed{result.seed}", "evaluation/score_0_1"][result.step]
        assert value == pytest.approx(result.score_0_1, rel=1e-6)
    (tag,) = {tag for run, tag in on_tensorboard if run == "world model one_step" and tag.endswith("loss")}
    assert on_tensorboard["world model one_step", tag].keys() == {5, 10, 15, 20}
    (sent,) = wandb.logged.values()
    assert [row["TD3+BC/update"] for row in sent if "TD3+BC/critic/loss/seed1" in row] == [5, 10, 15, 20]
    assert json.loads((workdir / "wandb.json").read_text())["id"] == wandb.inits[0]["id"] == wandb.inits[1]["id"]
    assert wandb.inits[0]["config"]["methods"] == "TD3+BC,OneStep"
