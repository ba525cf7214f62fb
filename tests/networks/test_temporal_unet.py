"""The denoiser and its parts."""

from functools import partial
from math import prod

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.networks.temporal_unet import EMBEDDING_SIZE, GroupNorm, TemporalUnet, mish, sinusoidal


def mish_and_slope(x):
    """x tanh(softplus(x)) and its derivative tanh(softplus) + x sech^2(softplus) sigmoid, in float64."""
    x = np.asarray(x, np.float64)
    softplus, sigmoid = np.logaddexp(0, x), np.exp(-np.logaddexp(0, -x))
    t = np.tanh(softplus)
    return x * t, t + x * (1 - t**2) * sigmoid


# 20 is where the exponential is clamped.
MISH_POINTS = np.concatenate(
    [np.linspace(-12, 12, 97), np.linspace(19.9, 20.1, 9), [-1e30, -200, -60, 60, 200, 1e30]]
).astype(np.float32)


def test_mish_and_its_gradient_are_right_and_finite_everywhere():
    value, slope = mish_and_slope(MISH_POINTS)
    actual_value, actual_slope = jax.jit(jax.vmap(jax.value_and_grad(mish)))(MISH_POINTS)
    np.testing.assert_allclose(actual_value, value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(actual_slope, slope, rtol=1e-5, atol=1e-5)


def test_sinusoidal_by_hand():
    # Frequencies 1 and 1/10000 at size 4.
    expected = [np.sin(3), np.sin(3e-4), np.cos(3), np.cos(3e-4)]
    np.testing.assert_allclose(sinusoidal(jnp.array(3), 4), expected, rtol=1e-4)


@pytest.mark.parametrize("shape", [(8, 16), (1, 24)])
def test_group_norm_is_that_of_flax(shape):
    rng = np.random.default_rng(0)
    x, scale, bias = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in (shape, shape[1], shape[1]))
    x = 3 * x + 1
    params = {"params": {"scale": scale, "bias": bias}}
    flax_layer = nn.GroupNorm(num_groups=8, epsilon=1e-5)

    @partial(jax.jit, static_argnums=0)
    def value_and_gradient(apply, x):
        return apply(x), jax.grad(lambda x: jnp.sum(jnp.sin(apply(x))))(x)

    def flax(x):
        return flax_layer.apply(params, x[None])[0]

    def ours(x):
        return GroupNorm().apply(params, x)

    for actual, expected in zip(value_and_gradient(ours, x), value_and_gradient(flax, x), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=1e-4)


def test_group_norm_of_a_constant_is_its_bias():
    layer = GroupNorm()
    params = {"params": {"scale": jnp.ones(8), "bias": jnp.arange(8.0)}}
    out = layer.apply(params, jnp.full((4, 8), 7.0))
    np.testing.assert_allclose(out, np.tile(np.arange(8.0), (4, 1)), atol=1e-4)


def shapes(length, width, multipliers, row_size=12, action_size=3):
    """(parameter shapes, output shape), without computing anything."""
    net = TemporalUnet(width, multipliers)
    inputs = jnp.zeros((length, row_size)), jnp.array(1), jnp.zeros(action_size), jnp.zeros(())
    out, params = jax.eval_shape(net.init_with_output, jax.random.key(0), *inputs)
    return params, out.shape


@pytest.mark.parametrize("length", [1, 3, 6, 8])
def test_the_noise_has_the_shape_of_the_rows_at_any_length(length):
    assert shapes(length, 8, (1, 2, 4))[1] == (length, 12)


def count(params):
    return sum(prod(leaf.shape) for leaf in jax.tree.leaves(params))


def test_dead_taps_are_no_parameters():
    # At T = 8 the deepest level has length 2, where two of five taps of every convolution are dead:
    #   down and middle  512 -> 1024 and 7 times 1024 -> 1024;  up  2048 -> 512 and 3 times 512 -> 512
    per_tap = 512 * 1024 + 7 * 1024 * 1024 + 2048 * 512 + 3 * 512 * 512
    at_8, at_32 = (count(shapes(length, 128, (1, 4, 8))[0]) for length in (8, 32))
    assert at_32 - at_8 == 2 * per_tap == 19_398_656


@pytest.fixture(scope="module")
def net_and_params():
    params, _ = shapes(4, 8, (1, 2), row_size=3, action_size=2)
    rng = np.random.default_rng(0)
    return TemporalUnet(8, (1, 2)), jax.tree.map(lambda leaf: jnp.asarray(0.2 * rng.normal(size=leaf.shape)), params)


def test_the_null_condition_zeroes_the_return_and_keeps_the_action(net_and_params):
    net, params = net_and_params

    @jax.jit
    def embed(return_to_go, keep):
        return net.apply(params, jnp.array([0.3, -0.2]), return_to_go, keep, method=TemporalUnet.embed_condition)

    kept, null = embed(0.9, 1.0), embed(0.9, 0.0)
    assert kept.shape == (2 * EMBEDDING_SIZE,)
    np.testing.assert_array_equal(null[:EMBEDDING_SIZE], 0)
    np.testing.assert_array_equal(null[EMBEDDING_SIZE:], kept[EMBEDDING_SIZE:])
    np.testing.assert_array_equal(null, embed(0.1, 0.0))
    assert np.abs(kept - embed(0.1, 1.0)).max() > 1e-3


def test_every_row_and_every_condition_reaches_every_row_of_the_noise(net_and_params):
    net, params = net_and_params
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
    base = x, jnp.array(3.0), jnp.array([0.3, -0.2]), jnp.array(0.5)
    changed = [(x.at[row].add(1.0), *base[1:]) for row in range(4)]
    changed += [(*base[:i], base[i] + 1, *base[i + 1 :]) for i in (1, 2, 3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), base, *changed)
    out = jax.jit(jax.vmap(lambda inputs: net.apply(params, *inputs)))(stacked)
    assert (np.abs(out[1:] - out[0]).max(axis=2) > 1e-4).all()


def test_bfloat16_activations_change_the_noise_by_their_rounding_and_no_parameter(net_and_params):
    net, params = net_and_params
    rounded = TemporalUnet(8, (1, 2), jnp.bfloat16)
    inputs = jnp.zeros((4, 3)), jnp.array(1), jnp.zeros(2), jnp.zeros(())
    initial = jax.eval_shape(rounded.init, jax.random.key(0), *inputs)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), initial) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), params
    )

    x_BTD = jnp.asarray(np.random.default_rng(1).normal(size=(64, 4, 3)), jnp.float32)

    def noise(network, params):
        return jax.vmap(lambda x: network.apply(params, x, jnp.array(3.0), jnp.array([0.3, -0.2]), jnp.array(0.5)))(
            x_BTD
        )

    exact, near = (jax.jit(noise, static_argnums=0)(network, params) for network in (net, rounded))
    assert near.dtype == jnp.float32
    # A bfloat16 has 8 significant bits: each of a dozen roundings moves a value by up to 2^-9 = 0.2 %.
    error = float(jnp.sqrt(jnp.mean((near - exact) ** 2) / jnp.mean(exact**2)))
    assert 1e-4 < error < 0.05
    gradient = jax.eval_shape(jax.grad(lambda params: jnp.sum(noise(rounded, params) ** 2)), params)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))
