"""Exported policies: they act as the run's own, from a file alone."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import imageio.v2 as imageio
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax import evaluate, export
from dwm_jax.learners.iql import iql
from dwm_jax.normalizers import fit_standard
from dwm_jax.train import train
from tests import tiny

SETTINGS = {
    "observation_size": 3,
    "action_size": 2,
    "hidden": (8,),
    "learning_rate": 1e-3,
    "target_rate": 0.005,
    "expectile": 0.7,
    "beta": 3.0,
    "weight_clip": 100.0,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("evaluate") / "run"
    train(tiny.config(methods="TD3+BC,IQL"), workdir)
    return workdir


def test_what_is_loaded_acts_as_what_was_saved(tmp_path: Path) -> None:
    learner = iql(**SETTINGS)
    states_S = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 2))
    normalizer = fit_standard(np.random.default_rng(0).normal(3, 2, size=(50, 3)))
    file = tmp_path / "policies" / "IQL.npz"
    export.save(
        file,
        method="IQL",
        task="maze2d-umaze",
        seeds=[4, 5],
        learner="iql",
        settings=SETTINGS,
        inference_S=learner.inference(states_S),
        observation_normalizer=normalizer,
    )
    loaded = export.load(file)
    assert (loaded.method, loaded.task, loaded.seeds) == ("IQL", "maze2d-umaze", (4, 5))
    observation = jnp.array([3.0, 2.0, 1.0])
    acted = loaded.act(np.broadcast_to(observation, (2, 1, 3)))
    for seed in (0, 1):
        state = jax.tree.map(lambda leaf, seed=seed: leaf[seed], states_S)
        expected = learner.act(learner.inference(state), normalizer.normalize(observation))
        np.testing.assert_allclose(acted[seed, 0], expected, atol=1e-6)
    assert [path.name for path in file.parent.iterdir()] == ["IQL.npz"]


def test_the_command_repeats_the_runs_last_evaluation(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((finished / "config.json").read_text())["evaluation"]
    evaluate.main([str(finished), "--episodes", str(config["episodes"]), "--seed", str(config["seed"])])
    table = capsys.readouterr().out
    rows = [row for row in csv.DictReader((finished / "results.csv").open()) if row["step"] == "20"]
    for method in ("TD3+BC", "IQL"):
        returns = [float(row["return_raw"]) for row in rows if row["method"] == method]
        assert f"| {method} | maze2d-umaze | 2 | 1 | {np.mean(returns):.1f} ± {np.std(returns):.1f} |" in table


def test_a_film_is_written(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Rendering needs graphics; what is tested is that every step of the episode becomes a frame.
    frames = []

    class Env:
        metadata = {"render_fps": 10}  # noqa: RUF012

        def reset(self, seed):
            return np.zeros(4), {}

        def step(self, action):
            assert action.shape == (2,)
            frames.append(action)
            return np.zeros(4), 0.0, False, len(frames) == 5, {}

        def render(self):
            return np.full((16, 16, 3), 40 * len(frames), np.uint8)

        def close(self):
            pass

    class Task:
        @staticmethod
        def make_env(render_mode):
            assert render_mode == "rgb_array"
            return Env()

    evaluate.film(export.load(finished / "policies" / "IQL.npz"), Task, 0, tmp_path / "film.gif")
    assert len(imageio.mimread(tmp_path / "film.gif")) == 6


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "nowhere holds no policies/*.npz"),
        (["setup.cfg"], "setup.cfg is not a file of exported policies"),
        (["nowhere", "--video", "film.avi"], "film.avi: the name must end in .mp4 or .gif"),
    ],
)
def test_a_wrong_command_is_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        evaluate.main(arguments)
    assert stop.value.code == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert line in errors


def test_help_teaches_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "dwm_jax.evaluate", "--help"],
        capture_output=True,
        text=True,
        env=os.environ.copy(),
        check=True,
    )
    assert "python -m dwm_jax.evaluate runs/quickstart" in result.stdout
