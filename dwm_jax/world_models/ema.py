"""The exponential moving average of parameters: what is used of a model, beside what is trained."""

import jax
import jax.numpy as jnp
import optax

from dwm_jax.types import Array, PyTree


@jax.jit
def start_ema(params: PyTree) -> PyTree:
    """The average before the first update. A copy: both are donated together and must not share buffers."""
    return jax.tree.map(jnp.copy, params)


def move_ema(ema: PyTree, params: PyTree, step: Array, rate: float, every: int) -> PyTree:
    """ema <- rate * ema + (1 - rate) * params, once every `every` updates. Source: DWM appendix (0.995, 10).

    Args:
      ema, params: trees of one structure, params after the update.
      step: number of the update, from 0.
    """
    # A branch, not a product with 1: between two moves the EMA costs nothing.
    return jax.lax.cond(
        (step + 1) % every == 0,
        lambda: optax.incremental_update(params, ema, 1 - rate),
        lambda: ema,
    )
