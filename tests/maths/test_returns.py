"""Returns along one sequence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dwm_jax.maths.returns import h_step_return, lambda_return, relabelled_return, returns_to_go

LENGTH = 6  # one length, so that every random example reuses the compiled operations
rewards = arrays(np.float32, LENGTH, elements=st.floats(-10, 10, width=32))
# A step of 0 is a termination.
discounts = arrays(np.float32, LENGTH, elements=st.sampled_from([0.0, 0.5, 0.9, 1.0]))
compiled = {function.__name__: jax.jit(function) for function in (returns_to_go, h_step_return, lambda_return)}
plain_and_jit = pytest.mark.parametrize("transform", [lambda function: function, jax.jit], ids=["plain", "jit"])


@plain_and_jit
def test_returns_to_go_by_hand(transform):
    # g_2 = 3;  g_1 = 2 + 0.5 * 3 = 3.5;  g_0 = 1 + 0.5 * 3.5 = 2.75
    g = transform(lambda r: returns_to_go(r, 0.5))(jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(g, [2.75, 3.5, 3.0], rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(rewards, st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_returns_to_go_are_the_double_sum(r, gamma):
    slow = [sum(gamma**i * float(r[t + i]) for i in range(LENGTH - t)) for t in range(LENGTH)]
    np.testing.assert_allclose(compiled["returns_to_go"](r, gamma), slow, rtol=1e-4, atol=1e-4)


@plain_and_jit
def test_h_step_return_by_hand(transform):
    # 1 + 0.5 * 2 + 0.25 * 8 = 4
    y = transform(h_step_return)(jnp.array([1.0, 2.0]), jnp.array([0.5, 0.5]), jnp.array(8.0))
    assert float(y) == pytest.approx(4.0)


def test_nothing_after_a_termination_counts_in_the_h_step_return():
    # 1 + 0.5 * 2, then a discount of 0: neither the reward 100 nor the bootstrap 8 is reached.
    y = h_step_return(jnp.array([1.0, 2.0, 100.0]), jnp.array([0.5, 0.0, 0.5]), jnp.array(8.0))
    assert float(y) == pytest.approx(2.0)


@plain_and_jit
def test_lambda_return_by_hand(transform):
    # G_2 = 20;  G_1 = 2 + 0.9 * (0.5 * 20 + 0.5 * 20) = 20;  G_0 = 1 + 0.9 * (0.5 * 10 + 0.5 * 20) = 14.5
    target = transform(lambda r, d, v: lambda_return(r, d, v, 0.5))
    g = target(jnp.array([1.0, 2.0]), jnp.array([0.9, 0.9]), jnp.array([10.0, 20.0]))
    assert float(g) == pytest.approx(14.5)


@settings(deadline=None, max_examples=25)
@given(rewards, discounts, rewards)
def test_lambda_one_is_the_h_step_return_and_lambda_zero_the_one_step_return(r, d, values):
    g, y = compiled["lambda_return"], compiled["h_step_return"]
    np.testing.assert_allclose(g(r, d, values, 1.0), y(r, d, values[-1]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(g(r, d, values, 0.0), r[0] + d[0] * values[0], rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(rewards, discounts, rewards, st.sampled_from([0.3, 0.95]))
def test_lambda_return_mixes_the_one_to_h_step_returns(r, d, values, lambda_):
    # (1 - lambda) sum_{n<H} lambda^(n-1) G^(n) + lambda^(H-1) G^(H)
    def n_step(n):
        return sum(np.prod(d[:i]) * r[i] for i in range(n)) + np.prod(d[:n]) * values[n - 1]

    mixture = (1 - lambda_) * sum(lambda_ ** (n - 1) * n_step(n) for n in range(1, LENGTH))
    mixture += lambda_ ** (LENGTH - 1) * n_step(LENGTH)
    actual = compiled["lambda_return"](r, d, values, lambda_)
    np.testing.assert_allclose(actual, mixture, rtol=1e-4, atol=1e-4)


def test_sequences_of_different_lengths_are_refused():
    with pytest.raises(AssertionError):
        h_step_return(jnp.ones(3), jnp.ones(2), jnp.array(0.0))
    with pytest.raises(AssertionError):
        lambda_return(jnp.ones(3), jnp.ones(3), jnp.ones(2), 0.5)
    with pytest.raises(AssertionError):
        returns_to_go(jnp.ones((2, 3)), 0.9)


def test_relabelling_raises_a_return_and_never_lowers_it():
    # 1 + 0.5 * 4 = 3: above 2, below 5; a terminated step is worth its reward alone.
    raised = relabelled_return(jnp.array([2.0, 5.0, 0.5]), jnp.ones(3), jnp.array([0.5, 0.5, 0.0]), jnp.full(3, 4.0))
    np.testing.assert_allclose(raised, [3.0, 5.0, 1.0])
