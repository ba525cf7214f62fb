"""The score that choosing among variants gets, by the evaluation episodes it may cost: a bandit worked by hand."""

from pathlib import Path

import numpy as np
import pytest

from experiments.report import online, reading
from experiments.studies.catalogue import STUDIES
from tests.experiments.test_report import TASK, make_run


def test_the_upper_bound_by_hand() -> None:
    # After 4 pulls, one of the first arm and three of the second: 0.5 + sqrt(2 log 4), 0.9 / 3 + sqrt(2 log 4 / 3).
    bounds = online.upper_bounds(np.array([[1.0, 3.0, 0.0]]), np.array([[0.5, 0.9, 0.0]]), 4)
    np.testing.assert_allclose(bounds, [[0.5 + 1.66511, 0.3 + 0.96135, np.inf]], atol=1e-5)


def test_arms_that_never_vary_are_told_apart_once_each_was_pulled() -> None:
    trials = online.run_trials([np.zeros(4), np.full(4, 2.0), np.full(4, 4.0)], num_trials=4_000, num_pulls=5)
    # One pull: any arm, mean 2. Two: the better of a random pair, (2 + 4 + 4) / 3. Three: the best.
    np.testing.assert_allclose(trials.mean, [2.0, 10 / 3, 4.0, 4.0, 4.0], atol=0.1)
    np.testing.assert_array_equal(trials.low[2:], 4.0)


def test_a_lucky_episode_is_found_out() -> None:
    # Both arms pay 0 or 1; the second pays 1 in nine of ten episodes, the first in one. Their means are 0.1 and 0.9.
    rare = np.append(np.zeros(9), 1.0)
    trials = online.run_trials([rare, 1 - rare], num_trials=2_000, num_pulls=60)
    assert trials.mean[0] == pytest.approx(0.5, abs=0.05)
    assert trials.mean[1] > 0.8
    assert trials.mean[-1] > 0.89


def test_a_report_has_the_section_for_methods_with_two_variants_alone(tmp_path: Path) -> None:
    for variant, score in (("H1", 0.2), ("H3", 0.6)):
        make_run(tmp_path / "main" / TASK / variant, {"DWM-TD3BC": [[0.0, 0.0]] + 3 * [[score, score]]})
    make_run(tmp_path / "main" / TASK / "free", {"TD3+BC": [[0.3, 0.3]]})
    runs = reading.read_all(tmp_path, list(STUDIES)).runs
    text = online.make_section("main", TASK, runs, tmp_path)
    # Episodes lie 0.1 around the score, so three pulls, one or two of each, tell 0.2 from 0.6; one is either.
    assert "| DWM-TD3BC | 2 | " in text
    assert text.count(" 0.60 | 0.60 | 0.60 | 0.60 | 0.60 | 0.40 |") == 1
    assert "TD3+BC |" not in text.replace("DWM-TD3BC |", "")
    assert (tmp_path / "figures" / f"main-{TASK}-online.svg").exists()
    assert online.make_section("main", TASK, [run for run in runs if run.variant != "H1"], tmp_path) == ""
