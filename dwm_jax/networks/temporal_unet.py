"""The denoiser of the diffusion world model: a U-Net along time, after Decision Diffuser (Ajay et al. 2023).

At width 128, multipliers (1, 4, 8) and T = 8 the three levels are 8 x 128, 4 x 512 and 2 x 1024 (length x
channels). One sequence at a time, `jax.vmap` makes a batch.
"""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from dwm_jax.networks.initialization import Dense
from dwm_jax.networks.row_product import dot_general_of_rows
from dwm_jax.networks.temporal_conv import Downsample, TemporalConv, Upsample
from dwm_jax.types import Array

EMBEDDING_SIZE = 128
NUM_GROUPS = 8


def mish(x: Array) -> Array:
    """x tanh(softplus(x)). Source: Misra 2019."""
    # tanh(log(1 + e^x)) = (e^2x + 2 e^x) / (e^2x + 2 e^x + 2): one exponential instead of three transcendentals.
    # Above 20 the ratio is 1 in float32, and clamping there keeps the exponential finite.
    e = jnp.exp(jnp.minimum(x, 20.0))
    n = e * (e + 2)
    return x * (n / (n + 2))


def sinusoidal(k: Array, size: int) -> Array:
    """Sine and cosine of k at `size` / 2 geometric frequencies from 1 to 1/10000: () -> (size,)."""
    half = size // 2
    frequencies = jnp.exp(-jnp.log(10000.0) * jnp.arange(half) / (half - 1))
    return jnp.concatenate([jnp.sin(k * frequencies), jnp.cos(k * frequencies)])


class GroupNorm(nn.Module):
    """Group normalisation over time and the channels of a group, NUM_GROUPS groups: (L, C) -> (L, C).

    The function of `flax.linen.GroupNorm`; sums run over time first, along whole rows of channels, which is
    three times faster on a CPU than reducing the few channels of a group first.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x_LC: Array) -> Array:
        length, channels = x_LC.shape
        scale_C = self.param("scale", nn.initializers.ones, (channels,))
        bias_C = self.param("bias", nn.initializers.zeros, (channels,))
        per_group = channels // NUM_GROUPS

        def group_mean(x_LC: Array) -> Array:
            sums_G = x_LC.sum(axis=0).reshape(NUM_GROUPS, per_group).sum(axis=1)
            return sums_G / (length * per_group)

        mean_G = group_mean(x_LC)
        variance_G = jnp.maximum(group_mean(x_LC * x_LC) - mean_G**2, 0)
        factor_C = jnp.repeat(1 / jnp.sqrt(variance_G + self.epsilon), per_group) * scale_C
        return x_LC * factor_C + (bias_C - jnp.repeat(mean_G, per_group) * factor_C)


class Embedding(nn.Module):
    """Dense layers with Mish between them, EMBEDDING_SIZE wide at the end."""

    hidden: Sequence[int]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for width in self.hidden:
            x = mish(Dense(width)(x))
        return Dense(EMBEDDING_SIZE)(x)


class ConvBlock(nn.Module):
    """Temporal convolution (kernel 5), group norm, Mish: (L, C_in) -> (L, features)."""

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x_LC: Array) -> Array:
        x_LC = TemporalConv(self.features, dtype=self.dtype)(x_LC)
        return mish(GroupNorm()(x_LC)).astype(self.dtype)


class ResidualBlock(nn.Module):
    """Two convolution blocks with the embedding added between them: (L, C_in), (E,) -> (L, features)."""

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x_LC: Array, embedding_E: Array) -> Array:
        dense = partial(Dense, self.features, dtype=self.dtype)
        h_LC = ConvBlock(self.features, self.dtype)(x_LC)
        h_LC = h_LC + dense()(mish(embedding_E))
        h_LC = ConvBlock(self.features, self.dtype)(h_LC)
        skip_LC = x_LC if x_LC.shape[1] == self.features else dense(dot_general=dot_general_of_rows)(x_LC)
        return h_LC + skip_LC


class TemporalUnet(nn.Module):
    """Noisy rows to what it is trained to predict, noise or velocity: x (T, D), k (), condition (E',) -> (T, D).

    Any T: a level halves an even length and leaves an odd one as it is.

    Attributes:
      width: channels of the first level, a multiple of 8 (the groups of the group norm).
      multipliers: channels of each level in units of `width`.
      dtype: of the activations, and of what the products along the rows multiply. Parameters, norms, embeddings and
        the last layer are float32: at the noisiest step the sampler magnifies errors of predicted noise a hundredfold.
    """

    width: int
    multipliers: Sequence[int]
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.step_embedding = Embedding((4 * EMBEDDING_SIZE,))
        self.return_embedding = Embedding((EMBEDDING_SIZE, 4 * EMBEDDING_SIZE))
        self.action_embedding = Embedding((EMBEDDING_SIZE, 4 * EMBEDDING_SIZE))

    def embed_condition(self, action_A: Array | None, return_to_go: Array | None, keep_return: Array) -> Array:
        """Embeds (a_t, g_t) once per sample; `keep_return` = 0 zeroes the return's half (the null condition).

        A network that is initialised with None for one of them has no parameters for it and goes without.
        """
        embedded = []
        if return_to_go is not None:
            embedded.append(keep_return * self.return_embedding(return_to_go[None]))
        if action_A is not None:
            embedded.append(self.action_embedding(action_A))
        return jnp.concatenate(embedded) if embedded else jnp.zeros(0)

    @nn.compact
    def denoise(self, x_TD: Array, k: Array, condition_E: Array) -> Array:
        step_E = self.step_embedding(sinusoidal(k, EMBEDDING_SIZE))
        embedding_E = jnp.concatenate([step_E, condition_E])
        widths = [self.width * multiplier for multiplier in self.multipliers]

        block = partial(ResidualBlock, dtype=self.dtype)
        x, skips = x_TD.astype(self.dtype), []
        for level, channels in enumerate(widths):
            x = block(channels)(x, embedding_E)
            x = block(channels)(x, embedding_E)
            skips.append(x)
            if level < len(widths) - 1 and x.shape[0] % 2 == 0:
                x = Downsample(self.dtype)(x).astype(self.dtype)

        x = block(widths[-1])(x, embedding_E)
        x = block(widths[-1])(x, embedding_E)

        for level in reversed(range(1, len(widths))):
            x = jnp.concatenate([x, skips[level]], axis=1)
            x = block(widths[level - 1])(x, embedding_E)
            x = block(widths[level - 1])(x, embedding_E)
            if x.shape[0] < skips[level - 1].shape[0]:
                x = Upsample(self.dtype)(x).astype(self.dtype)

        x = ConvBlock(self.width, self.dtype)(x)
        return Dense(x_TD.shape[1], dot_general=dot_general_of_rows)(x.astype(jnp.float32))

    def __call__(self, x_TD: Array, k: Array, action_A: Array | None, return_to_go: Array | None) -> Array:
        """Everything at once; initialises all parameters."""
        return self.denoise(x_TD, k, self.embed_condition(action_A, return_to_go, jnp.ones(())))
