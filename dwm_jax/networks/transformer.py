"""A causal Transformer over the rows of a trajectory: predicts each next row from those before it."""

import flax.linen as nn
import jax.numpy as jnp

from dwm_jax.networks.initialization import Dense
from dwm_jax.types import Array


class Block(nn.Module):
    """Pre-layer-norm self-attention and a GELU layer four times as wide: (L, C) -> (L, C).

    Source: GPT-2 (Radford et al. 2019).
    """

    num_heads: int
    decode: bool

    @nn.compact
    def __call__(self, x_LC: Array) -> Array:
        # Decoding, flax's attention remembers the earlier rows and masks the later ones by itself.
        mask = None if self.decode else nn.make_causal_mask(x_LC[:, 0])
        attention = nn.MultiHeadDotProductAttention(self.num_heads, decode=self.decode)
        x_LC = x_LC + attention(nn.LayerNorm()(x_LC), mask=mask)
        h_LC = nn.gelu(Dense(4 * x_LC.shape[1])(nn.LayerNorm()(x_LC)))
        return x_LC + Dense(x_LC.shape[1])(h_LC)


class CausalTransformer(nn.Module):
    """Rows (L, O), the first action and the return-to-go -> after every row a prediction of the next, (L, target_size).

    One token per row: the sum of dense embeddings of the row, of the return-to-go and, in the first, of the action,
    plus a learned position. The output at a row depends on it and the rows before.

    Attributes:
      num_layers, num_heads, width: of the blocks; the width is a multiple of the heads.
      max_length: the largest L.
      target_size: entries of a prediction.
      decode: takes one row per call instead, shape (1, O), and keeps what it must remember of it in the mutable
        collection "cache", initialised (empty) by `init` on `max_length` rows.
    """

    num_layers: int
    num_heads: int
    width: int
    max_length: int
    target_size: int
    decode: bool = False

    @nn.compact
    def __call__(self, rows_LO: Array, action_A: Array, return_to_go: Array, first: Array | int = 0) -> Array:
        """`first` is the position of the first row given."""
        positions_L = first + jnp.arange(rows_LO.shape[0])
        position_table = self.param("position", nn.initializers.normal(0.02), (self.max_length, self.width))
        action_C = Dense(self.width, use_bias=False, name="action")(action_A)
        x_LC = Dense(self.width, name="row")(rows_LO) + position_table[positions_L]
        x_LC += Dense(self.width, use_bias=False, name="return")(return_to_go[None])
        x_LC += jnp.where(positions_L[:, None] == 0, action_C, 0)
        for _ in range(self.num_layers):
            x_LC = Block(self.num_heads, self.decode)(x_LC)
        return Dense(self.target_size)(nn.LayerNorm()(x_LC))
