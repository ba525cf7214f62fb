"""Prediction error and calibration, on rollouts whose error is known."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.data import dataset as data
from dwm_jax.maths.normalizers import AffineNormalizer
from dwm_jax.results.diagnostics import (
    Comparison,
    calibration,
    discounted_returns,
    known_rows,
    make_imagine,
    prediction_error,
    recorded_segments,
    terminations,
    value_agreement,
    with_recorded_actions,
)
from dwm_jax.results.distributions import energy_score, spread_over_error, variance_by_label
from dwm_jax.types import Episode, Segment, Trajectory

HORIZON = 3
# Two dimensions, standard deviations 2 and 4.
NORMALIZER = AffineNormalizer(jnp.zeros(2), jnp.array([2.0, 4.0]), -jnp.ones(2), jnp.ones(2))


def move(observation, action):
    """The true world: s' = s + (a, -2a), r = s_0 + a."""
    return observation + action * jnp.array([1.0, -2.0]), observation[0] + action[0]


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    episodes = []
    for _ in range(3):
        actions = rng.normal(size=(8, 1))
        observations = np.cumsum(np.concatenate([rng.normal(size=(1, 2)), actions * [1, -2]]), axis=0)
        episodes.append(Episode(observations, actions, observations[:-1, 0] + actions[:, 0], False))
    return jax.tree.map(jnp.asarray, data.flatten(episodes, 0.9, 1.0)[0])


def biased_rollout(bias, start, choose_action, key):
    """The true world, but every state after h steps is off by h * bias and every reward by h + 1."""
    states, rewards = [], []
    state, action, _ = start
    for step in range(HORIZON):
        state, reward = move(state, action)
        states.append(state + (step + 1) * bias)
        rewards.append(reward + jnp.where(bias[0] == 0, 0.0, step + 1))
        action = choose_action(jnp.array(step + 1), state, key)
    return Trajectory(jnp.stack(states), jnp.stack(rewards), jnp.ones(HORIZON))


def compared(dataset, bias, choose_action=with_recorded_actions):
    segments = recorded_segments(dataset, data.segment_rows(dataset, HORIZON + 1, "drop"), HORIZON)
    imagine = make_imagine(biased_rollout, choose_action)
    return Comparison(segments, imagine(jnp.asarray(bias), segments, segments.return_to_go, jax.random.key(0)))


def error(dataset, bias, choose_action=with_recorded_actions):
    return prediction_error(compared(dataset, bias, choose_action), NORMALIZER)


def test_the_true_world_told_the_recorded_actions_makes_no_error(dataset):
    observation, reward = error(dataset, [0.0, 0.0])
    np.testing.assert_allclose(observation, np.zeros(HORIZON), atol=1e-10)
    np.testing.assert_allclose(reward, np.zeros(HORIZON), atol=1e-10)


def test_errors_are_counted_by_step_in_standard_deviations(dataset):
    # Off by h * (2, 4) = h standard deviations in both dimensions: h^2. Rewards, raw: (1, 2, 3)^2.
    observation, reward = error(dataset, [2.0, 4.0])
    np.testing.assert_allclose(observation, [1, 4, 9], rtol=1e-4)
    np.testing.assert_allclose(reward, [1, 4, 9], rtol=1e-4)


def test_other_actions_err_from_the_second_step_on(dataset):
    observation, reward = error(dataset, [0.0, 0.0], lambda segment: lambda step, state, key: jnp.zeros(1))
    np.testing.assert_allclose([observation[0], reward[0]], [0, 0], atol=1e-10)
    assert (observation[1:] > 0.01).all()
    assert (reward[1:] > 0.01).all()


def test_every_segment_is_asked_for_its_own_return(dataset):
    def echo(model, start, choose_action, key):
        observation, _, return_to_go = start
        return Trajectory(jnp.tile(observation, (HORIZON, 1)), jnp.full(HORIZON, return_to_go), jnp.ones(HORIZON))

    rows = data.segment_rows(dataset, HORIZON + 1, "drop")
    segments = recorded_segments(dataset, rows, HORIZON)
    asked = np.arange(len(rows), dtype=np.float32)
    imagined = make_imagine(echo, with_recorded_actions)((), segments, asked, jax.random.key(0))
    np.testing.assert_array_equal(imagined.rewards, np.repeat(asked[:, None], HORIZON, axis=1))
    np.testing.assert_array_equal(imagined.next_observations[:, 0], dataset.observations[rows])


def test_calibration_bins_the_discounted_return_by_label():
    # Four segments, two steps, gamma 0.5, scale 10; labels out of order. Returns r_0 + r_1 / 2, in tenths.
    recorded_rewards = np.array([[4.0, 0.0, 9.0], [0.0, 4.0, 9.0], [2.0, 0.0, 9.0], [0.0, 0.0, 9.0]])
    imagined_rewards = np.array([[6.0, 0.0], [0.0, 0.0], [0.0, 4.0], [2.0, 0.0]])
    labels = np.array([0.4, 0.1, 0.3, 0.2])
    segment = Segment(
        np.zeros((4, 3, 1)), recorded_rewards, np.zeros((4, 3, 1)), labels, np.ones((4, 3)), np.zeros((4, 3), bool)
    )
    trajectory = Trajectory(np.zeros((4, 2, 1)), imagined_rewards, np.full((4, 2), 0.5))
    measured = calibration(Comparison(segment, trajectory), gamma=0.5, return_scale=10.0, num_bins=2)
    # Low bin: labels 0.1, 0.2 (segments 1, 3); high bin: 0.3, 0.4 (segments 2, 0).
    np.testing.assert_allclose(measured.requested, [0.15, 0.35])
    np.testing.assert_allclose(measured.recorded, [(0.2 + 0.0) / 2, (0.2 + 0.4) / 2])
    np.testing.assert_allclose(measured.imagined, [(0.0 + 0.2) / 2, (0.2 + 0.6) / 2])


# ------------------------------------------------------------------------------------- ends of the task


def segments_ending_at(ends, horizon):
    """Segments of horizon + 1 rows whose task ends with step `end` (from 0; None: it goes on)."""
    count = len(ends)
    terminated = np.array([[end is not None and h >= end for h in range(horizon + 1)] for end in ends])
    zeros = np.zeros((count, horizon + 1))
    return Segment(zeros[..., None], zeros, zeros[..., None], np.zeros(count), np.ones_like(zeros), terminated)


def trajectories_ending_at(ends, horizon):
    discounts = np.array([[0.0 if end is not None and h >= end else 0.9 for h in range(horizon)] for end in ends])
    return Trajectory(np.zeros((len(ends), horizon, 1)), np.ones((len(ends), horizon)), discounts)


def test_ends_found_and_invented_are_counted_by_step():
    # Recorded ends at steps 1, 1, 3 and three that go on; imagined at 1, 2, 2 and, of the others, one at 3.
    comparison = Comparison(
        segments_ending_at([0, 0, 2, None, None, None], 3), trajectories_ending_at([0, 1, 1, None, 2, None], 3)
    )
    found, invented = terminations(comparison, comparison)
    # Of two that ended at step 1 one was imagined by then; none ended at step 2; the one at step 3 was.
    np.testing.assert_array_equal(found, [0.5, np.nan, 1.0])
    # Going on after step 1: four, none imagined ended; after step 2 the same four, one ended; after step 3 three, one.
    np.testing.assert_allclose(invented, [0, 1 / 4, 1 / 3])


def test_what_follows_an_end_is_worth_nothing():
    # 1 + 0.9 + 0.81; 1; 1 + 0.9
    np.testing.assert_allclose(discounted_returns(trajectories_ending_at([None, 0, 1], 3)), [2.71, 1.0, 1.9])


def test_errors_past_an_end_do_not_count():
    recorded = segments_ending_at([0, None], 2)
    imagined = trajectories_ending_at([0, None], 2)
    states = np.array([[[1.0], [100.0]], [[3.0], [5.0]]])  # recorded ones are 0
    rewards = np.array([[1.0, 100.0], [2.0, 4.0]])
    comparison = Comparison(recorded, imagined._replace(next_observations=states, rewards=rewards))
    one = AffineNormalizer(jnp.zeros(1), jnp.ones(1), -jnp.ones(1), jnp.ones(1))
    error = prediction_error(comparison, one)
    np.testing.assert_allclose(error.observation, [(1 + 9) / 2, 25])
    np.testing.assert_allclose(error.reward, [(1 + 4) / 2, 16])


def test_a_step_that_no_segment_took_has_no_error_no_spread_and_no_value():
    # Two segments that end with step 1: what is imagined of step 2, 100 or 0, is held against nothing.
    recorded = segments_ending_at([0, 0], 2)
    draws = [
        trajectories_ending_at([None, None], 2)._replace(next_observations=np.array([[[x], [100.0]], [[-x], [0.0]]]))
        for x in (1.0, 3.0)
    ]
    one = AffineNormalizer(jnp.zeros(1), jnp.ones(1), -jnp.ones(1), jnp.ones(1))
    error = prediction_error(Comparison(recorded, draws[0]), one)
    np.testing.assert_array_equal(error.observation, [1.0, np.nan])
    np.testing.assert_array_equal(error.reward, [1.0, np.nan])
    # Draws 1, 3 and -1, -3: variance 2 each; mean squared error (1 + 9) / 2 = 5, of which 3 are unexplained.
    np.testing.assert_allclose(spread_over_error(recorded, draws, one), [2 / 3, np.nan], rtol=1e-6)
    agreement = np.array(value_agreement(lambda observation: observation[0], Comparison(recorded, draws[0])))
    assert np.isnan(agreement[:, 1]).all()
    assert np.isfinite(agreement[:, 0]).all()
    # Of no segments at all nothing is known, at any step.
    none = jax.tree.map(lambda leaf: leaf[:0], Comparison(recorded, draws[0]))
    np.testing.assert_array_equal(prediction_error(none, one).observation, [np.nan, np.nan])


def test_known_rows_are_recorded_or_past_a_termination():
    steps = np.ones((3, 1)), np.ones(3)
    states = np.arange(4.0)[:, None]
    flat, _ = data.flatten([Episode(states, *steps, True), Episode(states, *steps, False)], 0.9, 1.0)
    # Rows 0 1 2 (3) and 4 5 6 (7). Of two steps row 6 knows one alone.
    known, ending = known_rows(flat, 2, np.array([0, 1]))
    np.testing.assert_array_equal(known, [0, 1, 2, 4, 5])
    np.testing.assert_array_equal(ending, [1, 2])
    with pytest.raises(ValueError, match="none of the episodes to measure them on has 4 steps"):
        known_rows(flat, 4, np.array([1]))


# ------------------------------------------------------------------------------------ spread and values


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_the_spread_of_draws_is_measured_against_what_is_unexplained(spread):
    # Recorded: a mean plus noise of variance 4; imagined: the same mean plus noise of `spread` of that variance.
    rng = np.random.default_rng(0)
    means = rng.normal(size=(4_000, 1, 2))
    recorded = segments_ending_at([None] * 4_000, 1)
    states = np.concatenate([means, means + 2 * rng.normal(size=means.shape)], axis=1)
    recorded = recorded._replace(observations=states)
    draws = [
        Trajectory(
            means + 2 * np.sqrt(spread) * rng.normal(size=means.shape), np.zeros((4_000, 1)), np.ones((4_000, 1))
        )
        for _ in range(4)
    ]
    np.testing.assert_allclose(spread_over_error(recorded, draws, NORMALIZER), [spread], atol=0.06)


@pytest.mark.parametrize(
    ("centre", "noise", "score"),
    [
        (1.0, 0.6, 0.6),  # the true conditional distribution: s
        (1.0, 0.0, 0.6 * np.sqrt(2)),  # its mean alone: sqrt(2) s, though its squared error is half of the draws'
        (0.0, 1.0, 1.0),  # the recording without a look at the pair
    ],
)
def test_the_energy_score_has_its_value_for_gaussians(centre, noise, score):
    # In one dimension y = m + s e with m ~ N(0, 0.8^2), s = 0.6, so that y ~ N(0, 1). E|N(0, v)| = sqrt(2 v / pi):
    # draws x = m + s e' have E|x - y| = E|x - x'| = 2 s / sqrt(pi), a score of s / sqrt(pi); the mean m alone has
    # E|m - y| = s sqrt(2 / pi); blind draws have 1 / sqrt(pi), which divides them.
    rng = np.random.default_rng(0)
    means = 0.8 * rng.normal(size=(3_000, 1, 1))
    recorded = segments_ending_at([None] * 3_000, 1)
    recorded = recorded._replace(
        observations=np.concatenate([means, means + 0.6 * rng.normal(size=means.shape)], axis=1)
    )
    draws = [
        Trajectory(centre * means + noise * rng.normal(size=means.shape), np.zeros((3_000, 1)), np.ones((3_000, 1)))
        for _ in range(4)
    ]
    one = AffineNormalizer(jnp.zeros(1), jnp.ones(1), -jnp.ones(1), jnp.ones(1))
    np.testing.assert_allclose(energy_score(recorded, draws, one), [score], atol=0.03)


def test_the_energy_score_by_hand():
    # y: (0, 0), (6, 8), 10 apart; draws of the first (3, 4) and (-3, 4), of the second (6, 8) twice. Mean |x - y| is
    # (5 + 5 + 0 + 0) / 4 = 2.5, mean |x - x'| (6 + 0) / 2 = 3: (2.5 - 3 / 2) / (10 / 2) = 0.2. At the second step only
    # one segment goes on, which is nothing to compare with.
    recorded = segments_ending_at([0, None], 2)._replace(
        observations=np.array([[[9, 9], [0, 0], [0, 0]], [[9, 9], [6, 8], [0, 0]]], float)
    )
    draws = [
        trajectories_ending_at([0, None], 2)._replace(next_observations=np.array([[x, x], [[6, 8], [6, 8]]], float))
        for x in ([3, 4], [-3, 4])
    ]
    one = AffineNormalizer(jnp.zeros(2), jnp.ones(2), -jnp.ones(2), jnp.ones(2))
    np.testing.assert_allclose(energy_score(recorded, draws, one), [0.2, np.nan], rtol=1e-6)


def test_the_variance_is_compared_within_tenths_by_label():
    # Labels -2 and 2: below, recorded states are +-1 and imagined ones +-0.5, above both are 3 +- 1; one dimension.
    recorded = segments_ending_at([None] * 4, 1)._replace(return_to_go=np.array([-2.0, 2.0, -2.0, 2.0]))
    recorded = recorded._replace(observations=np.array([[[0.0], [s]] for s in (-1.0, 2.0, 1.0, 4.0)]))
    imagined = trajectories_ending_at([None] * 4, 1)._replace(
        next_observations=np.array([[[s]] for s in (-0.5, 2.0, 0.5, 4.0)])
    )
    one = AffineNormalizer(jnp.zeros(1), jnp.ones(1), -jnp.ones(1), jnp.ones(1))
    comparison = Comparison(recorded, imagined)
    np.testing.assert_allclose(variance_by_label(comparison, one), [0.25, 1.0], rtol=1e-6)
    # Of two steps each, where the second and the fourth, those of the label 2, end with the first: nothing of theirs
    # counts, and the other two, now the only bin, are as they were.
    ended = segments_ending_at([None, 0, None, 0], 2)._replace(
        return_to_go=recorded.return_to_go, observations=np.repeat(recorded.observations, [1, 2], axis=1)
    )
    longer = trajectories_ending_at([None, 0, None, 0], 2)._replace(
        next_observations=np.repeat(imagined.next_observations, 2, axis=1)
    )
    np.testing.assert_allclose(variance_by_label(Comparison(ended, longer), one), [0.25], rtol=1e-6)
    one_left = segments_ending_at([None, 0, 0, 0], 2)._replace(observations=ended.observations)
    np.testing.assert_array_equal(variance_by_label(Comparison(one_left, longer), one), [np.nan])
    # States that do not differ have no variance to compare with.
    alike = Comparison(recorded._replace(observations=np.ones_like(recorded.observations)), imagined)
    with warnings.catch_warnings(action="error"):
        assert not np.isfinite(variance_by_label(alike, one)).any()


def test_values_of_imagined_states_are_held_against_those_of_recorded_ones():
    # V(s) = 2 s. Imagined: half the recorded state and 1, exactly: slope a half, correlation 1.
    states = np.array([0.0, 1.0, 2.0, 3.0])
    recorded = segments_ending_at([None] * 4, 1)._replace(observations=np.stack([states, states], axis=1)[..., None])
    imagined = trajectories_ending_at([None] * 4, 1)._replace(next_observations=(states / 2 + 1)[:, None, None])
    agreement = value_agreement(lambda observation: 2 * observation[0], Comparison(recorded, imagined))
    np.testing.assert_allclose(np.array(agreement)[:, 0], [3.0, 3.5, np.sqrt(5), np.sqrt(5) / 2, 0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(agreement.shift, [3.5 / 3 - 1], rtol=1e-6)
    # Of a value that is 0 no share can be told.
    assert np.isnan(value_agreement(lambda observation: 0 * observation[0], Comparison(recorded, imagined)).shift).all()
