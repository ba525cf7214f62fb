"""Exported policies: they act as the run's own, from a file alone."""

import csv
import itertools
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

from dwm_jax import evaluate
from dwm_jax.data.tasks import Sizes, get_task
from dwm_jax.learners.iql import IQL
from dwm_jax.learners.policies import Acting
from dwm_jax.maths.normalizers import fit_standard
from dwm_jax.results import dream_frames, policy_files
from dwm_jax.results.evaluator import Evaluator
from dwm_jax.results.policy_files import PolicyHeader
from dwm_jax.train import train
from dwm_jax.types import PyTree
from dwm_jax.world_models.base import TrainedModel
from dwm_jax.world_models.decision_diffuser import DecisionDiffuser
from tests import tiny
from tests.commands import RunModule
from tests.world_models.linear_system import ROWS

SETTINGS = {
    "num_updates": 1,
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
    train(tiny.config(methods="TD3+BC,IQL,DD,OneStep"), workdir)
    return workdir


PLANNER_SETTINGS = {
    "sequence_length": 4,
    "num_diffusion_steps": 3,
    "num_sampling_steps": 2,
    "width": 8,
    "multipliers": (1, 2),
    "learning_rate": 1e-3,
    "ema_rate": 0.9,
    "ema_every": 5,
    "condition_dropout": 0.25,
    "activations": "float32",
    "prediction": "noise",
    "guidance_weight": 1.2,
    "temperature": 0.5,
    "observation_normalizer": "cdf",
    "inverse_hidden": (8,),
    "inverse_dropout": 0.1,
}


def save_planner(file: Path) -> tuple[DecisionDiffuser, PyTree]:
    """Writes the file of an untrained planner; returns the planner and what its `act` needs."""
    planner = DecisionDiffuser(**PLANNER_SETTINGS)
    trained = TrainedModel(planner, planner.init(jax.random.key(0), ROWS), 0.0)
    header = PolicyHeader("DD", "maze2d-umaze", [4, 5])
    policy_files.save_planner(file, header, "decision_diffuser", trained, Sizes(2, 2), 0.7)
    return planner, trained.inference


def test_an_actor_that_is_loaded_acts_as_what_was_saved(tmp_path: Path) -> None:
    learner = IQL(**SETTINGS)
    states_S = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 2))
    normalizer = fit_standard(np.random.default_rng(0).normal(3, 2, size=(50, 3)))
    file = tmp_path / "policies" / "IQL.npz"
    policy_files.save_actors(
        file,
        PolicyHeader("IQL", "maze2d-umaze", [4, 5]),
        "iql",
        SETTINGS,
        Acting(learner.inference(states_S), normalizer),
    )
    loaded = policy_files.load(file)
    assert (loaded.method, loaded.task, loaded.seeds) == ("IQL", "maze2d-umaze", (4, 5))
    observation = jnp.array([3.0, 2.0, 1.0])
    acted = loaded.act(np.broadcast_to(observation, (2, 1, 3)), 0)
    for seed in (0, 1):
        state = jax.tree.map(lambda leaf, seed=seed: leaf[seed], states_S)
        expected = learner.act(learner.inference(state), normalizer.normalize(observation))
        np.testing.assert_allclose(acted[seed, 0], expected, atol=1e-6)
    assert [path.name for path in file.parent.iterdir()] == ["IQL.npz"]


def test_a_planner_that_is_loaded_plans_as_what_was_saved_by_seed_decision_and_episode(tmp_path: Path) -> None:
    planner, inference = save_planner(tmp_path / "DD.npz")
    loaded = policy_files.load(tmp_path / "DD.npz")
    assert (loaded.method, loaded.task, loaded.seeds) == ("DD", "maze2d-umaze", (4, 5))
    observation = jnp.array([0.3, -0.2])
    everywhere = np.broadcast_to(observation, (2, 3, 2))
    acted = np.asarray(loaded.act(everywhere, 9))
    assert acted.shape == (2, 3, 2)
    act = jax.jit(planner.act)
    for s, seed in enumerate((4, 5)):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 9), 3)
        for e in range(3):
            expected = act(inference, observation, jnp.asarray(0.7), keys[e])
            # A batch rounds otherwise than one alone, and sampling makes more of it; other draws are far off.
            np.testing.assert_allclose(acted[s, e], expected, rtol=0, atol=1e-3)
    # Everything else equal: two seeds, two episodes, two decisions draw differently, the same ones alike.
    for other in (acted[::-1], acted[:, ::-1], np.asarray(loaded.act(everywhere, 10))):
        assert np.abs(other - acted).max() > 0.01
    np.testing.assert_array_equal(loaded.act(everywhere, 9), acted)


def test_an_exported_planner_repeats_the_runs_evaluation_to_the_bit(finished: Path) -> None:
    policies = policy_files.load(finished / "policies" / "DD.npz")
    settings = json.loads((finished / "config.json").read_text())["evaluation"]
    task = get_task(policies.task, num_steps=0, seed=0)
    evaluator = Evaluator(task.make_env, len(policies.seeds), settings["episodes"], settings["seed"])
    decisions = itertools.count()
    returns_SE = evaluator(lambda o: np.asarray(policies.act(o.astype(np.float32), next(decisions)))).returns
    evaluator.close()
    rows = [row for row in csv.DictReader((finished / "results.csv").open()) if row["method"] == "DD"]
    assert [int(row["seed"]) for row in rows] == list(policies.seeds)
    np.testing.assert_array_equal(returns_SE.reshape(-1), [float(row["return_raw"]) for row in rows])
    assert returns_SE.max() > 0  # one reaches the goal: with other draws it would be paid otherwise


def altered(file: Path, **changes: object) -> Path:
    """The file with other words about itself."""
    with np.load(file) as stored:
        arrays = dict(stored)
    about = json.loads(str(arrays.pop(policy_files.ABOUT))) | changes
    other = file.with_name("altered.npz")
    np.savez(other, **arrays, **{policy_files.ABOUT: np.array(json.dumps(about))})
    return other


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    save_planner(tmp_path / "DD.npz")
    return tmp_path / "DD.npz"


def test_other_formats_and_kinds_are_refused_in_one_line(exported: Path) -> None:
    for changes, line in (
        ({"format": 1}, r"altered.npz has format 1, this version reads 3, 4; the run's own command"),
        ({"kind": "oracle"}, r"altered.npz holds 'oracle', this version knows actors, planner"),
    ):
        with pytest.raises(ValueError, match=line) as refusal:
            policy_files.load(altered(exported, **changes))
        assert "\n" not in str(refusal.value)


def test_a_file_cut_short_is_refused_in_one_line(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported.write_bytes(exported.read_bytes()[:1000])
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(exported)])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {exported} is not a file of exported policies")


def test_the_command_repeats_the_runs_last_evaluation(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # By default: one episode, where the default config has ten.
    assert evaluate.read_evaluation_settings(finished) == (1, 1_000)
    evaluate.main([str(finished)])
    table = capsys.readouterr().out
    rows = [row for row in csv.DictReader((finished / "results.csv").open()) if row["step"] == "20"]
    for method in ("TD3+BC", "IQL", "DD"):
        returns = [float(row["return_raw"]) for row in rows if row["method"] == method]
        assert f"| {method} | maze2d-umaze | 2 | 1 | {np.mean(returns):.1f} ± {np.std(returns):.1f} |" in table


def test_what_is_no_workdir_is_evaluated_as_by_the_default_config(tmp_path: Path) -> None:
    assert evaluate.read_evaluation_settings(tmp_path) == (10, 1_000)
    assert evaluate.read_evaluation_settings(tmp_path / "TD3+BC.npz") == (10, 1_000)
    # A part of it alone, as another version may have written it; then what is no number, or out of range.
    (tmp_path / "config.json").write_text('{"evaluation": {"seed": 5}}')
    assert evaluate.read_evaluation_settings(tmp_path) == (10, 5)
    wrong = [f'{{"episodes": {number}}}' for number in (0, 10**9, "Infinity")]
    wrong += [f'{{"seed": {number}}}' for number in (-1, 2**32)]
    for evaluation in ('"x"', '{"seed": "x"}', "[[1]]", *wrong):
        (tmp_path / "config.json").write_text(f'{{"evaluation": {evaluation}}}')
        with pytest.raises(ValueError, match=r"config.json does not tell how the run is evaluated"):
            evaluate.read_evaluation_settings(tmp_path)


@pytest.mark.parametrize(
    ("also", "line"),
    [(["--episodes", "10"], "--episodes are a policy's"), (["--video", "b.gif"], "--video films a policy")],
)
def test_a_dream_takes_no_option_of_a_policy(
    also: list[str], line: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(finished), "--dream", str(tmp_path / "dream.gif"), *also])
    assert stop.value.code == 2
    assert line in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_the_file_alone_is_enough_where_neither_data_nor_run_are(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Data of one's own: an environment with arguments and a clock that only its specification tells."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    learner = IQL(**SETTINGS | {"observation_size": 11, "action_size": 3})
    states_S = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 2))
    place = {
        "environment": "Hopper-v5",
        "environment_spec": json.dumps(
            {"id": "Hopper-v5", "kwargs": {"reset_noise_scale": 0.0}, "max_episode_steps": 3}
        ),
        "observation_keys": [[]],
        "action_range": [[-1.0] * 3, [1.0] * 3],
        "max_episode_steps": None,
        "reference_scores": [0.0, 1.0],
    }
    policy_files.save_actors(
        tmp_path / "mine.npz",
        PolicyHeader("IQL", "nobody-has-this-v0", [4, 5], place),
        "iql",
        SETTINGS | {"observation_size": 11, "action_size": 3},
        Acting(learner.inference(states_S), fit_standard(np.random.default_rng(0).normal(size=(50, 11)))),
    )
    evaluate.main([str(tmp_path / "mine.npz"), "--episodes", "2"])
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("| IQL"))
    cells = [cell.strip() for cell in row.split("|")]
    # Reference scores 0 and 1: the score is the return.
    assert cells[2] == "nobody-has-this-v0"
    assert float(cells[5].split()[0]) == pytest.approx(float(cells[6].split()[0]), abs=0.1)


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

    policies = policy_files.load(finished / "policies" / "IQL.npz")
    evaluate.film_episode(policies, Task, 0, tmp_path / "film.gif")
    assert len(imageio.mimread(tmp_path / "film.gif")) == 6

    # 125 frames a second are more than a film shows: frames 0 and 5 are left, at 25 a second.
    Env.metadata["render_fps"] = 125
    frames.clear()
    evaluate.film_episode(policies, Task, 0, tmp_path / "fast.gif")
    film = imageio.mimread(tmp_path / "fast.gif")
    assert [frame[0, 0, 0] for frame in film] == [0, 200]
    assert imageio.get_reader(tmp_path / "fast.gif").get_meta_data()["duration"] == 40


def test_a_dream_is_filmed_from_a_finished_run_without_a_display(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    monkeypatch.setattr(dream_frames, "MAX_FRAMES", 4)
    before = tiny.files(finished.parent)
    evaluate.main([str(finished), "--dream", str(tmp_path / "dream.gif")])
    # 300 steps in strides of 75 are frames 0, 75, 150, 225 and the last.
    film = imageio.mimread(tmp_path / "dream.gif")
    assert len(film) >= 5  # those that repeat the last may be one that is shown for longer
    assert "OneStep then imagines 3 steps at a time" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["dream.gif"]
    assert tiny.files(finished.parent) == before


def test_a_dream_needs_a_run_and_its_world_model(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "elsewhere" / "run"
    other.mkdir(parents=True)
    config = (finished / "config.json").read_text()
    unknown = config.replace('"checkpoint_every"', '"checkpoint_now"')
    without = config.replace("TD3+BC,IQL,DD,OneStep", "TD3+BC,DD")
    for written, line in (
        (config, "no finished world model one_step in "),
        (unknown, 'is not a config of this version: \'Key "checkpoint_now" does not exist'),
        (without, "none of its methods (TD3+BC, DD) has a world model that imagines"),
    ):
        (other / "config.json").write_text(written)
        with pytest.raises(SystemExit) as stop:
            evaluate.main([str(other), "--dream", str(tmp_path / "dream.gif")])
        assert stop.value.code == 2
        assert line in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["nowhere"], 2, "nowhere: no such file or folder"),
        (["tests"], 2, "tests holds no policies/*.npz"),
        (["setup.cfg"], 2, "setup.cfg is not a file of exported policies"),
        (
            ["setup.cfg", "--dream", "film.gif"],
            2,
            "--dream needs the workdir of a run, with its data and world model; s",
        ),
        (["setup.cfg", "--video", "film.avi"], 2, "film.avi: the name must end in .mp4 or .gif"),
        (["nowhere", "--dream", "film.png"], 2, "--dream film.png: the name must end in .mp4 or .gif"),
        (["nowhere", "--dream", "film.gif"], 2, "nowhere holds no run: it has no config.json"),
        (["setup.cfg", "--import", "no_such_module"], 2, "--import no_such_module: ModuleNotFoundError"),
        (["setup.cfg", "--import", "no_such_file.py"], 2, "--import no_such_file.py: FileNotFoundError"),
    ],
)
def test_a_wrong_command_is_one_line(
    arguments: list[str], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        evaluate.main(arguments)
    assert stop.value.code == code
    table, errors = capsys.readouterr()
    assert table == ""
    assert errors.startswith("error: ")
    assert line in errors


def test_a_machine_that_cannot_draw_says_so_in_one_line_with_the_remedy(finished: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "dwm_jax.evaluate", str(finished), "--video", str(tmp_path / "film.gif")],
        capture_output=True,
        text=True,
        env=os.environ | {"MUJOCO_GL": "disable"},
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: --video: this machine cannot draw (RuntimeError")
    assert "MUJOCO_GL=osmesa" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_teaches_the_command(run_module: RunModule) -> None:
    result = run_module("dwm_jax.evaluate", "--help")
    assert result.returncode == 0
    assert "python -m dwm_jax.evaluate runs/quickstart" in result.stdout
