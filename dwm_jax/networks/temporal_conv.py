"""Convolutions along a short sequence, written as matrix products.

XLA's convolution collapses on the CPU when a kernel is longer than the sequence, and everywhere it multiplies
the zero padding. Here every output position meets only the taps that touch data: the interior, where all taps
do, is one product of unfolded windows; each position near an edge is a product with a slice of the kernel.
The sums are those of `flax.linen.Conv` and `flax.linen.ConvTranspose`.

A tap that touches nothing but padding at a given length is *dead*: at length 2 that is true of the outer two
of five. Dead taps are not parameters here (their gradient would be exactly zero); the live ones keep the
initial scale of the full kernel.

One sequence x (L, C_in) at a time; a kernel is (taps, C_in, C_out) as in flax.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dwm_jax.types import Array, Key


def live_taps(length: int, taps: int, padding: int) -> tuple[int, int]:
    """Half-open range of the taps that meet data at stride 1, symmetric padding: out[t] sees in[t + tap - padding]."""
    return max(0, padding - (length - 1)), min(taps, padding + length)


def conv(x_LC: Array, kernel_KCC: Array, padding: tuple[int, int], stride: int = 1) -> Array:
    """out[t] = sum_j x[t * stride + j - padding[0]] @ kernel[j], x taken as 0 outside the sequence.

    Equal to `flax.linen.Conv` with the same kernel, stride and padding.

    Args:
      x_LC: shape (L, C_in).
      kernel_KCC: shape (taps, C_in, C_out).
      padding: implied zeros on the left and on the right.
      stride: distance of the outputs.

    Returns:
      shape ((L + sum(padding) - taps) // stride + 1, C_out).
    """
    length, taps = x_LC.shape[0], kernel_KCC.shape[0]
    num_outputs = (length + sum(padding) - taps) // stride + 1
    starts = [t * stride - padding[0] for t in range(num_outputs)]
    interior = [start for start in starts if start >= 0 and start + taps <= length]

    def edge(start: int) -> Array:
        first, last = max(0, -start), min(taps, length - start)
        window = x_LC[start + first : start + last].reshape(-1)
        return (window @ kernel_KCC[first:last].reshape(window.shape[0], -1))[None]

    outputs = [edge(start) for start in starts if start < 0]
    if interior:
        # out rows of the interior, unfolded: (n, taps * C_in) @ (taps * C_in, C_out)
        span = (len(interior) - 1) * stride + 1
        windows = [x_LC[interior[0] + j : interior[0] + j + span : stride] for j in range(taps)]
        outputs.append(jnp.concatenate(windows, axis=1) @ kernel_KCC.reshape(-1, kernel_KCC.shape[2]))
    outputs += [edge(start) for start in starts if start >= 0 and start + taps > length]
    return jnp.concatenate(outputs)


def conv_transpose(x_LC: Array, kernel_4CC: Array) -> Array:
    """Doubles the length: `flax.linen.ConvTranspose` with 4 taps, stride 2, padding "SAME".

        out[2m]     = x[m - 1] @ kernel[0] + x[m] @ kernel[2]
        out[2m + 1] = x[m] @ kernel[1] + x[m + 1] @ kernel[3]

    Args:
      x_LC: shape (L, C_in).
      kernel_4CC: shape (4, C_in, C_out).

    Returns:
      shape (2 L, C_out).
    """
    even = conv(x_LC, kernel_4CC[0::2], padding=(1, 0))
    odd = conv(x_LC, kernel_4CC[1::2], padding=(0, 1))
    return jnp.stack([even, odd], axis=1).reshape(2 * x_LC.shape[0], -1)


def _live_kernel(key: Key, full_shape: tuple[int, ...], live: tuple[int, int]) -> Array:
    """The live taps of a full kernel drawn at the usual (LeCun) scale."""
    kernel: Array = jax.nn.initializers.lecun_normal()(key, full_shape, jnp.float32)
    return kernel[live[0] : live[1]]


class TemporalConv(nn.Module):
    """Convolution of odd kernel size that keeps the length: (L, C_in) -> (L, features)."""

    features: int
    kernel_size: int = 5

    @nn.compact
    def __call__(self, x_LC: Array) -> Array:
        length, channels = x_LC.shape
        padding = self.kernel_size // 2
        first, last = live_taps(length, self.kernel_size, padding)
        full_shape = (self.kernel_size, channels, self.features)
        kernel = self.param("kernel", _live_kernel, full_shape, (first, last))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return conv(x_LC, kernel, (padding - first, last - 1 - padding)) + bias


class Downsample(nn.Module):
    """Halves an even length: 3 taps, stride 2, padding 1. (L, C) -> (L / 2, C)."""

    @nn.compact
    def __call__(self, x_LC: Array) -> Array:
        channels = x_LC.shape[1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, channels, channels))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        # At an even length the right-hand zero is never reached.
        return conv(x_LC, kernel, (1, 0), stride=2) + bias


class Upsample(nn.Module):
    """Doubles the length: 4 taps, stride 2. (L, C) -> (2 L, C)."""

    @nn.compact
    def __call__(self, x_LC: Array) -> Array:
        channels = x_LC.shape[1]
        # Each output meets two of the four taps (one at the edges): LeCun's scale for two.
        kernel = self.param(
            "kernel", nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal"), (4, channels, channels)
        )
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        return conv_transpose(x_LC, kernel) + bias
