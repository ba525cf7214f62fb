"""Trajectory sources, on a world that can be imagined by hand."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.data import dataset as data
from dwm_jax.imagination import sources
from dwm_jax.imagination.pool import draw_kept, draw_several, keep_for_target
from dwm_jax.imagination.sources import Data, Pairs
from dwm_jax.learners.policies import Units
from dwm_jax.maths.normalizers import AffineNormalizer
from dwm_jax.maths.value_expansion import choose_expansion, collapse
from dwm_jax.types import Episode, Trajectory

GAMMA = 0.9
EPISODES = [
    Episode(np.array([[0.0], [1.0], [2.0]]), np.array([[0.1], [0.2]]), np.array([1.0, 2.0]), True),
    Episode(np.array([[5.0], [6.0], [7.0]]), np.array([[0.5], [0.6]]), np.array([3.0, 4.0]), False),
]
# The learner's units: observations less 2, halved; rewards tenfold.
UNITS = Units(
    AffineNormalizer(jnp.array([2.0]), jnp.array([2.0]), jnp.array([-1.0]), jnp.array([1.0])), jnp.array(10.0)
)


def linear_rollout(model, start, choose_action, key):
    """Two steps of s' = s + model * a, r = s + g; the second action is chosen."""
    observation, action, return_to_go = start
    first = observation + model * action
    second = first + model * choose_action(jnp.array(1), first, key)
    rewards = jnp.stack([observation[0], first[0]]) + return_to_go
    return Trajectory(jnp.stack([first, second]), rewards, jnp.full(2, GAMMA))


def noisy_rollout(model, start, choose_action, key):
    """One step that ends anywhere; never asks for an action."""
    next_observations = start.observation[None] + jax.random.normal(key, (1, 1))
    return Trajectory(next_observations, start.return_to_go[None], jnp.full(1, GAMMA))


def half(step, observation, key):
    return 0.5 * observation


def ask_half(model, observation, action):
    return jnp.array(0.5)


@pytest.fixture
def pairs():
    flat, _ = data.flatten(EPISODES, GAMMA, 1.0)
    return Pairs(jax.tree.map(jnp.asarray, flat), jnp.asarray(data.transition_rows(flat)), UNITS)


def test_pairs_are_the_recorded_transitions(pairs):
    # Rows 0 1 | 3 4; rows 2 and 5 end their episodes and start nothing.
    np.testing.assert_array_equal([pairs.observation(p)[0] for p in range(4)], [0, 1, 5, 6])
    np.testing.assert_allclose([pairs.action(p)[0] for p in range(4)], [0.1, 0.2, 0.5, 0.6])


def test_the_next_pair_is_recorded_unless_episode_or_recording_ended(pairs):
    # Pairs 0 and 2 are followed by pairs 1 and 3; pair 1 terminated, pair 3 was truncated.
    found = jax.vmap(pairs.next_pair)(jnp.arange(4))
    np.testing.assert_array_equal(found.observation[:, 0], [1, 2, 6, 7])
    np.testing.assert_allclose(found.action[:, 0], [0.2, 0, 0.6, 0], rtol=1e-6)
    np.testing.assert_array_equal(found.is_known, [True, False, True, False])


def test_recorded_steps_are_in_the_learners_units_and_end_at_terminations(pairs):
    source = sources.make_recorded_source(lambda: pairs, 1, GAMMA)
    draw = jax.jit(jax.vmap(lambda p: source.draw((), Data(pairs, ()), p, half, jax.random.key(0))))
    steps = draw(jnp.arange(4))
    # s' = 1 2 6 7 -> (s' - 2) / 2;  r = 1 2 3 4 -> 10 r;  pair 1 terminated, pair 3 was truncated.
    np.testing.assert_array_equal(steps.next_observations[:, 0, 0], [-0.5, 0, 2, 2.5])
    np.testing.assert_array_equal(steps.rewards[:, 0], [10, 20, 30, 40])
    np.testing.assert_allclose(steps.discounts[:, 0], [0.9, 0, 0.9, 0.9], rtol=1e-6)


def test_several_recorded_steps_end_at_terminations_and_stand_still_past_a_truncation(pairs):
    source = sources.make_recorded_source(lambda: pairs, 3, GAMMA)
    draw = jax.jit(jax.vmap(lambda p: source.draw((), Data(pairs, ()), p, half, jax.random.key(0))))
    steps = draw(jnp.arange(4))
    # From s = 0: 1, 2 and the end.  From s = 5: 6, 7, and there the recording stops.
    np.testing.assert_array_equal(steps.next_observations[::2, :, 0], [[-0.5, 0, 0], [2, 2.5, 2.5]])
    np.testing.assert_array_equal(steps.rewards[::2], [[10, 20, 0], [30, 40, 0]])
    np.testing.assert_allclose(steps.discounts[::2], [[0.9, 0, 0], [0.9, 0.9, 1]], rtol=1e-6)
    # With V = 100 everywhere the targets are, whatever lambda: 10 + 0.9 20 = 28, and after the truncation
    # 30 + 0.9 40 + 0.81 100 = 147 for H steps; lambda = 0.5 mixes in 30 + 0.9 100 = 120:  0.5 120 + 0.5 147.
    value = lambda observation: jnp.asarray(100.0)  # noqa: E731
    for lambda_, expected in [(1.0, [28, 147]), (0.5, [0.5 * (10 + 90) + 0.5 * 28, 0.5 * 120 + 0.5 * 147])]:
        targets = jax.vmap(partial(choose_expansion(lambda_), bootstrap=value))(steps)
        np.testing.assert_allclose(targets[::2], expected, rtol=1e-6)


def test_a_reachable_return_is_asked_where_it_is_below_the_constant():
    class Model:
        @staticmethod
        def reachable_return(inference, observation, action):
            return inference * observation[0] + action[0]

    ask = sources.make_ask("reachable", 0.7, Model)
    asked = [float(ask(jnp.array(0.1), jnp.array([s]), jnp.array([a]))) for s, a in [(2.0, 0.3), (6.0, 0.3)]]
    # 0.2 + 0.3, and 0.6 + 0.3 of which 0.7 is asked.
    np.testing.assert_allclose(asked, [0.5, 0.7], rtol=1e-6)


def test_a_fresh_trajectory_starts_at_the_raw_pair_and_ends_in_the_learners_units(pairs):
    source = sources.make_fresh_source(lambda: pairs, linear_rollout, jnp.array(10.0), ask_half)
    drawn = jax.jit(lambda p, key: source.draw((), source.make(None, 0)[1], p, half, key))(2, jax.random.key(0))
    # s = 5, a = 0.5: s' = 10, then 10 + 10 * (10 / 2) = 60 -> 4 and 29;  r = 5.5 and 10.5 -> 55 and 105
    np.testing.assert_allclose(drawn.next_observations[:, 0], [4, 29])
    np.testing.assert_allclose(drawn.rewards, [55, 105])
    np.testing.assert_allclose(drawn.discounts, [0.9, 0.9])


def test_fresh_trajectories_differ_by_key(pairs):
    source = sources.make_fresh_source(lambda: pairs, noisy_rollout, (), ask_half)
    draw = jax.jit(
        jax.vmap(lambda seed: source.draw((), Data(pairs, ()), 0, half, jax.random.key(seed)).next_observations)
    )
    drawn = draw(jnp.array([0, 0, 1]))
    assert drawn[0] == drawn[1] != drawn[2]


def test_several_draws_differ_and_each_leaves_what_is_kept(pairs):
    source = sources.make_fresh_source(lambda: pairs, linear_rollout, jnp.array(10.0), ask_half)
    draw = draw_several(source, 3, collapse)

    def anywhere(step, observation, key):
        return jax.random.normal(key, (1,))

    drawn = jax.jit(lambda pair, key: draw(Data(pairs, jnp.array(10.0)), pair, anywhere, key))(2, jax.random.key(0))
    assert drawn.rewards.shape == (3, 1)
    # As in the test of a fresh trajectory: r = 55 + 0.9 * 105, d = 0.81; the end follows the action drawn.
    np.testing.assert_allclose(drawn.rewards[:, 0], 55 + 0.9 * 105, rtol=1e-6)
    np.testing.assert_allclose(drawn.discounts[:, 0], 0.81, rtol=1e-6)
    assert len(np.unique(drawn.next_observations)) == 3


def test_what_is_kept_is_the_collapse_for_the_h_step_return_and_everything_below():
    trajectory = Trajectory(jnp.array([[1.0], [2.0]]), jnp.array([1.0, 2.0]), jnp.array([0.5, 0.5]))
    assert keep_for_target(0.95)(trajectory) is trajectory
    # r = 1 + 0.5 * 2, d = 0.25, s' = 2
    short = keep_for_target(1.0)(trajectory)
    np.testing.assert_allclose([*short.next_observations[:, 0], *short.rewards, *short.discounts], [2, 2, 0.25])


def test_a_kept_trajectory_is_one_of_its_own_pairs_and_each_of_them_sometimes(pairs):
    # Reward 10 p + m names pair and draw.
    rewards = (10.0 * jnp.arange(4)[:, None] + jnp.arange(3))[..., None]
    pool = Trajectory(rewards[..., None], rewards, jnp.full((4, 3, 1), GAMMA))

    def draw(key):
        return draw_kept((), Data(pairs, pool), jnp.array(2), half, key)

    drawn = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 50))
    assert set(np.asarray(drawn.rewards[:, 0])) == {20.0, 21.0, 22.0}
    np.testing.assert_array_equal(drawn.next_observations[:, 0, 0], drawn.rewards[:, 0])


def test_another_pair_or_model_does_not_compile_again(pairs):
    @jax.jit
    @chex.assert_max_traces(n=1)
    def draw(model, pair, key):
        source = sources.make_fresh_source(lambda: pairs, linear_rollout, None, ask_half)
        return source.draw((), Data(pairs, model), pair, half, key)

    first = draw(jnp.array(1.0), 0, jax.random.key(0))
    second = draw(jnp.array(2.0), 3, jax.random.key(1))
    assert float(first.rewards[0]) != float(second.rewards[0])


def test_a_pessimist_lowers_rewards_where_imaginations_disagree_and_follows_the_first(pairs):
    def two_opinions(model, start, choose_action, key):
        first = Trajectory(jnp.array([[4.0], [6.0]]), jnp.array([0.1, 0.3]), jnp.full(2, GAMMA))
        second = Trajectory(jnp.array([[8.0], [6.0]]), jnp.array([0.2, 0.3]), jnp.full(2, GAMMA))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)

    fresh = sources.make_fresh_source(lambda: pairs, linear_rollout, (), ask_half)
    source = sources.make_pessimistic_source(fresh, two_opinions, ask_half, kappa=0.1)
    drawn = source.draw((), Data(pairs, ()), jnp.array(0), half, jax.random.key(0))
    # Learner's units: s' 4 and 8 are 1 and 3; r 0.1 and 0.2 are 1 and 2. Step 1: 1.5 - 0.1 (1 + 4); step 2 agrees: 3.
    np.testing.assert_allclose(drawn.rewards, [1.0, 3.0], rtol=1e-6)
    np.testing.assert_allclose(drawn.next_observations[:, 0], [1.0, 2.0], rtol=1e-6)
