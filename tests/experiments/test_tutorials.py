"""The tutorials run as they stand, and what they add from outside is there as if it had been inside."""

import ast
import csv
import json
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax import evaluate, registry
from dwm_jax.config import check
from dwm_jax.data import minari_store
from dwm_jax.train import train
from dwm_jax.types import Start, Trajectory
from tests.commands import RunModule
from tests.world_models import linear_system

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted(path.stem for path in (ROOT / "experiments" / "tutorials").glob("*.py") if path.stem != "__init__")
# How the programs themselves are run, once each.
pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """What tutorials register goes with this module."""
    tables = [registry.LEARNERS, registry.MODELS, registry.METHODS]
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def defined_in(name: str, *arguments: str) -> dict[str, Any]:
    """What the program defines when it is run in this process, as by another name than its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        return runpy.run_module(f"experiments.tutorials.{name}", run_name=name)


def trained(name: str, workdir: Path) -> dict[str, Any]:
    """The same, and its config trained in `workdir`: what its command does, without a process of its own."""
    defined = defined_in(name)
    config = defined["get_config"]()
    check(config, jax.device_count())
    train(config, workdir)
    return defined


def rows_of(workdir: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((workdir / "results.csv").open()))


def losses_of(file: Path, name: str, **where: object) -> list[float]:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [row[name] for row in rows if all(row[key] == value for key, value in where.items())]


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_says_what_is_learnt_how_long_it_takes_and_how_it_is_run(name: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / "experiments" / "tutorials" / f"{name}.py").read_text())) or ""
    assert f"python -m experiments.tutorials.{name} " in text
    assert "\nYou learn: " in text
    assert re.search(r"\nTakes: .*\d+ s", text)
    top = (ROOT / "README.md").read_text().split("\n## ")[0]
    assert f"(experiments/tutorials/{name}.py)" in top


def test_a_learner_by_one_loss_is_configured_trained_exported_and_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learner_class = trained("own_learner", tmp_path / "run")["TD3L1"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["learners"]["td3_l1"] == config["learners"]["td3_bc"] | {"weight": 0.5}
    assert {row["method"] for row in rows_of(tmp_path / "run")} == {"TD3+L1-H", "TD3+BC-H"}
    assert "DWM-TD3L1" in registry.METHODS
    evaluate.main([str(tmp_path / "run"), "--episodes", "1", "--import", "experiments.tutorials.own_learner"])
    assert "| TD3+L1-H | maze2d-umaze | 2 | 1 |" in capsys.readouterr().out

    def loss(weight: float) -> float:
        learner = learner_class(observation_size=3, action_size=2, num_updates=1, hidden=(8,), weight=weight)
        state = learner.init(jax.random.key(0))
        acted = learner.actor.apply(state.online.actor, jnp.ones((4, 3)))
        batch = SimpleNamespace(observation=jnp.ones((4, 3)), action=acted + jnp.array([0.1, -0.3]))
        return learner.actor_loss(state.online.actor, state.online.critics, batch, lambda tree: tree)[0]

    # The actor is 0.1 and 0.3 away from the recorded action's entries, 0.2 in the mean.
    assert loss(1.0) - loss(0.0) == pytest.approx(0.2, abs=1e-5)
    # In one and the same state  Q / mean|Q|  is 1 or -1, and alpha is 2.5.
    assert abs(loss(0.0)) == pytest.approx(2.5, abs=1e-5)


def test_a_whole_learner_is_configured_trained_and_evaluated(run_module: RunModule, tmp_path: Path) -> None:
    # The one that is quickest to compile, as a command with an override.
    command = ["experiments.tutorials.whole_learner", "--workdir", str(tmp_path / "run")]
    result = run_module(*command, "--config.seed=3")
    assert result.returncode == 0, result.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["learners"]["cloning"] == {"beta": 0.5, "hidden": [32, 32], "learning_rate": 3e-4}
    assert config["policy"]["lambda_"]["cloning"] == 1.0
    assert {(row["method"], row["seed"]) for row in rows_of(tmp_path / "run")} == {("Cloning", "3"), ("Cloning", "4")}
    losses = losses_of(tmp_path / "run" / "metrics.jsonl", "actor/loss", phase="Cloning", seed=3)
    assert losses[-1] < losses[0]
    assert "| Cloning |" in (tmp_path / "run" / "summary.md").read_text()


def test_a_denoiser_is_trained_measured_and_told_of_no_hidden_return(tmp_path: Path) -> None:
    network = trained("own_denoiser", tmp_path / "run")["Perceptron"](8)
    config = json.loads((tmp_path / "run" / "config.json").read_text())["world_models"]
    # The U-Net's settings are not offered; all others are DWM's.
    assert config["dwm"].keys() - config["perceptron"].keys() == {"multipliers", "activations"}
    measured = json.loads((tmp_path / "run" / "diagnostics.json").read_text())["prediction_error"]
    assert np.isfinite(measured["perceptron"]["observation"]).all()
    action = jnp.array([0.3, -0.2])
    told = [network.apply({}, action, jnp.asarray(g), 1.0, method="embed_condition") for g in (0.5, 2.0)]
    hidden = [network.apply({}, action, jnp.asarray(g), 0.0, method="embed_condition") for g in (0.5, 2.0)]
    np.testing.assert_allclose(told, [[0.3, -0.2, 0.5, 1], [0.3, -0.2, 2, 1]], rtol=1e-6)
    np.testing.assert_allclose(hidden, [[0.3, -0.2, 0, 0]] * 2, rtol=1e-6)


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, type]:
    workdir = tmp_path_factory.mktemp("linear") / "run"
    return workdir, trained("own_world_model", workdir)["Linear"]


def test_a_world_model_is_trained_asked_and_measured(linear: tuple[Path, type]) -> None:
    workdir, _ = linear
    (file,) = (workdir.parent / "world_models").glob("*-linear-*/metrics.jsonl")
    losses = losses_of(file, "world_model/loss")
    assert losses[-1] < losses[0] / 2
    assert {row["method"] for row in rows_of(workdir)} == {"Linear-TD3BC"}
    assert "| linear, told the recorded actions |" in (workdir / "summary.md").read_text()


def test_a_linear_world_model_imagines_a_linear_system_exactly(linear: tuple[Path, type]) -> None:
    model = linear[1](learning_rate=0.05)
    state = model.init(jax.random.key(0), linear_system.ROWS)
    segments = linear_system.make_segments(512)
    update = jax.jit(lambda state: model.update(state, segments, None, None, lambda tree: tree)[0])
    for _ in range(300):
        state = update(state)
    start = Start(jnp.array([0.5, -0.5]), jnp.array([1.0, 0.0]), jnp.asarray(0.0))
    rollout = model.rollout(2, 0.9)
    imagined: Trajectory = rollout(
        model.inference(state), start, lambda h, observation, key: jnp.array([0.0, 1.0]), jax.random.key(0)
    )
    # s' = 0.9 s + 0.3 a, r = 2 s_0: by (1, 0) to (0.75, -0.45), by (0, 1) to (0.675, -0.105).
    np.testing.assert_allclose(imagined.next_observations, [[0.75, -0.45], [0.675, -0.105]], atol=0.01)
    np.testing.assert_allclose(imagined.rewards, [1.0, 1.5], atol=0.01)
    np.testing.assert_allclose(imagined.discounts, [0.9, 0.9])


def test_data_and_environment_of_ones_own_are_learnt_from_and_evaluated_in(tmp_path: Path) -> None:
    trained("own_data", tmp_path / "run")
    stored = minari_store.read_stored("tutorial-slider-v0")
    assert stored.environment == "experiments.tutorials.own_data:Slider-v0"
    assert len(minari_store.read_episodes("tutorial-slider-v0")) == 40
    returns = [float(row["return_raw"]) for row in rows_of(tmp_path / "run")]
    # At most 1 a step, for 50 steps; the start alone is within 1 of the middle, exp(-1) there.
    assert all(0.3 < value <= 50 for value in returns)


def test_what_is_no_run_to_read_is_one_line_and_help_teaches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "TD3+BC.npz").touch()
    (tmp_path / "diagnostics.json").write_text('{"acting_seconds": {"TD3+BC": 0.1}}')
    for arguments, line in (
        ([], "the following arguments are required: RUN"),
        (["nowhere"], "nowhere holds no finished run with policies and a world model"),
        ([str(tmp_path)], f"{tmp_path} holds no finished run with policies and a world model"),
    ):
        with pytest.raises(SystemExit) as stop:
            defined_in("reading_results", *arguments)
        assert stop.value.code == 2
        assert line in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(SystemExit) as stop:
        defined_in("reading_results", "--help")
    assert stop.value.code == 0
    assert "python -m experiments.tutorials.reading_results runs/quickstart" in capsys.readouterr().out


def test_a_run_is_read_cell_by_cell(
    linear: tuple[Path, type], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir, _ = linear
    monkeypatch.chdir(tmp_path)
    read = defined_in("reading_results", str(workdir))
    printed = capsys.readouterr().out
    scores = [float(row["score_0_1"]) for row in rows_of(workdir) if row["step"] == "40"]
    assert f"Linear-TD3BC: {np.mean(scores):.2f} ± " in printed
    assert read["futures"].next_observations.shape == (16, 3, 4)
    # Deterministic, and told the same actions: one future.
    assert np.ptp(read["futures"].next_observations, axis=0).max() == 0
    assert (workdir / "futures.png").stat().st_size > 0
