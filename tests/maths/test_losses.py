"""Scalar losses and weights of the learners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dwm_jax.maths.losses import (
    action_distance,
    advantage_weight,
    expectile_loss,
    pessimistic_rewards,
    rebrac_actor_loss,
    td3_bc_actor_loss,
)


def alone(tree):
    """The average over one device."""
    return tree


def test_expectile_loss_by_hand():
    # |0.7 - 0| * 2^2 = 2.8 above, |0.7 - 1| * 2^2 = 1.2 below
    np.testing.assert_allclose(expectile_loss(jnp.array([2.0, -2.0, 0.0]), 0.7), [2.8, 1.2, 0.0], rtol=1e-6)


def test_expectile_half_is_half_the_squared_error():
    error = jnp.linspace(-3, 3, 13)
    np.testing.assert_allclose(expectile_loss(error, 0.5), 0.5 * error**2, rtol=1e-6)


@pytest.mark.parametrize("expectile", [0.1, 0.5, 0.7, 0.99])
def test_expectile_of_zero_and_one_is_tau(expectile):
    # tau (1 - m) = (1 - tau) m at m = tau, and the slope changes its sign there.
    slope = jax.grad(lambda m: expectile_loss(jnp.array([0.0, 1.0]) - m, expectile).mean())
    assert float(slope(expectile)) == pytest.approx(0.0, abs=1e-6)
    assert slope(expectile - 0.05) < 0 < slope(expectile + 0.05)


def test_advantage_weight_is_the_exponential_up_to_the_clip():
    # e^0 = 1, e^3 = 20.0855, e^30 > 100, and a huge advantage is the clip as well, not an overflow.
    weight = advantage_weight(jnp.array([0.0, 1.0, 10.0, 1e30]), beta=3.0, clip=100.0)
    np.testing.assert_allclose(weight, [1.0, 20.085537, 100.0, 100.0], rtol=1e-5)


def test_no_gradient_flows_through_the_advantage_weight():
    assert float(jax.grad(lambda a: advantage_weight(a, 3.0, 100.0))(0.5)) == 0.0


Q = jnp.array([1.0, -3.0])
POLICY_ACTION = jnp.array([[0.5], [0.0]])
DATA_ACTION = jnp.array([[0.0], [1.0]])


def test_td3_bc_actor_loss_by_hand():
    # lambda = 2.5 / ((1 + 3) / 2) = 1.25;  -1.25 * (1 - 3) / 2 = 1.25;  (0.25 + 1) / 2 = 0.625
    assert float(td3_bc_actor_loss(Q, POLICY_ACTION, DATA_ACTION, 2.5, alone)) == pytest.approx(1.875)


def test_lambda_is_a_constant_of_the_batch():
    # d loss / d q_i = -1.25 / 2 for both samples; through lambda it would differ between them.
    slope = jax.grad(lambda q: td3_bc_actor_loss(q, POLICY_ACTION, DATA_ACTION, 2.5, alone))(Q)
    np.testing.assert_allclose(slope, [-0.625, -0.625], rtol=1e-6)


def test_rebrac_actor_loss_by_hand():
    # lambda = 1 / ((1 + 3) / 2) = 0.5;  -0.5 * (1 - 3) / 2 = 0.5;  distances (0.5^2 + 2^2) and (0 + 1^2), mean 2.625
    policy, data = jnp.array([[0.5, -1.0], [0.0, 0.0]]), jnp.array([[0.0, 1.0], [0.0, 1.0]])
    np.testing.assert_allclose(action_distance(policy, data), [4.25, 1.0])
    assert float(rebrac_actor_loss(Q, policy, data, 0.1, alone)) == pytest.approx(0.5 + 0.1 * 2.625)
    # d loss / d q_i = -0.5 / 2: nothing flows through lambda.
    slope = jax.grad(lambda q: rebrac_actor_loss(q, policy, data, 0.1, alone))(Q)
    np.testing.assert_allclose(slope, [-0.25, -0.25], rtol=1e-6)


def test_lambda_uses_the_mean_over_all_devices():
    # Were the mean |Q| over all devices 5 rather than this device's 2: lambda = 0.5, loss 0.5 + 0.625
    loss = td3_bc_actor_loss(Q, POLICY_ACTION, DATA_ACTION, 2.5, lambda mean: 0 * mean + 5.0)
    assert float(loss) == pytest.approx(1.125)


def test_pessimistic_rewards_by_hand():
    rewards = jnp.array([[1.0, 2.0], [3.0, 2.0]])
    states = jnp.array([[[0.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [2.0, 1.0]]])
    # Step 0: |1 - 3|^2 + |(0,0) - (1,0)|^2 = 4 + 1;  2 - 0.1 * 5 = 1.5
    # Step 1: |2 - 2|^2 + |(0,1) - (2,1)|^2 = 0 + 4;  2 - 0.1 * 4 = 1.6
    np.testing.assert_allclose(pessimistic_rewards(rewards, states, 0.1), [1.5, 1.6], rtol=1e-6)


def test_the_worst_pair_counts_with_its_reward_and_state_gaps_together():
    rewards = jnp.array([[0.0], [2.0], [0.0]])
    states = jnp.array([[[0.0]], [[0.0]], [[3.0]]])
    # Pairs: (0,1) 4 + 0, (0,2) 0 + 9, (1,2) 4 + 9 = 13;  mean 2/3 - 1 * 13
    np.testing.assert_allclose(pessimistic_rewards(rewards, states, 1.0), [2 / 3 - 13], rtol=1e-6)


def test_one_sample_has_no_disagreement():
    rewards = jnp.array([[1.0, -2.0, 3.0]])
    np.testing.assert_array_equal(pessimistic_rewards(rewards, jnp.ones((1, 3, 2)), 10.0), rewards[0])


@settings(deadline=None, max_examples=20)
@given(
    arrays(np.float32, (3, 2), elements=st.floats(-5, 5, width=32)),
    arrays(np.float32, (3, 2, 2), elements=st.floats(-5, 5, width=32)),
    st.permutations(range(3)),
)
def test_pessimism_never_exceeds_the_mean_and_ignores_the_order_of_samples(rewards, states, order):
    rewards, states, order = jnp.asarray(rewards), jnp.asarray(states), jnp.asarray(order)
    penalised = pessimistic_rewards(rewards, states, 0.5)
    assert (penalised <= rewards.mean(axis=0) + 1e-5).all()
    np.testing.assert_allclose(pessimistic_rewards(rewards[order], states[order], 0.5), penalised, atol=1e-4)
    np.testing.assert_allclose(pessimistic_rewards(rewards, states, 0.0), rewards.mean(axis=0), atol=1e-5)
