"""Convolutions along a short sequence, written as one matrix product per tap.

XLA's convolution collapses on the CPU when a kernel is longer than the sequence, and everywhere it multiplies
the zero padding. Here each tap multiplies the positions that it meets, in one product for the whole batch, and no
padding. The sums are those of `flax.linen.Conv` and `flax.linen.ConvTranspose`.

Every tap is a parameter of its own: slicing one out of a common kernel would copy it in the forward pass, and its
gradient would be padded to the kernel's size and added up, which costs more than the product itself.

A tap that touches nothing but padding at a given length is *dead*: at length 2 that is true of the outer two
of five. Dead taps are not parameters here (their gradient would be exactly zero); the live ones keep the
initial scale of the full kernel.

Layers take a `dtype` as flax's do: what the products multiply. Parameters, sums and results are float32.

One sequence x (L, C_in) at a time; a tap is (C_in, C_out), as in a kernel (taps, C_in, C_out) of flax.
"""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike

from dwm_jax.networks.initialization import lecun_normal
from dwm_jax.networks.row_product import row_product
from dwm_jax.types import Array


def live_taps(length: int, taps: int, padding: int) -> tuple[int, int]:
    """Half-open range of the taps that meet data at stride 1, symmetric padding: out[t] sees in[t + tap - padding]."""
    return max(0, padding - (length - 1)), min(taps, padding + length)


def conv(x_LC: Array, taps_CC: Sequence[Array], padding: tuple[int, int], stride: int = 1) -> Array:
    """out[t] = sum_j x[t * stride + j - padding[0]] @ taps[j], x taken as 0 outside the sequence.

    Equal to `flax.linen.Conv` with the same kernel, stride and padding.

    Args:
      x_LC: shape (L, C_in).
      taps_CC: one matrix (C_in, C_out) per tap.
      padding: implied zeros on the left and on the right.
      stride: distance of the outputs.

    Returns:
      shape ((L + sum(padding) - len(taps)) // stride + 1, C_out), float32 whatever the inputs are.
    """
    length = x_LC.shape[0]
    num_outputs = (length + sum(padding) - len(taps_CC)) // stride + 1
    out = jnp.zeros((num_outputs, taps_CC[0].shape[1]), jnp.float32)
    for tap, tap_CC in enumerate(taps_CC):
        meets = [t for t in range(num_outputs) if 0 <= t * stride + tap - padding[0] < length]
        if meets:
            start = meets[0] * stride + tap - padding[0]
            window = x_LC[start : start + (len(meets) - 1) * stride + 1 : stride]
            out += jnp.pad(row_product(window, tap_CC), ((meets[0], num_outputs - 1 - meets[-1]), (0, 0)))
    return out


def conv_transpose(x_LC: Array, taps_4CC: Sequence[Array]) -> Array:
    """Doubles the length: `flax.linen.ConvTranspose` with 4 taps, stride 2, padding "SAME".

        out[2m]     = x[m - 1] @ taps[0] + x[m] @ taps[2]
        out[2m + 1] = x[m] @ taps[1] + x[m + 1] @ taps[3]

    Args:
      x_LC: shape (L, C_in).
      taps_4CC: four matrices (C_in, C_out).

    Returns:
      shape (2 L, C_out).
    """
    even = conv(x_LC, taps_4CC[0::2], padding=(1, 0))
    odd = conv(x_LC, taps_4CC[1::2], padding=(0, 1))
    return jnp.stack([even, odd], axis=1).reshape(2 * x_LC.shape[0], -1)


def tap_parameters(module: nn.Module, taps: range, channels: int, features: int, num_summed: int) -> list[Array]:
    """The parameters tap_j of a layer, at LeCun's scale: variance 1 / (num_summed * channels).

    Args:
      module: that they belong to, inside its compact call.
      taps: which; named by their place in the full kernel.
      channels, features: C_in and C_out.
      num_summed: taps that one output sums, dead ones included.
    """
    initializer = partial(lecun_normal, num_summed=num_summed)
    return [module.param(f"tap_{tap}", initializer, (channels, features)) for tap in taps]


class TemporalConv(nn.Module):
    """Convolution of odd kernel size that keeps the length: (L, C_in) -> (L, features)."""

    features: int
    kernel_size: int = 5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x_LC: Array) -> Array:
        length, channels = x_LC.shape
        padding = self.kernel_size // 2
        first, last = live_taps(length, self.kernel_size, padding)
        taps = tap_parameters(self, range(first, last), channels, self.features, self.kernel_size)
        bias_C = self.param("bias", nn.initializers.zeros, (self.features,))
        x_LC, *taps = promote_dtype(x_LC, *taps, dtype=self.dtype)
        return conv(x_LC, taps, (padding - first, last - 1 - padding)) + bias_C


class Downsample(nn.Module):
    """Halves an even length: 3 taps, stride 2, padding 1. (L, C) -> (L / 2, C)."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x_LC: Array) -> Array:
        channels = x_LC.shape[1]
        taps = tap_parameters(self, range(3), channels, channels, 3)
        bias_C = self.param("bias", nn.initializers.zeros, (channels,))
        x_LC, *taps = promote_dtype(x_LC, *taps, dtype=self.dtype)
        # At an even length the right-hand zero is never reached.
        return conv(x_LC, taps, (1, 0), stride=2) + bias_C


class Upsample(nn.Module):
    """Doubles the length: 4 taps, stride 2. (L, C) -> (2 L, C)."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x_LC: Array) -> Array:
        channels = x_LC.shape[1]
        # Each output meets two of the four taps (one at the edges).
        taps = tap_parameters(self, range(4), channels, channels, 2)
        bias_C = self.param("bias", nn.initializers.zeros, (channels,))
        x_LC, *taps = promote_dtype(x_LC, *taps, dtype=self.dtype)
        return conv_transpose(x_LC, taps) + bias_C
