"""Choosing without the simulator: fitted Q evaluation on a chain whose values are known, rankings judged by hand."""

import csv
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.config import to_json
from dwm_jax.data.dataset import Dataset, flatten
from dwm_jax.learners.policies import Acting, fit_units
from dwm_jax.registry import LEARNERS
from dwm_jax.results import policy_files
from dwm_jax.results.policy_files import PolicyHeader
from dwm_jax.runtime.row_files import Result, Results
from dwm_jax.types import Episode, Trajectory
from dwm_jax.workdir import load_recording
from dwm_jax.world_models.base import TrainedModel
from experiments.choose import automatic, fitted_q, imagined, rankings
from experiments.choose.__main__ import main
from experiments.choose.automatic import Measured
from tests import tiny

# ------------------------------------------------------------------------------------------- fitted Q evaluation

NUM_STATES, GAMMA = 4, 0.8


def chain(num_episodes: int = 60) -> Dataset:
    """States 0 .. 3, one to the right after an action above 0, else staying; 1 for leaving state 3, where it ends."""
    rng = np.random.default_rng(0)
    episodes = []
    for _ in range(num_episodes):
        states, actions, rewards = [0], [], []
        for _ in range(20):
            action = rng.uniform(-1, 1)
            moves = action > 0
            actions.append(action)
            rewards.append(float(moves and states[-1] == NUM_STATES - 1))
            states.append(min(states[-1] + moves, NUM_STATES - 1))
            if rewards[-1]:
                break
        terminated = bool(rewards[-1])
        episodes.append(
            Episode(
                np.eye(NUM_STATES, dtype=np.float32)[states],
                np.array(actions, np.float32)[:, None],
                np.array(rewards, np.float32),
                terminated,
            )
        )
    return flatten(episodes, GAMMA, 1.0)[0]


def going_right_or_staying(observations_nO: np.ndarray) -> np.ndarray:
    """Two policies."""
    return np.stack([np.full((len(observations_nO), 1), action, np.float32) for action in (0.5, -0.5)])


def test_a_chain_is_worth_what_it_is_by_hand_to_whom_goes_along_and_nothing_to_whom_stays() -> None:
    dataset = chain()
    actions = fitted_q.actions_of(going_right_or_staying, dataset, chunk=100)
    settings = fitted_q.Settings(1_500, batch_size=64, hidden=(32, 32), target_rate=0.1)
    # Half the return scale: everything is worth twice as much in its units.
    transitions = fitted_q.transitions_of(dataset, 0.5, GAMMA)
    *_, (updates, worth_S) = fitted_q.make_fit(settings)(transitions, actions)
    assert updates == 1_500
    # From state 0: three steps without reward, then 1: 0.8^3 = 0.512.
    np.testing.assert_allclose(0.5 * worth_S, [0.512, 0.0], atol=0.03)


def test_the_last_transition_of_a_truncated_episode_is_bootstrapped_and_a_terminated_one_is_not() -> None:
    def episode(terminated: bool) -> Episode:
        return Episode(np.arange(3.0)[:, None], np.zeros((2, 1)), np.array([1.0, 2.0]), terminated)

    transitions = fitted_q.transitions_of(flatten([episode(True), episode(False)], GAMMA, 1.0)[0], 2.0, GAMMA)
    np.testing.assert_allclose(transitions.discount, [0.8, 0.0, 0.8, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(transitions.reward, [0.5, 1.0, 0.5, 1.0])
    assert len(transitions.start) == 2


def test_policies_alike_are_worth_alike() -> None:
    dataset = chain(5)
    actions = fitted_q.actions_of(lambda o: going_right_or_staying(o)[[0, 0]], dataset)
    fit = fitted_q.make_fit(fitted_q.Settings(20, batch_size=8, hidden=(8,)))
    ((_, worth_S),) = fit(fitted_q.transitions_of(dataset, 1.0, GAMMA), actions)
    np.testing.assert_allclose(worth_S[0], worth_S[1], rtol=1e-6)


# ------------------------------------------------------------------------------------------- rankings

TRUTH = np.array([0.1, 0.9, 0.4, 0.6])


def test_spearman_by_hand() -> None:
    # Ranks 1 4 2 3 of the truth. Estimates ranked 1 3 2 4: d^2 = 0 + 1 + 0 + 1;  1 - 6 * 2 / (4 * 15) = 0.8.
    assert rankings.spearman(np.array([1.0, 3.0, 2.0, 4.0]), TRUTH) == pytest.approx(0.8)
    # Ties have their mean rank: 1, 3.5, 2, 3.5 against 1 4 2 3: covariance 4.5 / sqrt(4.5 * 5).
    assert rankings.spearman(np.array([1.0, 3.0, 2.0, 3.0]), TRUTH) == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert np.isnan(rankings.spearman(np.ones(4), TRUTH))
    assert np.isnan(rankings.spearman(np.ones(1), np.ones(1)))


@pytest.mark.parametrize(
    ("estimates", "k", "expected"),
    [
        ([1, 4, 2, 3], 1, 0.0),  # the best is first
        ([1, 2, 3, 4], 1, 0.3),  # 0.6 is first: 0.9 - 0.6
        ([4, 1, 3, 2], 3, 0.3),  # 0.1, 0.4 and 0.6 are kept
        ([4, 1, 3, 2], 9, 0.0),  # all of them
        ([2, 2, 2, 2], 1, 0.9 - (0.1 + 0.9 + 0.4 + 0.6) / 4),  # any of four
        # 0.1 for certain and two of {0.9, 0.4, 0.6}: the best of the pair is 0.9 in two of three, else 0.6.
        ([4, 1, 1, 1], 3, 0.9 - (2 * 0.9 + 0.6) / 3),
        # 0.6 for certain and one of {0.1, 0.4}, both below it.
        ([2, 1, 2, 3], 2, 0.3),
    ],
)
def test_regret_by_hand(estimates: list[int], k: int, expected: float) -> None:
    assert rankings.regret(np.array(estimates, float), TRUTH, k) == pytest.approx(expected)


# ------------------------------------------------------------------------------------------- imagined returns


class Echo:
    """Imagines two steps that pay the first action and then what was asked for."""

    longest_horizon, reachable_return = 2, None

    @staticmethod
    def inference(state: Any) -> Any:
        return state

    @staticmethod
    def rollout(horizon: int, gamma: float) -> Any:
        def imagine(model: Any, start: Any, choose_action: Any, key: Any) -> Trajectory:
            rewards = jnp.stack([start.action[0] + start.observation[0], start.return_to_go])
            return Trajectory(jnp.zeros((horizon, 1)), rewards, jnp.full(horizon, gamma))

        return imagine


def test_imagined_returns_begin_with_the_policys_own_action() -> None:
    config = tiny.config(gamma=0.5, policy__return_to_go=0.8)
    run = tiny.run_of(config, None)  # type: ignore[arg-type]
    starts, actions = np.array([[1.0], [3.0]], np.float32), np.array([[[0.2], [0.4]], [[-1.0], [-1.0]]], np.float32)
    trained = TrainedModel(Echo(), (), 0.0)  # type: ignore[arg-type]
    # Means over the starts: (1 + 3) / 2 + (0.2 + 0.4) / 2 + 0.5 * 0.8, and 2 - 1 + 0.4.
    found = imagined.make_imagine_returns(run, trained, num_draws=2)(starts, actions)
    np.testing.assert_allclose(found, [2.7, 1.4], rtol=1e-6)


# ------------------------------------------------------------------------------------------- the rule of --auto


def test_no_step_is_trusted_behind_one_that_is_not() -> None:
    _, rows = automatic.horizon_table(Measured(np.array([9.0, 0.01, 0.01]), np.ones(3), (0.8, 0.2, 0.3)))
    assert [row[-1] for row in rows] == ["no", "no", "no"]


def test_the_horizon_is_the_last_before_error_or_spread_leave_the_bounds() -> None:
    error, spread = np.array([0.1, 0.2, 0.3, 0.7]), np.array([1.0, 0.6, 1.9, 1.0])
    assert Measured(error, spread, (0, 0, 0)).horizon == 3
    assert Measured(error, np.array([1.0, 0.4, 1.0, 1.0]), (0, 0, 0)).horizon == 1
    assert Measured(error, np.array([2.1, 1.0, 1.0, 1.0]), (0, 0, 0)).horizon == 0
    # Of an error of a thousandth any spread will do.
    assert Measured(np.array([0.001, 0.3]), np.array([3.8, 1.0]), (0, 0, 0)).horizon == 2
    assert Measured(error, np.full(4, np.nan), (0, 0, 0)).horizon == 0


def test_the_advice_can_be_pasted() -> None:
    # The 0.9 quantile of 0, 0.1, .. 1.0 is 0.9.
    said = automatic.explain_overrides(
        Measured(np.array([0.1, 0.9]), np.ones(2), (0.8, 0.2, 0.3)), np.linspace(0, 1, 11), "training"
    )
    assert said.endswith("    --config.policy.horizon=1 --config.policy.return_to_go=0.9")
    assert "The first 1 of 2 are." in said
    assert "on training segments (no episode was held out: " in said


# ------------------------------------------------------------------------------------------- the command


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One run with two seeds of TD3+BC as it is initialised, evaluated once; no world model."""
    config = tiny.config(methods="TD3+BC")
    recording = load_recording(config)[1]
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    (run / "config.json").write_text(to_json(config))
    (run / "data.json").write_text(json.dumps({"fingerprint": recording.fingerprint}))
    learner = LEARNERS["td3_bc"](observation_size=4, action_size=2, num_updates=20, **config.learners.td3_bc.to_dict())
    states_S = jax.jit(jax.vmap(learner.init))(jax.random.split(jax.random.key(0)))
    policy_files.save_actors(
        run / "policies" / "TD3+BC.npz",
        PolicyHeader("TD3+BC", "maze2d-umaze", (0, 1)),
        "td3_bc",
        {"observation_size": 4, "action_size": 2, "num_updates": 20, **config.learners.td3_bc.to_dict()},
        Acting(learner.inference(states_S), fit_units(learner, recording.dataset).observation_normalizer),
    )
    Results(run / "results.csv").append(
        Result("TD3+BC", "maze2d-umaze", seed, step, 0, 10.0, step / 100 + seed, 0.0, 5.0 + seed, 7.0 - seed)
        for step in (10, 20)
        for seed in (0, 1)
    )
    return tmp_path / "runs"


def test_policies_are_ranked_and_the_rankings_judged(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(runs), "-o", str(tmp_path / "out"), "--updates", "10"])
    with open(tmp_path / "out" / "policies.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    by_seed = {row["seed"]: row for row in rows}
    assert by_seed["1"]["score"] == "1.2"  # of the last evaluation
    assert by_seed["1"]["own_critic"] == "6.0"
    assert by_seed["1"]["discounted_return"] == "6.0"
    assert by_seed["0"]["imagined"] == ""
    assert float(rows[0]["fitted_Q"]) >= float(rows[1]["fitted_Q"])
    with open(tmp_path / "out" / "rankings.csv", newline="") as file:
        judged = {row["estimate"]: row for row in csv.DictReader(file)}
    # The critics preferred seed 0, which scores 1.0 less; nothing was imagined.
    assert judged.keys() == {"fitted Q", "own critic"}
    assert float(judged["own critic"]["spearman"]) == pytest.approx(-1.0)
    assert float(judged["own critic"]["regret_at_1"]) == pytest.approx(1.0)
    assert float(judged["own critic"]["regret_at_3"]) == 0.0
    said = capsys.readouterr()
    assert "no diffusion world model is kept beside these runs" in said.err
    assert "own critic" in said.out
    assert len(list((tmp_path / "out" / "figures").glob("*.svg"))) == 1


def test_auto_reads_what_a_run_measured(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibration = {"requested": [0.1, 0.5], "imagined": [0.1, 0.2], "recorded": [0.1, 0.3]}
    measured = {
        "prediction_error": {"dwm": {"observation": [0.1, 0.2, 0.6], "reward": [0.0, 0.0, 0.0]}},
        "spread_over_error": {"dwm": [1.0, 1.1, 1.2]},
        "calibration": {"dwm": calibration},
    }
    (runs / "a" / "diagnostics.json").write_text(json.dumps(measured))
    main([str(runs), "--auto"])
    assert "--config.policy.horizon=2 --config.policy.return_to_go=" in capsys.readouterr().out


def leave_diagnostics_of_policies(runs: Path) -> None:
    (runs / "a" / "diagnostics.json").write_text(json.dumps({"acting_seconds": {"TD3+BC": 0.1}}))


def leave_older_diagnostics(runs: Path) -> None:
    errors = {"dwm": {"observation": [0.1], "reward": [0.0]}}
    (runs / "a" / "diagnostics.json").write_text(json.dumps({"prediction_error": errors}))


def leave_one_number_for_all_steps(runs: Path) -> None:
    measured = {
        "prediction_error": {"dwm": {"observation": 0.1}},
        "spread_over_error": {"dwm": 1.0},
        "calibration": {"dwm": {"requested": [0.1], "imagined": [0.1], "recorded": [0.1]}},
    }
    (runs / "a" / "diagnostics.json").write_text(json.dumps(measured))


@pytest.mark.parametrize("flags", [["--updates", "10"], ["--seed", "0"], ["-o", "out"]])
def test_what_auto_would_not_read_is_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["runs", "--auto", *flags])
    assert left.value.code == 2
    assert "error: --auto " in capsys.readouterr().err


def damage_data(runs: Path) -> None:
    (runs / "a" / "data.json").write_text(json.dumps({"fingerprint": "0"}))


def remove_policies(runs: Path) -> None:
    (runs / "a" / "policies" / "TD3+BC.npz").unlink()


def remove_config(runs: Path) -> None:
    (runs / "a" / "config.json").unlink()


def remove_gamma(runs: Path) -> None:
    config = json.loads((runs / "a" / "config.json").read_text())
    del config["gamma"]
    (runs / "a" / "config.json").write_text(json.dumps(config))


def rename_setting(runs: Path) -> None:
    config = runs / "a" / "config.json"
    config.write_text(config.read_text().replace('"alpha"', '"alfa"'))


@pytest.mark.parametrize(
    ("change", "flags", "reason"),
    [
        (remove_config, [], "holds no run: no config.json in it or below"),
        (remove_policies, [], "holds no finished policy"),
        (damage_data, [], "maze2d-umaze now holds other data than the run learnt from"),
        (rename_setting, [], "config.json is not a config of this version"),
        (remove_gamma, [], "holds no finished policy"),
        (leave_older_diagnostics, ["--auto"], "has no 'spread_over_error' of the world model: an older version's"),
        (leave_one_number_for_all_steps, ["--auto"], "a/diagnostics.json cannot be read: errors and spreads are not"),
        (leave_diagnostics_of_policies, ["--auto"], "has measured a diffusion world model: train one with"),
        (remove_policies, ["--auto"], "has measured a diffusion world model: train one with --config.methods=DWM"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    runs: Path, change: Any, flags: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(runs)
    with pytest.raises(SystemExit) as left:
        main([str(runs), *flags])
    assert left.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert reason in errors[0]
