"""The tutorials run, and what they add from outside is there as if it had been inside."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.end_to_end
def test_a_learner_from_outside_is_configured_trained_and_evaluated(tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    command = [sys.executable, "-m", "experiments.tutorials.new_learner", "--workdir", str(workdir)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    config = json.loads((workdir / "config.json").read_text())
    assert config["learners"]["cloning"] == {"beta": 0.5, "hidden": [32, 32], "learning_rate": 3e-4}
    assert config["policy"]["lambda_"]["cloning"] == 1.0
    evaluated = list(csv.DictReader((workdir / "results.csv").open()))
    assert {row["method"] for row in evaluated} == {"Cloning", "TD3+BC"}
    losses = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [row["actor/loss"] for row in losses if row["phase"] == "Cloning" and row["seed"] == 0]
    assert losses[-1] < losses[0]
    assert "| Cloning |" in (workdir / "summary.md").read_text()
