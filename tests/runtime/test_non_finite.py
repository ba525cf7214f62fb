"""Numbers that are not finite: who notices, and what is said of where they come from."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.phases.phase import RunError
from dwm_jax.runtime import non_finite, parallel
from dwm_jax.train import train
from tests import tiny

DIVERGING = {"methods": "TD3+BC", "learners__td3_bc__learning_rate": 1e30}


def test_the_first_non_finite_metric_is_named_with_its_step():
    metrics = {
        "fine": np.zeros(4),
        "later": np.array([0, 0, 0, np.inf]),
        "first": np.array([0, 0, np.nan, 0]),
        "per_seed": np.array([[0, 0], [0, 0], [0, 0], [np.nan, 0]]),
    }
    assert non_finite.find_first_metric(metrics, 100) == (102, "first")
    assert non_finite.find_first_metric({"per_seed": metrics["per_seed"]}, 0) == (3, "per_seed")
    assert non_finite.find_first_metric({"fine": np.zeros(4)}, 100) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_leaf_that_is_not_finite_is_named(bad):
    tree = {"count": jnp.array(3), "params": {"w": jnp.array([1.0, bad]), "b": jnp.zeros(2)}, "empty": ()}
    assert non_finite.find_first_leaf(tree) == "['params']['w']"
    assert non_finite.find_first_leaf(tree | {"params": {"w": jnp.ones(2)}}) is None
    # What an accelerator is asked instead.
    assert not non_finite._is_finite_there(tree["params"]["w"])
    assert non_finite._is_finite_there(tree["params"]["b"])


def update(state, data, step):
    """A square root of what falls below zero at step 3: its NaN reaches the state, and the metric one step later."""
    return state + parallel.average(jnp.sqrt(data - step)), {"loss": state}


updates = parallel.repeat_update(update)


def test_the_operation_is_found_in_the_update_that_first_went_wrong():
    found = non_finite.find_first_operation(updates, np.zeros(()), np.full((), 2.5), range(0, 10))
    assert found.startswith("update 3: invalid value (nan) encountered in sqrt")


def test_a_repetition_that_stays_finite_is_said():
    found = non_finite.find_first_operation(updates, np.zeros(()), np.full((), 9.5), range(0, 10))
    assert found == "repeated on one device, every number stayed finite"


def test_the_repetition_on_one_device_is_the_real_update():
    dispatch = parallel.make_dispatch(updates, 3)
    state, _ = dispatch(parallel.replicate(np.zeros(())), parallel.replicate(np.full((), 2.5)), 0)
    alone, one = jnp.zeros(()), jax.jit(parallel.on_one_device(updates))
    for step in range(3):
        alone, _ = one(alone, jnp.full((), 2.5), jnp.array([step]))
    np.testing.assert_allclose(alone, parallel.unreplicate(state), rtol=1e-6)


def test_a_metric_that_is_not_finite_stops_the_run_with_step_metric_and_checkpoint(tmp_path: Path) -> None:
    # A learning rate of 1e30 overflows within a few updates.
    said = r"TD3\+BC: critic/\w+ is not finite at update \d+; stopped\. start .* --debug-nans .*; last good checkpoint"
    with pytest.raises(RunError, match=said):
        train(tiny.config(**DIVERGING), tmp_path / "run")


def test_a_parameter_that_is_not_finite_stops_the_run_before_it_is_saved(tmp_path, monkeypatch):
    # Finite gradients, but the step overflows: the last update's losses do not see it.
    config = tiny.config(methods="TD3+BC", updates_per_dispatch=1, learners__td3_bc__learning_rate=1e39)
    said = r"TD3\+BC: \.states_S.* is not finite after update 0; stopped\..*; last good checkpoint: none yet, in "
    with pytest.raises(RunError, match=said):
        train(config, tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").glob("*/[0-9]*"))


def test_the_operation_is_named_where_the_user_asks_for_it(tmp_path: Path) -> None:
    said = r"update \d+: invalid value \(\w+\) encountered in \w+ at dwm_jax/\S+\.py:\d+ `.*`; last good"
    with non_finite.searching(True), pytest.raises(RunError, match=said):
        train(tiny.config(**DIVERGING), tmp_path / "run")
