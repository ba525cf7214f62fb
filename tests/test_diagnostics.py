"""Prediction error by step, on rollouts whose error is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.data import dataset as data
from dwm_jax.diagnostics import prediction_error, with_recorded_actions
from dwm_jax.normalizers import AffineNormalizer
from dwm_jax.types import Episode, Trajectory

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


def error(dataset, bias, choose_action=with_recorded_actions):
    rows = data.segment_rows(dataset, HORIZON + 1, "drop")
    arguments = dataset, rows, HORIZON, NORMALIZER, jax.random.key(0)
    return prediction_error(biased_rollout, jnp.asarray(bias), choose_action, *arguments)


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
