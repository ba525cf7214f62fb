"""Normalisers: what goes in comes back, and the range is what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dwm_jax.maths.normalizers import FITTERS, fit_cdf, fit_min_max, fit_standard

every_normalizer = pytest.mark.parametrize("fit", FITTERS.values(), ids=FITTERS.keys())

# Hundredths, drawn often from a few values: ties, outliers, constant columns.
hundredths = st.one_of(st.integers(-3, 3), st.integers(-100_000, 100_000)).map(lambda i: np.float32(i / 100))
tables = arrays(np.float32, (24, 2), elements=hundredths)
SETTINGS = settings(deadline=None, max_examples=30)


def assert_within(actual, expected, data):
    """Equal to 1e-5 of each dimension's range, and to what float32 can hold at all."""
    tolerance = 1e-5 * np.ptp(data, axis=0) + 4 * np.finfo(np.float32).eps * np.abs(data).max(axis=0)
    assert (np.abs(np.asarray(actual) - expected) <= tolerance).all()


@every_normalizer
@SETTINGS
@given(data=tables)
def test_round_trip_is_exact_to_a_hundred_thousandth_of_the_range(fit, data):
    normalizer = fit(data)
    assert_within(normalizer.denormalize(normalizer.normalize(jnp.asarray(data))), data, data)


@every_normalizer
@SETTINGS
@given(data=tables)
def test_order_is_kept_and_low_and_high_bound_the_data(fit, data):
    normalizer = fit(data)
    y = np.asarray(normalizer.normalize(jnp.asarray(np.sort(data, axis=0))))
    assert (np.diff(y, axis=0) >= 0).all()
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y[0], normalizer.low, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(y[-1], normalizer.high, rtol=1e-5, atol=1e-5)


@every_normalizer
@pytest.mark.parametrize("constant", [0.0, 3.0, 0.1, -1e6])
def test_a_constant_dimension_maps_to_zero_and_back(fit, constant):
    data = np.stack([np.full(50, constant), np.linspace(-1, 1, 50)], axis=1).astype(np.float32)
    normalizer = fit(data)
    y = np.asarray(normalizer.normalize(jnp.asarray(data)))
    np.testing.assert_array_equal(y[:, 0], 0.0)
    np.testing.assert_array_equal(normalizer.denormalize(jnp.asarray(y))[:, 0], data[:, 0])
    # A value the data never showed stays finite, and the dimension beside it is untouched.
    assert np.isfinite(normalizer.normalize(jnp.array([constant + 1, 0.5]))).all()
    assert y[0, 1] < y[-1, 1]


@every_normalizer
def test_a_single_row_is_a_constant(fit):
    normalizer = fit(np.array([[2.0, -7.0]], np.float32))
    np.testing.assert_array_equal(normalizer.normalize(jnp.array([2.0, -7.0])), [0.0, 0.0])
    np.testing.assert_array_equal(normalizer.denormalize(jnp.zeros(2)), [2.0, -7.0])


@every_normalizer
def test_leading_axes_and_compilation_change_nothing(fit):
    data = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    normalizer = fit(data)
    rows = jnp.stack([normalizer.normalize(row) for row in jnp.asarray(data[:6])])
    together = jax.jit(lambda n, x: n.normalize(x))(normalizer, jnp.asarray(data[:6]).reshape(2, 3, 2))
    np.testing.assert_allclose(together.reshape(6, 2), rows, rtol=1e-5, atol=1e-6)


def test_min_max_by_hand():
    # (0, 10): centre 5, half-width 5; 7.5 is half-way up.
    normalizer = fit_min_max(np.array([[0.0], [10.0], [4.0]]))
    np.testing.assert_allclose(normalizer.normalize(jnp.array([[0.0], [10.0], [7.5]]))[:, 0], [-1, 1, 0.5])
    np.testing.assert_allclose(normalizer.denormalize(jnp.array([-0.5])), [2.5])


def test_standard_by_hand():
    # Mean 2, variance (4 + 0 + 4) / 3; nothing is added to the standard deviation.
    normalizer = fit_standard(np.array([[0.0], [2.0], [4.0]]))
    np.testing.assert_allclose(normalizer.normalize(jnp.array([4.0])), [2 / np.sqrt(8 / 3)], rtol=1e-6)
    np.testing.assert_allclose(normalizer.low, [-2 / np.sqrt(8 / 3)], rtol=1e-6)


def test_cdf_makes_any_distribution_uniform():
    data = np.random.default_rng(0).exponential(size=(4000, 1)).astype(np.float32)
    y = np.sort(np.asarray(fit_cdf(data).normalize(jnp.asarray(data)))[:, 0])
    np.testing.assert_allclose(y, np.linspace(-1, 1, 4000), atol=0.01)


def test_cdf_puts_a_tie_at_the_mean_of_its_levels_and_the_ends_at_one():
    # Half the data is 5, a quarter below, a quarter above: 5 spans the levels 1/4 .. 3/4, their mean is 1/2 -> 0.
    data = np.array([[0.0]] * 25 + [[5.0]] * 50 + [[9.0]] * 25)
    y = fit_cdf(data).normalize(jnp.array([[0.0], [5.0], [9.0]]))[:, 0]
    np.testing.assert_allclose(y, [-1.0, 0.0, 1.0], atol=0.01)


def test_cdf_clips_what_lies_outside_the_data():
    normalizer = fit_cdf(np.linspace(2, 3, 100)[:, None])
    np.testing.assert_array_equal(normalizer.normalize(jnp.array([[-50.0], [50.0]]))[:, 0], [-1.0, 1.0])
    np.testing.assert_allclose(normalizer.denormalize(jnp.array([[-7.0], [7.0]]))[:, 0], [2.0, 3.0])


def test_round_trip_through_the_steepest_cdf():
    # All rows but a few lie in two narrow crowds: between them the CDF rises by one knot over the whole range.
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.normal(-1000, 1, 3800), rng.normal(1000, 1, 200)]).astype(np.float32)[:, None]
    between = np.linspace(-990, 990, 500, dtype=np.float32)[:, None]
    normalizer = fit_cdf(data)
    assert_within(normalizer.denormalize(normalizer.normalize(jnp.asarray(between))), between, data)


def test_cdf_of_two_values_is_linear_between_them():
    normalizer = fit_cdf(np.array([[0.0], [10.0]]))
    np.testing.assert_allclose(normalizer.normalize(jnp.array([[2.5]])), [[-0.5]], atol=1e-5)
