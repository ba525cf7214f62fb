"""Initial parameters of large networks, without waiting for the compiler."""

import flax.linen as nn
import jax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

from dwm_jax.types import Array, Key, PyTree


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
