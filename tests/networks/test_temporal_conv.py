"""Convolutions written as matrix products are flax's convolutions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.networks.temporal_conv import Downsample, TemporalConv, Upsample, conv, conv_transpose, live_taps

C_IN, C_OUT = 3, 4
LENGTHS = [1, 2, 4, 8, 32]


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def layer_params(kernel, bias, first=0):
    """A kernel (taps, C_in, C_out) as the parameters of a layer whose first live tap is `first`."""
    return {"params": {f"tap_{first + j}": tap for j, tap in enumerate(kernel)} | {"bias": bias}}


def assert_same_function(ours, flax, *inputs):
    """Same shape, same values, and same gradients with respect to every input, to 1e-5."""

    @jax.jit
    def both(*inputs):
        results = []
        for function in (ours, flax):
            out, pull_back = jax.vjp(function, *inputs)
            results.append([out, *pull_back(jnp.sin(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))])
        return results

    for actual, expected in zip(*both(*inputs), strict=True):
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("length", "live"),
    # Position t of L reads t - 2 .. t + 2: at length 1 only tap 2 meets data, at length 2 taps 1 to 3.
    [(1, (2, 3)), (2, (1, 4)), (3, (0, 5)), (8, (0, 5))],
)
def test_live_taps_by_hand(length, live):
    assert live_taps(length, 5, 2) == live


def test_conv_by_hand():
    # x = 1 2 3, kernel 1 10 100, padding 1: 10*1 + 100*2, 1 + 10*2 + 100*3, 2 + 10*3
    out = conv(jnp.array([[1.0], [2.0], [3.0]]), jnp.array([[[1.0]], [[10.0]], [[100.0]]]), (1, 1))
    np.testing.assert_array_equal(out[:, 0], [210, 321, 32])


def test_conv_transpose_by_hand():
    # out[0] = x0 k2, out[1] = x0 k1 + x1 k3, out[2] = x0 k0 + x1 k2, out[3] = x1 k1;  x = 1 2, k = 1 10 100 1000
    kernel = jnp.array([1.0, 10.0, 100.0, 1000.0]).reshape(4, 1, 1)
    np.testing.assert_array_equal(conv_transpose(jnp.array([[1.0], [2.0]]), kernel)[:, 0], [100, 2010, 201, 20])


@pytest.mark.parametrize("length", LENGTHS)
def test_kernel_5_padding_2_is_flax_conv(length):
    layer = nn.Conv(C_OUT, (5,), padding=[(2, 2)], use_bias=False)
    assert_same_function(
        lambda x, kernel: conv(x, list(kernel), (2, 2)),
        lambda x, kernel: layer.apply({"params": {"kernel": kernel}}, x[None])[0],
        normal(0, length, C_IN),
        normal(1, 5, C_IN, C_OUT),
    )


@pytest.mark.parametrize("length", LENGTHS)
def test_a_convolution_without_its_dead_taps_is_flax_conv_with_them(length):
    first, last = live_taps(length, 5, 2)
    flax_layer, layer = nn.Conv(C_OUT, (5,), padding=[(2, 2)]), TemporalConv(C_OUT)

    def ours(x, kernel, bias):
        return layer.apply(layer_params(kernel[first:last], bias, first), x)

    def flax(x, kernel, bias):
        return flax_layer.apply({"params": {"kernel": kernel, "bias": bias}}, x[None])[0]

    # The kernel is the full one on both sides: flax's gradient of the dead taps has to be the zero that ours is.
    assert_same_function(ours, flax, normal(0, length, C_IN), normal(1, 5, C_IN, C_OUT), normal(2, C_OUT))


@pytest.mark.parametrize(
    ("length", "taps"),
    [(1, {"tap_2"}), (2, {"tap_1", "tap_2", "tap_3"}), (8, {"tap_0", "tap_1", "tap_2", "tap_3", "tap_4"})],
)
def test_parameters_are_the_live_taps(length, taps):
    params = TemporalConv(C_OUT).init(jax.random.key(0), jnp.zeros((length, C_IN)))["params"]
    assert params.keys() == taps | {"bias"}
    assert all(params[tap].shape == (C_IN, C_OUT) for tap in taps)
    np.testing.assert_array_equal(params["bias"], np.zeros(C_OUT))


@pytest.mark.parametrize("length", [2, 4, 8, 32])
def test_downsample_is_flax_conv_of_stride_2_kernel_3_padding_1(length):
    flax_layer, layer = nn.Conv(C_IN, (3,), strides=2, padding=[(1, 1)]), Downsample()

    def ours(x, kernel, bias):
        return layer.apply(layer_params(kernel, bias), x)

    def flax(x, kernel, bias):
        return flax_layer.apply({"params": {"kernel": kernel, "bias": bias}}, x[None])[0]

    inputs = normal(0, length, C_IN), normal(1, 3, C_IN, C_IN), normal(2, C_IN)
    assert_same_function(ours, flax, *inputs)


@pytest.mark.parametrize("length", LENGTHS)
def test_upsample_is_flax_conv_transpose_of_stride_2_kernel_4(length):
    flax_layer, layer = nn.ConvTranspose(C_IN, (4,), strides=(2,)), Upsample()

    def ours(x, kernel, bias):
        return layer.apply(layer_params(kernel, bias), x)

    def flax(x, kernel, bias):
        return flax_layer.apply({"params": {"kernel": kernel, "bias": bias}}, x[None])[0]

    inputs = normal(0, length, C_IN), normal(1, 4, C_IN, C_IN), normal(2, C_IN)
    assert_same_function(ours, flax, *inputs)


@pytest.mark.parametrize(
    ("layer", "length", "fan_in"),
    # One live tap of five keeps the scale that five together have.
    [(TemporalConv(64), 8, 5 * 64), (TemporalConv(64), 1, 5 * 64), (Downsample(), 8, 3 * 64), (Upsample(), 8, 2 * 64)],
)
def test_initial_taps_keep_the_variance_of_their_inputs(layer, length, fan_in):
    # LeCun's scale: variance 1 / (inputs that an output sums). 4,096 draws or more: 10 % is 4.5 standard errors.
    params = layer.init(jax.random.key(0), jnp.zeros((length, 64)))["params"]
    taps = jnp.stack([value for name, value in params.items() if name.startswith("tap")])
    assert float(taps.var()) == pytest.approx(1 / fan_in, rel=0.1)
    # Every tap has draws of its own.
    assert len({float(tap[0, 0]) for tap in taps}) == len(taps)
