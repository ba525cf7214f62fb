"""Initial parameters, without waiting for the compiler."""

import math
import os
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr
from jax.typing import DTypeLike

from dwm_jax.types import Array, Key, PyTree

LEVEL = "xla_backend_optimization_level"
# Of a standard normal that is cut off at -2 and 2.
STANDARD_DEVIATION = 0.87962566103423978


def lecun_normal(key: Key, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32, *, num_summed: int = 1) -> Array:
    """Normal draws, cut off at two standard deviations, of variance 1 / (num_summed * fan_in).

    fan_in is the product of all axes but the last. Where num_summed is 1, these are the very numbers of
    `flax.linen.initializers.lecun_normal()`. Entry i of a draw depends on the key and on i alone, so that a longer draw
    begins with a shorter one: what is drawn are powers of four, each of which XLA compiles once (0.3 s), not once a
    shape.
    """
    power = 4 ** math.ceil(max(math.prod(shape) - 1, 1).bit_length() / 2)
    draw = jax.random.truncated_normal(key, -2, 2, (power,), dtype)
    # Not inside `_shaped`, where XLA would multiply by the reciprocal.
    variance = jnp.array(1 / num_summed / math.prod(shape[:-1]), dtype)
    return _shaped(draw, jnp.sqrt(variance) / jnp.array(STANDARD_DEVIATION, dtype), shape)


@partial(jax.jit, static_argnums=2)
def _shaped(draw: Array, scale: Array, shape: tuple[int, ...]) -> Array:
    return draw[: math.prod(shape)].reshape(shape) * scale


# flax's layer, with its own first values drawn as above.
Dense = partial(nn.Dense, kernel_init=lecun_normal)


def initial_parameters(network: nn.Module, key: Key, *inputs: Array | None) -> PyTree:
    """The values of `network.init(key, *inputs)`, computed operation by operation, the network itself left out.

    Compiled as one program, every parameter's draw is compiled anew: 141 of them take longer than the training
    update. One by one, a draw is compiled once per size.

    Args:
      network: a flax module; a transformed `init` (jit, vmap) is not needed around this.
      key: of all draws.
      inputs: as for `network.init`; what they hold does not matter, only shapes.
    """
    traced, shapes = jax.make_jaxpr(network.init, return_shape=True)(key, *inputs)
    draws, _ = dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars), instantiate=True)
    leaves = jaxpr_as_fun(ClosedJaxpr(draws, traced.consts))(*jax.tree.leaves((key, inputs)))
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def compute_once(function: Callable[..., PyTree], *inputs: PyTree) -> PyTree:
    """`jax.jit(function)(*inputs)` for what is called a single time, as initial states are: the same values, sooner.

    On a CPU it is compiled at LLVM's first level, which makes the first states of three seeds' policies in a third of
    the processor time (10 seconds otherwise) with the same bits: products and sums are fused as by any level above
    zero. A level that XLA_FLAGS give holds for these programs too. Inside a trace, as when a resumed run asks for the
    shapes of a first state, nothing is computed and no level can be set.
    """
    is_given = LEVEL in os.environ.get("XLA_FLAGS", "")
    is_traced = isinstance(jnp.zeros(()), jax.core.Tracer)
    options = {LEVEL: 1} if jax.default_backend() == "cpu" and not is_given and not is_traced else None
    return jax.jit(function, compiler_options=options)(*inputs)
