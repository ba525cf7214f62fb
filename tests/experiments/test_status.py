"""What `experiments.status` says of runs in every state."""

import json
from pathlib import Path

import pytest

from dwm_jax.runtime.locks import exclusive, is_held
from dwm_jax.runtime.row_files import JsonLines, Result, Results
from experiments.status import PhaseStatus, find_phases, make_table
from tests.commands import RunModule


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A world model that is done, and a run of three methods and one world model alone, in the middle of the second."""
    model, run = tmp_path / "world_models" / "maze-dwm-1", tmp_path / "a" / "run"
    for folder in (model, run):
        folder.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps({"model": "dwm", "settings": {"num_updates": 40}}))
    JsonLines(model / "metrics.jsonl").append([{"phase": "world model dwm", "step": 40}])
    config = {
        "methods": "TD3+BC, DWM-TD3BC,DD,DWM",
        "num_seeds": 2,
        "policy": {"num_updates": 100},
        "evaluation": {"episodes": 2},
    }
    (run / "config.json").write_text(json.dumps(config))
    rows = [{"phase": "TD3+BC", "step": step, "seed": s} for step in (50, 100) for s in (0, 1)]
    JsonLines(run / "metrics.jsonl").append([*rows, {"phase": "DWM-TD3BC", "step": 60, "seed": 0}])
    timing = [
        ("TD3+BC", 50, 1.0),
        ("TD3+BC", 100, 2.0),
        ("TD3+BC", 100, 9.0),
        ("DWM-TD3BC", 20, 10.0),
        ("DWM-TD3BC", 40, 14.0),
    ]
    JsonLines(run / "timing.jsonl").append(
        [dict(zip(("phase", "step", "seconds"), row, strict=True)) for row in timing]
    )
    scores = {("TD3+BC", 50): 0.0, ("TD3+BC", 100): 0.5, ("DWM-TD3BC", 50): 0.25}
    Results(run / "results.csv").append(
        Result(method, "maze", seed, step, 0, 10.0, score + seed / 10, 0.0)
        for (method, step), score in scores.items()
        for seed in (0, 1)
    )
    return tmp_path


def by_name(runs: Path) -> dict[str, PhaseStatus]:
    return {phase.name: phase for phase in find_phases(runs)}


def test_every_phase_has_its_state_speed_and_score(runs: Path) -> None:
    phases = by_name(runs)
    # Means over the seeds of the last evaluation: (0.5 + 0.6) / 2, (0.25 + 0.35) / 2.
    # Speeds between the last two checkpoints: 50 updates in 1 s, 20 in 4 s; (100 - 60) / 5 = 8 s are left.
    assert phases["world model dwm"] == PhaseStatus(
        "world_models/maze-dwm-1", "world model dwm", 40, 40, None, None, "done"
    )
    assert phases["TD3+BC"] == PhaseStatus("a/run", "TD3+BC", 100, 100, 50.0, pytest.approx(0.55), "done")
    assert phases["DWM-TD3BC"] == PhaseStatus("a/run", "DWM-TD3BC", 60, 100, 5.0, pytest.approx(0.3), "stopped")
    assert phases["DWM-TD3BC"].seconds_left == 8.0
    assert phases["TD3+BC"].seconds_left is None
    assert phases["DD"] == PhaseStatus("a/run", "DD", 0, 4, None, None, "not started")
    assert "DWM" not in phases


def test_in_a_run_that_goes_on_what_has_begun_runs_and_what_has_not_waits(runs: Path) -> None:
    with exclusive(runs / "a" / "run" / ".lock", wait=False):
        states = {name: phase.state for name, phase in by_name(runs).items()}
    assert states == {"world model dwm": "done", "TD3+BC": "done", "DWM-TD3BC": "running", "DD": "waiting"}


def test_a_lock_is_held_as_long_as_its_holder_lives(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not is_held(path)
    with exclusive(path, wait=False):
        assert is_held(path)
    assert path.exists()
    assert not is_held(path)


def test_the_command_prints_the_table_and_refuses_an_empty_folder(
    runs: Path, run_module: RunModule, tmp_path: Path
) -> None:
    shown = run_module("experiments.status", str(runs))
    assert shown.returncode == 0
    assert "2 of 4 phases done" in shown.stdout
    assert any(
        line.split() == ["a/run", "DWM-TD3BC", "stopped", "60", "100", "5", "0:08", "0.30"]
        for line in shown.stdout.splitlines()
    )
    (tmp_path / "none").mkdir()
    refused = run_module("experiments.status", str(tmp_path / "none"))
    assert refused.returncode == 2
    assert refused.stderr == f"error: {tmp_path / 'none'} holds no run: no config.json in it or below\n"


@pytest.mark.parametrize("seconds", ["inf", "nan", "0", "-1", "1e300"])
def test_a_pause_that_is_none_is_refused(seconds: str, runs: Path, run_module: RunModule) -> None:
    result = run_module("experiments.status", str(runs), f"--watch={seconds}")
    assert result.returncode == 2
    assert f"{seconds} is not a number above 0 and at most 86,400" in result.stderr


@pytest.mark.parametrize(("updates", "seconds"), [(10**400, 14.0), (100, 1e308)])
def test_time_left_that_no_number_holds_is_not_said(runs: Path, updates: int, seconds: float) -> None:
    config = json.loads((runs / "a" / "run" / "config.json").read_text()) | {"policy": {"num_updates": updates}}
    (runs / "a" / "run" / "config.json").write_text(json.dumps(config))
    JsonLines(runs / "a" / "run" / "timing.jsonl").append([{"phase": "DWM-TD3BC", "step": 50, "seconds": seconds}])
    make_table(list(find_phases(runs)))
