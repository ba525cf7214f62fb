"""A matrix product of the rows of a sequence that stays one two-dimensional product for a whole batch of sequences.

Under `jax.vmap` a product x @ w of one sequence becomes one with two axes of rows, (B, L, C). XLA computes that as
well as any other; but the gradient of w then sums over two axes at once, for which XLA first writes the cotangent
transposed. Joined to one axis of B * L rows nothing is transposed: a denoiser's update takes three quarters to four
fifths of the time on a CPU (PERFORMANCE.md).

It is a primitive of JAX because only a primitive can define how it is batched and still be differentiated in both
modes: a rule of `jax.custom_batching.custom_vmap` has no transpose, and `jax.custom_vjp` would make a gradient of w
per sequence.
"""

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from dwm_jax.types import Array


def row_product(x_LC: Array, w_CD: Array) -> Array:
    """x @ w, in float32 whatever the inputs are: (L, C), (C, D) -> (L, D).

    The numbers of `jnp.matmul`. Where `jax.vmap` gives x a batch axis and w none, the rows of all sequences are joined
    in one product; where it gives w one (seeds side by side), it is a product with a batch axis as usual.
    """
    return row_product_p.bind(x_LC, w_CD)  # type: ignore[no-any-return, no-untyped-call]


def dot_general_of_rows(x_LC: Array, w_CD: Array, dimension_numbers: object, precision: None = None) -> Array:
    """`row_product` as the `dot_general` of a `flax.linen.Dense` over the rows of one sequence: (L, D) of x's type."""
    assert dimension_numbers == (((1,), (0,)), ((), ())), "the rows of one sequence times a kernel"
    return row_product(x_LC, w_CD).astype(x_LC.dtype)


def _multiply(x_RC: Array, w_CD: Array) -> Array:
    return jnp.matmul(x_RC, w_CD, preferred_element_type=jnp.float32)


def _transpose_x(cotangent: Array, x_RC: ad.UndefinedPrimal, w_CD: Array) -> Array:
    return jax.linear_transpose(lambda x_RC: _multiply(x_RC, w_CD), x_RC.aval)(cotangent)[0]  # type: ignore[no-any-return]


def _transpose_w(cotangent: Array, x_RC: Array, w_CD: ad.UndefinedPrimal) -> Array:
    return jax.linear_transpose(lambda w_CD: _multiply(x_RC, w_CD), w_CD.aval)(cotangent)[0]  # type: ignore[no-any-return]


def _batch(arguments: tuple[Array, Array], axes: tuple[int | None, int | None]) -> tuple[Array, int]:
    (x, w), (x_axis, w_axis) = arguments, axes
    if x_axis is None or w_axis is not None:
        return jax.vmap(_multiply, axes)(x, w), 0
    x_BLC = jnp.moveaxis(x, x_axis, 0)
    joined = row_product(x_BLC.reshape(-1, x_BLC.shape[-1]), w)
    return joined.reshape(*x_BLC.shape[:-1], -1), 0


row_product_p = Primitive("row_product")
row_product_p.def_impl(jax.jit(_multiply))  # type: ignore[no-untyped-call]
row_product_p.def_abstract_eval(lambda x, w: jax.core.ShapedArray((x.shape[0], w.shape[1]), jnp.float32))  # type: ignore[no-untyped-call]
ad.defbilinear(row_product_p, _transpose_x, _transpose_w)  # type: ignore[no-untyped-call]
batching.primitive_batchers[row_product_p] = _batch
mlir.register_lowering(row_product_p, mlir.lower_fun(_multiply, multiple_results=False))
