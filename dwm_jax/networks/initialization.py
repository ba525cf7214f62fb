"""Initial parameters, without waiting for the compiler."""

import os
from collections.abc import Callable

import flax.linen as nn
import jax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

from dwm_jax.types import Array, Key, PyTree

LEVEL = "xla_backend_optimization_level"


def initial_parameters(network: nn.Module, key: Key, *inputs: Array | None) -> PyTree:
    """The values of `network.init(key, *inputs)`, computed operation by operation, the network itself left out.

    Compiled as one program, every parameter's draw is compiled anew: 141 of them take longer than the training
    update. One by one, a draw is compiled once per shape.

    Args:
      network: a flax module; a transformed `init` (jit, vmap) is not needed around this.
      key: of all draws.
      inputs: as for `network.init`; what they hold does not matter, only shapes.
    """
    traced, shapes = jax.make_jaxpr(network.init, return_shape=True)(key, *inputs)
    draws, _ = dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars), instantiate=True)
    leaves = jaxpr_as_fun(ClosedJaxpr(draws, traced.consts))(*jax.tree.leaves((key, inputs)))
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def computed_once(function: Callable[..., PyTree], *inputs: PyTree) -> PyTree:
    """`jax.jit(function)(*inputs)` for what is called a single time, as initial states are: the same values, sooner.

    On a CPU compiled at LLVM's first level, which spares the first states of three seeds' policies two thirds of their
    ten processor seconds. Their bits stay: products and sums are fused as by any level above zero. A level that
    XLA_FLAGS give holds for these programs too.
    """
    is_given = LEVEL in os.environ.get("XLA_FLAGS", "")
    options = {LEVEL: 1} if jax.default_backend() == "cpu" and not is_given else None
    return jax.jit(function, compiler_options=options)(*inputs)
