"""Imagined pairs: which steps become one, what follows each, and what critics learn from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.config import ConfigError, check
from dwm_jax.data import dataset as data
from dwm_jax.imagination import sources
from dwm_jax.imagination.inferred_actions import with_inferred_actions
from dwm_jax.imagination.pool import Pool, make_pooled_source
from dwm_jax.imagination.sources import Pairs, refuse_to_act
from dwm_jax.learners.policies import Policies, Units
from dwm_jax.maths.normalizers import AffineNormalizer
from dwm_jax.maths.value_expansion import expand_vanilla
from dwm_jax.phases.policy_updates import PolicyUpdates
from dwm_jax.registry import LEARNERS
from dwm_jax.runtime import parallel
from dwm_jax.types import Episode, Trajectory
from tests import tiny

GAMMA, HORIZON, INVERSE = 0.9, 2, jnp.array(10.0)
# The learner's units: observations less 2, halved; rewards tenfold.
UNITS = Units(AffineNormalizer(*(jnp.array([x]) for x in (2.0, 2.0, -1.0, 1.0))), jnp.array(10.0))
EPISODES = [Episode(np.array([[s], [s + 1.0]]), np.array([[s / 100]]), np.array([7.0]), False) for s in (5.0, 50.0)]
ENDLESS, ENDS_AT_THIRD, ENDS_AT_FIRST = [0.9] * 4, [0.9, 0.9, 0.0, 0.0], [0.0] * 4


def rollout(discounts_L, start, choose_action, key):
    """From s on to s + 1, s + 3, s + 6, s + 10 with rewards 1, 2, 3, 4."""
    states = start.observation + jnp.array([[1.0], [3.0], [6.0], [10.0]])
    return Trajectory(states, jnp.array([1.0, 2.0, 3.0, 4.0]), discounts_L)


def infer(inverse, observation, next_observation):
    """A tenth of the step, in raw units."""
    return (next_observation - observation) / inverse


def make(discounts, share):
    """(source, its data) over the pairs s = 5 and s = 50."""
    flat, _ = data.flatten(EPISODES, GAMMA, 1.0)
    pairs = Pairs(jax.tree.map(jnp.asarray, flat), jnp.asarray(data.transition_rows(flat)), UNITS)
    fresh = sources.make_fresh_source(lambda: pairs, rollout, jnp.array(discounts), lambda *_: jnp.array(0.5))
    source = with_inferred_actions(fresh, infer, INVERSE, horizon=HORIZON, share=share)
    return source, source.make(Policies((), UNITS), 0)[1]


def entries(source, on_device, count=200):
    """Entries of pair 0 in batches, with keys of their own."""

    def one(key):
        draw_key, entry_key = jax.random.split(key)
        drawn = source.draw((), on_device, jnp.array(0), refuse_to_act, draw_key)
        return source.complete(on_device.pairs, jnp.array(0), drawn, entry_key)

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), count))


def by_state(batch):
    """Raw state -> (action, reward, discount, raw next state, action next, whether that is known) of an entry."""
    raw = UNITS.observation_normalizer.denormalize
    steps, following = batch.trajectory, batch.next_pair
    columns = batch.action[:, 0], steps.rewards[:, 0], steps.discounts[:, 0], raw(steps.next_observations[:, 0])[:, 0]
    rows = np.stack([*columns, following.action[:, 0], following.is_known], axis=1)
    return {round(float(s)): rows[i] for i, s in enumerate(raw(batch.observation)[:, 0])}


def test_every_imagined_step_but_the_first_is_a_pair_with_its_inferred_action():
    batch = entries(*make(ENDLESS, share=1.0))
    found = by_state(batch)
    # From s = 5: 6, 8, 11, 15. What follows 15 was not imagined, so the step from 11 knows no next action.
    assert found.keys() == {6, 8, 11}
    np.testing.assert_allclose(found[6], [0.2, 20, 0.9, 8, 0.3, 1], rtol=1e-5)
    np.testing.assert_allclose(found[8], [0.3, 30, 0.9, 11, 0.4, 1], rtol=1e-5)
    np.testing.assert_allclose(found[11], [0.4, 40, 0.9, 15, 0.0, 0], rtol=1e-5)
    # The target is r + d V(s'), of as many steps as a recorded pair's: 8 is worth 3 here, (8 - 2) / 2.
    assert batch.trajectory.rewards.shape == (200, HORIZON)
    targets = jax.vmap(lambda trajectory: expand_vanilla(trajectory, lambda s: s[0]))(batch.trajectory)
    from_6 = np.isclose(batch.observation[:, 0], 2)
    np.testing.assert_allclose(targets[from_6], 20 + 0.9 * 3, rtol=1e-5)
    assert 40 < from_6.sum() < 95  # a third of 200, within four standard deviations


def test_nothing_after_an_imagined_end_becomes_a_pair():
    found = by_state(entries(*make(ENDS_AT_THIRD, share=1.0)))
    # The third step, from 8, ends the task: it is a pair, worth its reward; 11 and 15 come after the end.
    assert found.keys() == {6, 8}
    # Nobody acts at 11, where the task is over.
    np.testing.assert_allclose(found[8], [0.3, 30, 0, 11, 0, 0], rtol=1e-5)


def test_where_the_first_step_ends_all_the_recorded_pair_stays():
    batch = entries(*make(ENDS_AT_FIRST, share=1.0))
    assert by_state(batch).keys() == {5}
    np.testing.assert_allclose(batch.action, 0.05, rtol=1e-6)


def test_a_share_of_the_pairs_is_imagined_and_the_others_are_those_of_dwm():
    source, on_device = make(ENDLESS, share=0.25)
    batch = entries(source, on_device, 1_000)
    recorded = np.isclose(batch.observation[:, 0], 1.5)  # (5 - 2) / 2
    assert 0.20 < 1 - recorded.mean() < 0.30
    # H = 2 steps: 10 and 20, then the state 8.
    np.testing.assert_allclose(batch.trajectory.rewards[recorded], [[10, 20]] * recorded.sum(), rtol=1e-6)
    np.testing.assert_allclose(batch.trajectory.next_observations[recorded][:, -1], 3, rtol=1e-6)


def test_a_pool_keeps_collapsed_trajectories_and_whole_imagined_transitions():
    source, _ = make(ENDS_AT_THIRD, share=0.5)
    pool = Pool("imagining", 3, 1.0, jax.random.key(1), jax.random.key(2))
    source = make_pooled_source(source, pool, learner=None, seeds=[0], engine=parallel.PMAP)
    on_device = jax.tree.map(jnp.asarray, source.make(Policies((), UNITS), 0)[1])
    kept = on_device.drawn_from
    # 10 + 0.9 20 in one step of two; (pairs, draws, steps)
    np.testing.assert_allclose(kept.trajectory.rewards, np.full((2, 3, 1), 28), rtol=1e-6)
    np.testing.assert_allclose(kept.trajectory.discounts, np.full((2, 3, 1), 0.81), rtol=1e-6)
    assert kept.imagined.trajectory.rewards.shape == (2, 3, 1)
    found = by_state(entries(source, on_device))
    assert {5} < found.keys() <= {5, 6, 8}
    np.testing.assert_allclose(found[5][:4], [0.05, 28, 0.81, 8], rtol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ({"policy__inferred_share": 1.5}, "policy.inferred_share=1.5"),
        ({"world_models__dwm__sequence_length": 2, "policy__horizon": 1}, "world_models.dwm.sequence_length=2"),
    ],
)
def test_what_leaves_no_imagined_pair_is_refused_of_dawm_alone(overrides, names):
    overrides |= {"diagnostics__sampling_horizons": ()}
    with pytest.raises(ConfigError, match=names):
        check(tiny.config(methods="DAWM-TD3BC", **overrides), 1)
    check(tiny.config(methods="DWM-TD3BC", **overrides), 1)


# ------------------------------------------------------------------------------ what critics learn

# States 0 .. 4, one step to the right; reward 1 for the step from the last, which ends the task. Recorded is the step
# from 0 alone; the rest is imagined. By hand: V(s) = 0.8^(4 - s).
TRUE_VALUES = np.array([0.4096, 0.512, 0.64, 0.8, 1.0])
CHAIN_STATES = np.eye(5, dtype=np.float32)


def values_on_the_chain(name, share, **settings):
    """V(0) .. V(4) after 2,000 updates with H = 4 of the 5 imagined steps."""
    learner = LEARNERS[name](
        observation_size=5,
        action_size=1,
        hidden=(32, 32),
        learning_rate=1e-3,
        target_rate=0.05,
        num_updates=10_000,
        **settings,
    )
    actions = np.random.default_rng(0).uniform(-1, 1, (64, 1, 1)).astype(np.float32)
    flat, _ = data.flatten([Episode(CHAIN_STATES[:2], a, np.zeros(1), False) for a in actions], 0.8, 1.0)
    identity = AffineNormalizer(jnp.zeros(5), jnp.ones(5), jnp.zeros(5), jnp.ones(5))
    units = Units(identity, jnp.array(1.0))
    pairs = Pairs(jax.tree.map(jnp.asarray, flat), jnp.asarray(data.transition_rows(flat)), units)

    def imagine(model, start, choose_action, key):
        discounts = jnp.array([0.8, 0.8, 0.8, 0.8, 0.0])
        return Trajectory(jnp.asarray(CHAIN_STATES[[1, 2, 3, 4, 4]]), jnp.array([0.0, 0, 0, 0, 1]), discounts)

    fresh = sources.make_fresh_source(lambda: pairs, imagine, (), lambda *_: jnp.array(0.5))
    source = with_inferred_actions(fresh, lambda *_: jnp.array([0.3]), (), horizon=4, share=share)
    keys_S = jax.random.split(jax.random.key(1), 1)
    policies = Policies(jax.jit(jax.vmap(learner.init))(keys_S), units)
    policies, on_device = source.make(policies, 0)
    updates = parallel.on_one_device(PolicyUpdates(learner, source, expand_vanilla, 64, keys_S))
    trained = jax.jit(updates)(policies, on_device, jnp.arange(2_000))[0]
    state = jax.tree.map(lambda leaf: leaf[0], trained.states_S)
    return np.asarray(jax.vmap(lambda s: learner.value(state, s))(jnp.asarray(CHAIN_STATES)))


@pytest.mark.parametrize(
    ("name", "settings"), [("iql", {"weight_clip": 100.0}), ("td3_bc", {"policy_noise": 0.0, "alpha": 0.1})]
)
def test_critics_reach_the_true_values_at_imagined_states_too(name, settings):
    np.testing.assert_allclose(values_on_the_chain(name, 0.5, **settings), TRUE_VALUES, atol=0.03)


def test_without_imagined_pairs_nothing_holds_the_value_of_the_state_bootstrapped_at():
    # V(4) is bootstrapped in every update, and updated in none.
    assert abs(values_on_the_chain("iql", 0.0)[4] - 1) > 0.3
