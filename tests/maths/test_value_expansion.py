"""Trajectory and bootstrap make a critic target."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dwm_jax.maths.value_expansion import choose_expansion, collapse, expand_lambda, expand_vanilla, pad_to
from dwm_jax.types import Trajectory

# States 10 and 20, worth their own number.
TWO_STEPS = Trajectory(jnp.array([[10.0], [20.0]]), jnp.array([1.0, 2.0]), jnp.array([0.9, 0.9]))


def worth(observation):
    return observation[0]


def test_vanilla_by_hand():
    # 1 + 0.9 * 2 + 0.81 * 20
    assert float(expand_vanilla(TWO_STEPS, worth)) == pytest.approx(19.0)


def test_vanilla_asks_for_the_value_of_the_last_state_alone():
    asked = []
    expand_vanilla(TWO_STEPS, lambda observation: asked.append(float(observation[0])) or observation[0])
    assert asked == [20.0]


def test_lambda_by_hand():
    # G_1 = 2 + 0.9 * 20 = 20;  G_0 = 1 + 0.9 * (0.5 * 10 + 0.5 * 20) = 14.5
    assert float(expand_lambda(TWO_STEPS, worth, lambda_=0.5)) == pytest.approx(14.5)


def test_a_recorded_terminal_step_is_worth_its_reward():
    step = Trajectory(jnp.array([[10.0]]), jnp.array([3.0]), jnp.array([0.0]))
    for lambda_ in (0.5, 1.0):
        assert float(choose_expansion(lambda_)(step, worth)) == 3.0


def test_a_trajectory_that_stands_still_behind_its_last_step_has_the_targets_it_had():
    longer = pad_to(TWO_STEPS, 4)
    np.testing.assert_array_equal(longer.next_observations[:, 0], [10, 20, 20, 20])
    np.testing.assert_array_equal(longer.rewards, [1, 2, 0, 0])
    # 19 and 14.5, as above.
    assert float(expand_vanilla(longer, worth)) == pytest.approx(19.0)
    assert float(expand_lambda(longer, worth, lambda_=0.5)) == pytest.approx(14.5)


def test_expansion_is_vanilla_at_one_and_the_lambda_return_below():
    assert choose_expansion(1.0) is expand_vanilla
    assert float(choose_expansion(0.5)(TWO_STEPS, worth)) == pytest.approx(14.5)


@settings(deadline=None, max_examples=20)
@given(
    arrays(np.float32, (4, 1), elements=st.floats(-10, 10, width=32)),
    arrays(np.float32, 4, elements=st.floats(-10, 10, width=32)),
    arrays(np.float32, 4, elements=st.sampled_from([0.0, 0.5, 0.9])),
)
def test_a_collapsed_trajectory_has_one_step_and_the_same_vanilla_target(states, rewards, discounts):
    trajectory = Trajectory(jnp.asarray(states), jnp.asarray(rewards), jnp.asarray(discounts))
    short = collapse(trajectory)
    assert [leaf.shape for leaf in short] == [(1, 1), (1,), (1,)]
    np.testing.assert_allclose(expand_vanilla(short, worth), expand_vanilla(trajectory, worth), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        expand_lambda(trajectory, worth, lambda_=1.0), expand_vanilla(short, worth), rtol=1e-4, atol=1e-4
    )
