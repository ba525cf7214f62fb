"""Gradient and optimiser step, written once for world models and learners."""

from collections.abc import Callable
from typing import Any

import jax
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
