"""How far policies may see what a world model imagines, from its error on held-out segments."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.data import dataset as data
from dwm_jax.data.recording import Recording
from dwm_jax.phases.held_out import find_trusted_horizon, steps_within
from dwm_jax.types import Episode, Trajectory
from dwm_jax.world_models.base import TrainedModel
from tests import tiny

# The state goes up by one a step: 0 .. 11. Those with an action, 0 .. 10, have the variance (11^2 - 1) / 12 = 10.
CLIMB = Episode(
    np.arange(12, dtype=np.float32)[:, None], np.zeros((11, 1), np.float32), np.zeros(11, np.float32), False
)


class Drifting:
    """Imagines a climb that is off by so much at each step: errors are the squares over 10."""

    calls = 0

    def rollout(self, horizon, gamma):
        def imagine(off_H, start, choose_action, key):
            Drifting.calls += 1
            states = start.observation + jnp.arange(1, horizon + 1) + off_H
            return Trajectory(states[:, None], jnp.zeros(horizon), jnp.full(horizon, gamma))

        return imagine

    def inference(self, state):
        return state


def run(workdir: Path, largest_error: float, held_out: bool = True, horizon: int = 4):
    dataset, scale = data.flatten([CLIMB, CLIMB], gamma=0.9, return_scale=1.0)
    training, rest = (np.array([0]), np.array([1])) if held_out else (np.array([0, 1]), np.array([], int))
    config = tiny.config(policy__horizon=horizon, policy__largest_error=largest_error)
    return tiny.run_of(config, Recording(dataset, scale, training, rest, ""), workdir)


def drifting(*off: float) -> TrainedModel:
    return TrainedModel(Drifting(), jnp.array(off), 0.0)


@pytest.mark.parametrize(
    ("off", "largest_error", "steps"),
    [
        ((0, 1, 2, 4), 0.2, 2),  # errors 0, 0.1, 0.4, 1.6
        ((0, 1, 2, 4), 0.5, 3),
        ((0, 1, 2, 4), 2.0, 4),
        ((0, 2, 1, 0), 0.2, 1),  # what comes after the first that is off is imagined from it
        ((4, 0, 0, 0), 0.2, 1),  # the first step is all there is
    ],
)
def test_policies_see_the_steps_before_the_first_whose_error_is_above_the_bound(tmp_path, off, largest_error, steps):
    assert find_trusted_horizon(run(tmp_path, largest_error), "dwm", drifting(*off)) == steps


def test_a_step_that_no_segment_took_is_not_trusted():
    assert steps_within(np.array([0.1, 0.1, np.nan, 0.1]), 0.2) == 2
    assert steps_within(np.array([np.nan, np.nan]), 0.2) == 1


def test_a_run_says_the_errors_up_to_the_first_that_is_too_large(tmp_path, capsys):
    find_trusted_horizon(run(tmp_path, 0.2), "dwm", drifting(0, 1, 2, 4))
    assert (
        "world model dwm: held-out state error at steps 1, 2, …: 0, 0.1, 0.4; policies use the first 2 of 4 imagined "
        "steps (policy.largest_error=0.2)"
    ) in capsys.readouterr().err


def test_a_bound_of_zero_looks_at_nothing(tmp_path):
    assert find_trusted_horizon(run(tmp_path, 0.0), "dwm", drifting(9, 9, 9, 9)) == 4
    assert not list(tmp_path.iterdir())


def test_without_held_out_episodes_those_it_trained_on_are_looked_at_and_it_is_said(tmp_path, capsys):
    assert find_trusted_horizon(run(tmp_path, 0.2, held_out=False), "dwm", drifting(0, 1, 2, 4)) == 2
    assert (
        "world model dwm: training state error at steps 1, 2, …: 0, 0.1, 0.4 (no episode was held out: on others than "
        "it was trained on it may be larger); policies use the first 2 of 4"
    ) in capsys.readouterr().err


def test_what_a_run_found_stays_and_every_model_has_its_own(tmp_path):
    assert find_trusted_horizon(run(tmp_path, 0.2), "dwm", drifting(0, 1, 2, 4)) == 2
    assert find_trusted_horizon(run(tmp_path, 0.2), "one_step", drifting(0, 0, 1, 4)) == 3
    before = Drifting.calls
    assert find_trusted_horizon(run(tmp_path, 0.2), "dwm", drifting(0, 0, 0, 0)) == 2
    assert Drifting.calls == before
    assert json.loads((tmp_path / "horizons.json").read_text()) == {"dwm": 2, "one_step": 3}


@pytest.mark.parametrize("content", ["", "[1]", '{"dwm": 0}', '{"dwm": 5}', '{"dwm": "2"}', '{"dwm": [2]}'])
def test_what_cannot_have_been_found_is_measured_again(tmp_path, content):
    (tmp_path / "horizons.json").write_text(content)
    assert find_trusted_horizon(run(tmp_path, 0.2), "dwm", drifting(0, 1, 2, 4)) == 2


def test_where_no_episode_is_long_enough_to_tell_all_steps_count(tmp_path, capsys):
    assert find_trusted_horizon(run(tmp_path, 0.2, horizon=12), "dwm", drifting(*[9.0] * 12)) == 12
    assert (
        "world model dwm: its prediction error could not be measured (none of the episodes to measure them on has 12 "
        "steps); policies use all 12 imagined steps"
    ) in capsys.readouterr().err
