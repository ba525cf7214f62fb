"""Prediction error and calibration, on rollouts whose error is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.data import dataset as data
from dwm_jax.maths.normalizers import AffineNormalizer
from dwm_jax.results.diagnostics import (
    Comparison,
    calibration,
    compare,
    prediction_error,
    with_recorded_actions,
)
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


def biased_rollout(bias, observation, action, return_to_go, choose_action, key):
    """The true world, but every state after h steps is off by h * bias and every reward by h + 1."""
    states, rewards = [], []
    state = observation
    for step in range(HORIZON):
        state, reward = move(state, action)
        states.append(state + (step + 1) * bias)
        rewards.append(reward + jnp.where(bias[0] == 0, 0.0, step + 1))
        action = choose_action(jnp.array(step + 1), state, key)
    return Trajectory(jnp.stack(states), jnp.stack(rewards), jnp.ones(HORIZON))


def compared(dataset, bias, choose_action=with_recorded_actions, **asked):
    rows = data.segment_rows(dataset, HORIZON + 1, "drop")
    arguments = dataset, rows, HORIZON, jax.random.key(0)
    return compare(biased_rollout, jnp.asarray(bias), choose_action, *arguments, **asked)


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


def test_a_segment_is_asked_for_its_own_label_unless_told_otherwise(dataset):
    def echo(model, observation, action, return_to_go, choose_action, key):
        return Trajectory(jnp.tile(observation, (HORIZON, 1)), jnp.full(HORIZON, return_to_go), jnp.ones(HORIZON))

    rows = data.segment_rows(dataset, HORIZON + 1, "drop")
    arguments = (), with_recorded_actions, dataset, rows, HORIZON, jax.random.key(0)
    own = compare(echo, *arguments)
    np.testing.assert_array_equal(own.imagined.rewards[:, 0], dataset.returns_to_go[rows])
    np.testing.assert_array_equal(compare(echo, *arguments, return_to_go=0.25).imagined.rewards, 0.25)


def test_calibration_bins_the_discounted_return_by_label():
    # Four segments, two steps, gamma 0.5, scale 10; labels out of order. Returns r_0 + r_1 / 2, in tenths.
    recorded_rewards = np.array([[4.0, 0.0, 9.0], [0.0, 4.0, 9.0], [2.0, 0.0, 9.0], [0.0, 0.0, 9.0]])
    imagined_rewards = np.array([[6.0, 0.0], [0.0, 0.0], [0.0, 4.0], [2.0, 0.0]])
    labels = np.array([0.4, 0.1, 0.3, 0.2])
    segment = Segment(np.zeros((4, 3, 1)), recorded_rewards, np.zeros((4, 3, 1)), labels, np.ones((4, 3)), np.zeros(4))
    trajectory = Trajectory(np.zeros((4, 2, 1)), imagined_rewards, np.ones((4, 2)))
    measured = calibration(Comparison(segment, trajectory), gamma=0.5, return_scale=10.0, num_bins=2)
    # Low bin: labels 0.1, 0.2 (segments 1, 3); high bin: 0.3, 0.4 (segments 2, 0).
    np.testing.assert_allclose(measured.requested, [0.15, 0.35])
    np.testing.assert_allclose(measured.recorded, [(0.2 + 0.0) / 2, (0.2 + 0.4) / 2])
    np.testing.assert_allclose(measured.imagined, [(0.0 + 0.2) / 2, (0.2 + 0.6) / 2])
