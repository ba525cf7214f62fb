"""The benchmark: its counts of arithmetic, its commands, its rows."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.networks.temporal_conv import Downsample, TemporalConv, Upsample
from dwm_jax.networks.temporal_unet import TemporalUnet
from experiments.benchmark.arithmetic import (
    condition_layers,
    row_layers,
    step_layers,
    touching_taps,
    training_flop,
    trajectory_flop,
)

SHAPES = [
    {"length": 8, "observation_size": 11, "action_size": 3, "width": 16, "multipliers": (1, 4, 8)},
    {"length": 32, "observation_size": 4, "action_size": 2, "width": 8, "multipliers": (1, 2, 4)},
    {"length": 6, "observation_size": 3, "action_size": 1, "width": 8, "multipliers": (1, 2, 4)},
    {"length": 2, "observation_size": 3, "action_size": 1, "width": 8, "multipliers": (1, 2)},
]


@pytest.mark.parametrize(
    ("length", "taps", "padding", "stride", "pairs"),
    [
        (8, 5, 2, 1, 3 + 4 + 4 * 5 + 4 + 3),
        (4, 5, 2, 1, 3 + 4 + 4 + 3),
        (2, 5, 2, 1, 2 + 2),
        (1, 5, 2, 1, 1),
        (8, 3, 1, 2, 2 + 3 + 3 + 3),
        (2, 3, 1, 2, 2),
    ],
)
def test_touching_taps_by_hand(length: int, taps: int, padding: int, stride: int, pairs: int) -> None:
    assert touching_taps(length, taps, padding, stride) == pairs


def test_the_smallest_denoiser_by_hand() -> None:
    # One level, T = 2, D = 3, width 8. A convolution at length 2 has 4 pairs of output and tap; the embedding is 384.
    # Blocks: down a with a skip, down b, middle a and b without.
    down_a = 4 * 3 * 8 + 384 * 8 + 4 * 8 * 8 + 2 * 3 * 8
    others = 3 * (4 * 8 * 8 + 384 * 8 + 4 * 8 * 8)
    end = 4 * 8 * 8 + 2 * 8 * 3
    rows = 2 * (down_a + others + end)
    assert sum(layer.flop for layer in row_layers(2, 3, 8, (1,))) == rows
    # return 1 -> 128 -> 512 -> 128, action 5 -> 128 -> 512 -> 128, step 128 -> 512 -> 128
    condition = 2 * (1 * 128 + 128 * 512 + 512 * 128 + 5 * 128 + 128 * 512 + 512 * 128)
    step = 2 * (128 * 512 + 512 * 128)
    assert sum(layer.flop for layer in condition_layers(5)) == condition
    assert sum(layer.flop for layer in step_layers()) == step
    # No gradient with respect to data: first convolution and skip, first layers of return, action and step.
    from_data = 2 * (4 * 3 * 8 + 2 * 3 * 8 + 1 * 128 + 5 * 128 + 128 * 512)
    shape = {"length": 2, "observation_size": 2, "action_size": 5, "width": 8, "multipliers": (1,)}
    assert training_flop(**shape) == 3 * (rows + condition + step) - from_data
    # Two steps: both branches, less the convolution and the skip that both share.
    shared = 2 * (4 * 3 * 8 + 2 * 3 * 8)
    assert trajectory_flop(**shape, num_sampling_steps=2, guided=True) == 2 * (2 * rows - shared) + condition
    assert trajectory_flop(**shape, num_sampling_steps=2, guided=False) == 2 * rows + condition


def abstract_call(shape: dict, network: TemporalUnet) -> tuple:
    """(parameters, arguments) of one call of the whole denoiser, as shapes alone."""
    x_TD = jnp.ones((shape["length"], shape["observation_size"] + 1))
    arguments = (x_TD, jnp.ones(()), jnp.ones(shape["action_size"]), jnp.ones(()))
    return jax.eval_shape(network.init, jax.random.key(0), *arguments), arguments


@functools.cache
def pairs_of(layer: type[nn.Module], length: int) -> int:
    """Taps that meet data, by letting flax's own layer with a kernel of ones add up a sequence of ones."""
    ones, kernel_init = jnp.ones((1, length, 1)), nn.initializers.ones
    flax = {
        TemporalConv: nn.Conv(1, (5,), padding=[(2, 2)], kernel_init=kernel_init),
        Downsample: nn.Conv(1, (3,), strides=2, padding=[(1, 1)], kernel_init=kernel_init),
        Upsample: nn.ConvTranspose(1, (4,), strides=(2,), kernel_init=kernel_init),
        nn.Dense: nn.Conv(1, (1,), kernel_init=kernel_init),
    }[layer]
    return int(jax.jit(flax.init_with_output)(jax.random.key(0), ones)[0].sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_counts_agree_with_the_layers_the_network_really_has(shape: dict) -> None:
    network = TemporalUnet(shape["width"], shape["multipliers"])
    params, arguments = abstract_call(shape, network)
    seen = []

    def look(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if isinstance(context.module, TemporalConv | Downsample | Upsample | nn.Dense):
            length = args[0].shape[0] if args[0].ndim == 2 else 1
            seen.append((type(context.module), length, args[0].shape[-1], out.shape[-1]))
        return out

    with nn.intercept_methods(look):
        jax.eval_shape(network.apply, params, *arguments)
    layers = [
        *row_layers(shape["length"], shape["observation_size"] + 1, shape["width"], shape["multipliers"]),
        *condition_layers(shape["action_size"]),
        *step_layers(),
    ]
    counted = [2 * pairs_of(layer, length) * inputs * outputs for layer, length, inputs, outputs in seen]
    assert sorted(counted) == sorted(layer.flop for layer in layers)


@pytest.mark.parametrize("shape", SHAPES)
def test_counts_are_below_what_xla_computes(shape: dict) -> None:
    network = TemporalUnet(shape["width"], shape["multipliers"])
    params, arguments = abstract_call(shape, network)
    loss = jax.value_and_grad(lambda params: (network.apply(params, *arguments) ** 2).mean())
    computed = jax.jit(loss).lower(params).cost_analysis()["flops"]
    # Written with padding, a convolution at length 2 takes two and a half times what is useful.
    assert computed / 2 < training_flop(**shape) <= computed


def test_the_papers_size() -> None:
    shape = {"length": 8, "observation_size": 11, "action_size": 3, "width": 128, "multipliers": (1, 4, 8)}
    # Some 130 million operations a call, 25 billion for a training step at batch 64, 0.78 billion a trajectory.
    assert 64 * training_flop(**shape) == pytest.approx(25e9, rel=0.02)
    assert trajectory_flop(**shape, num_sampling_steps=3, guided=True) == pytest.approx(0.78e9, rel=0.02)
    np.testing.assert_allclose(sum(layer.flop for layer in row_layers(8, 12, 128, (1, 4, 8))), 130e6, rtol=0.01)
