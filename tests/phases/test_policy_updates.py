"""Batches drawn ahead of many updates or inside each: the same policies, however many updates a dispatch has."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.data import dataset
from dwm_jax.imagination import sources
from dwm_jax.imagination.sources import Data
from dwm_jax.learners.policies import Policies, fit_units
from dwm_jax.maths.value_expansion import expand_vanilla
from dwm_jax.phases.policy_source import make_pairs, repeat_evenly
from dwm_jax.phases.policy_updates import PolicyUpdates
from dwm_jax.registry import LEARNERS, METHODS
from dwm_jax.runtime import parallel
from dwm_jax.workdir import load_recording
from tests import tiny

BATCH = 8
CONFIG = tiny.config(methods="TD3+BC")
SOURCE = sources.make_recorded_source(lambda: pairs(), 1, CONFIG.gamma)


def learner_of(name):
    return LEARNERS[name](observation_size=4, action_size=2, num_updates=20, **CONFIG.learners[name].to_dict())


@cache
def pairs():
    recording = load_recording(CONFIG)[1]
    units = fit_units(learner_of("td3_bc"), recording.dataset)
    return make_pairs(tiny.run_of(CONFIG, recording), METHODS["TD3+BC"], units, {})


AHEAD, INSIDE = SOURCE, SOURCE._replace(asks_policy=True)


def learn(source, name, num_seeds, num_updates, per_dispatch):
    """(policies, metrics of every update) of seeds 0, 1, ..."""
    learner = learner_of(name)
    keys_S = jax.vmap(jax.random.key)(jnp.arange(num_seeds))
    updates = PolicyUpdates(learner, source, expand_vanilla, BATCH, keys_S)
    dispatch = parallel.make_dispatch(updates, per_dispatch)
    policies = Policies(jax.vmap(learner.init)(keys_S), pairs().units)
    state, on_device = parallel.replicate(policies), parallel.replicate(Data(pairs(), ()))
    metrics = []
    for step in range(0, num_updates, per_dispatch):
        state, of_dispatch = dispatch(state, on_device, step)
        metrics.append(of_dispatch)
    return parallel.unreplicate(state), jax.tree.map(lambda *parts: np.concatenate(parts), *metrics)


@cache
def learnt_inside(name, num_seeds):
    return learn(INSIDE, name, num_seeds, 12, 12)


@pytest.mark.parametrize("num_seeds", [1, 3])
@pytest.mark.parametrize("per_dispatch", [1, 3, 4, 12])  # TD3+BC's period is 2
@pytest.mark.parametrize("name", ["td3_bc", "iql"])
def test_drawn_ahead_is_learnt_as_if_drawn_inside(name, per_dispatch, num_seeds):
    state, metrics = learn(AHEAD, name, num_seeds, 12, per_dispatch)
    expected_state, expected_metrics = learnt_inside(name, num_seeds)
    leaves = zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(expected_state), strict=True)
    for (path, leaf), expected in leaves:
        tiny.assert_equal_up_to_rounding(leaf, expected, jax.tree_util.keystr(path))
    assert metrics.keys() == expected_metrics.keys()
    for metric, values in metrics.items():
        assert values.shape == (12, num_seeds)
        np.testing.assert_allclose(values, expected_metrics[metric], rtol=1e-3, atol=1e-5, err_msg=metric)


def test_repeated_rows_are_spread_over_all_episodes():
    rows = np.array([3, 5, 8, 9])
    np.testing.assert_array_equal(repeat_evenly(rows, 0), [])
    np.testing.assert_array_equal(repeat_evenly(rows, 2), [3, 8])  # 0 and 4 // 2 of [0 .. 3]
    np.testing.assert_array_equal(repeat_evenly(rows, 6), [3, 3, 5, 8, 8, 9])  # 0, 4, 8, 12, 16, 20 over 6
    np.testing.assert_array_equal(np.bincount(repeat_evenly(np.arange(7), 100)), [15, 14, 14, 15, 14, 14, 14])


def test_the_share_of_starts_falls_on_late_episodes_as_on_early_ones():
    config = tiny.config(methods="TD3+BC", policy__start_share=0.1)
    recording = load_recording(config)[1]
    units = fit_units(learner_of("td3_bc"), recording.dataset)
    rows = make_pairs(tiny.run_of(config, recording), METHODS["TD3+BC"], units, {}).rows
    recorded = len(dataset.transition_rows(recording.dataset))
    np.testing.assert_array_equal(rows[:recorded], dataset.transition_rows(recording.dataset))
    assert len(rows) == round(recorded / 0.9)
    copies = np.bincount(np.asarray(rows[recorded:]))
    starts = dataset.start_rows(recording.dataset, dataset.START_STEPS)
    assert set(np.flatnonzero(copies)) <= set(starts)
    assert np.ptp(copies[starts]) <= 1
    half = len(starts) // 2
    assert abs(copies[starts[:half]].sum() - copies[starts[half:]].sum()) <= 1 + copies[starts].max()


def test_a_draw_that_asks_the_policy_is_refused_ahead_of_the_updates():
    def asks(memory, data, pair, choose_action, key):
        choose_action(jnp.array(0), data.pairs.observation(pair), key)
        return SOURCE.draw(memory, data, pair, choose_action, key)

    with pytest.raises(ValueError, match="follows a policy"):
        learn(SOURCE._replace(draw=asks), "td3_bc", 1, 2, 2)


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_whole_periods_are_compiled_without_a_branch(num_seeds):
    learner = learner_of("td3_bc")
    keys_S = jax.random.split(jax.random.key(0), num_seeds)
    policies = Policies(jax.vmap(learner.init)(keys_S), pairs().units)

    def conditionals(per_dispatch):
        updates = parallel.on_one_device(PolicyUpdates(learner, SOURCE, expand_vanilla, BATCH, keys_S))
        compiled = jax.jit(updates).lower(policies, Data(pairs(), ()), jnp.arange(per_dispatch)).compile()
        return compiled.as_text().count(" conditional(")

    assert conditionals(4) == 0
    assert conditionals(3) == 1
