"""The optimiser step and the moving average of parameters, written once for world models and learners."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dwm_jax.types import Array, Average, Metrics, PyTree


def apply_gradients(
    loss: Callable[..., tuple[Array, Metrics]],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    optimizer_state: PyTree,
    average: Average,
) -> tuple[PyTree, Any, Metrics]:
    """One optimiser step down the gradient of `loss`, averaged over the devices that share the batch.

    Args:
      loss: params -> (loss, metrics), a mean over this device's equal part of the batch.
      optimizer, params, optimizer_state: as in optax.
      average: averages gradients and metrics over devices.

    Returns:
      (params, optimizer_state, metrics), the metrics averaged too.
    """
    gradients, metrics = jax.grad(loss, has_aux=True)(params)
    gradients, metrics = average((gradients, metrics))
    updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
    return optax.apply_updates(params, updates), optimizer_state, metrics


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
