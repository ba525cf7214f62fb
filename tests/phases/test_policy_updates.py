"""Batches drawn ahead of many updates or inside each: the same policies, however many updates a dispatch has."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.data import dataset as data
from dwm_jax.imagination import sources
from dwm_jax.imagination.supply import pairs_of, units_of
from dwm_jax.maths.value_expansion import expand_vanilla
from dwm_jax.phases.policy_updates import drawing_ahead, drawing_inside, update_policy, updates_of_seeds
from dwm_jax.registry import LEARNERS, METHODS
from dwm_jax.runtime import parallel
from dwm_jax.workdir import load_recording
from tests import tiny

BATCH = 8
CONFIG = tiny.config(methods="TD3+BC")
DRAW = sources.recorded(1, CONFIG.gamma).draw


def learner_of(name):
    return LEARNERS[name](observation_size=4, action_size=2, num_updates=20, **CONFIG.learners[name].to_dict())


@cache
def pairs():
    recording = load_recording(CONFIG)[1]
    units = units_of(learner_of("td3_bc"), recording)
    return pairs_of(METHODS["TD3+BC"], CONFIG, recording, units, {})


def inside(learner, num_seeds):
    return drawing_inside(learner, partial(update_policy, DRAW, expand_vanilla, BATCH))


def ahead(learner, num_seeds, draw=DRAW):
    return drawing_ahead(learner, draw, expand_vanilla, BATCH, num_seeds)


def learn(way, name, num_seeds, num_updates, per_dispatch):
    """(states, metrics of every update) of seeds 0, 1, ..."""
    learner = learner_of(name)
    keys_S = jax.vmap(jax.random.key)(jnp.arange(num_seeds))
    dispatch = parallel.in_one_dispatch(updates_of_seeds(way(learner, num_seeds), keys_S), per_dispatch)
    state, on_device = parallel.replicate(jax.vmap(learner.init)(keys_S)), parallel.replicate((pairs(), ()))
    metrics = []
    for step in range(0, num_updates, per_dispatch):
        state, of_dispatch = dispatch(state, on_device, step)
        metrics.append(of_dispatch)
    return parallel.unreplicate(state), jax.tree.map(lambda *parts: np.concatenate(parts), *metrics)


@pytest.mark.parametrize("num_seeds", [1, 3])
@pytest.mark.parametrize("per_dispatch", [1, 3, 4, 12])  # TD3+BC's period is 2
@pytest.mark.parametrize("name", ["td3_bc", "iql"])
def test_drawn_ahead_is_learnt_as_if_drawn_inside(name, per_dispatch, num_seeds):
    state, metrics = learn(ahead, name, num_seeds, 12, per_dispatch)
    expected_state, expected_metrics = learn(inside, name, num_seeds, 12, 12)
    leaves = zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(expected_state), strict=True)
    for (path, leaf), expected in leaves:
        tiny.assert_equal_up_to_rounding(leaf, expected, jax.tree_util.keystr(path))
    assert metrics.keys() == expected_metrics.keys()
    for metric, values in metrics.items():
        assert values.shape == (12, num_seeds)
        np.testing.assert_allclose(values, expected_metrics[metric], rtol=1e-3, atol=1e-5, err_msg=metric)


def test_a_draw_that_asks_the_policy_is_refused_ahead_of_the_updates():
    def asks(source_data, pairs, pair, choose_action, key):
        choose_action(jnp.array(0), pairs.observation(pair), key)
        return pairs.units.trajectory(data.recorded_steps(pairs.dataset, pairs.rows[pair], 1, 0.99))

    with pytest.raises(ValueError, match="follows a policy"):
        learn(partial(ahead, draw=asks), "td3_bc", 1, 2, 2)


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_whole_periods_are_compiled_without_a_branch(num_seeds):
    learner = learner_of("td3_bc")
    keys_S = jax.random.split(jax.random.key(0), num_seeds)
    states_S = jax.vmap(learner.init)(keys_S)

    def conditionals(per_dispatch):
        updates = parallel.on_one_device(updates_of_seeds(ahead(learner, num_seeds), keys_S))
        compiled = jax.jit(updates).lower(states_S, (pairs(), ()), jnp.arange(per_dispatch)).compile()
        return compiled.as_text().count(" conditional(")

    assert conditionals(4) == 0
    assert conditionals(3) == 1
