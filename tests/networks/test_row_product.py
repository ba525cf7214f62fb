"""The product of a sequence's rows is `jnp.matmul` under every transformation, and two-dimensional for a batch."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.networks.row_product import dot_general_of_rows, row_product
from dwm_jax.types import Array, PyTree
from experiments.benchmark.parts import find_products

BATCH, LENGTH, C_IN, C_OUT = 6, 4, 3, 5
Multiply = Callable[[Array, Array], Array]


def normal(seed: int, *shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


X_BLC, W_CD = normal(0, BATCH, LENGTH, C_IN), normal(1, C_IN, C_OUT)


def batch_loss(multiply: Multiply) -> Multiply:
    return lambda x_BLC, w_CD: jax.vmap(lambda x_LC: jnp.sin(multiply(x_LC, w_CD)).sum())(x_BLC).mean()


def sequence_loss(multiply: Multiply) -> Multiply:
    return lambda x_LC, w_CD: jnp.sin(multiply(x_LC, w_CD)).sum()


TRANSFORMED: dict[str, Callable[[Multiply], PyTree]] = {
    "of one sequence": lambda multiply: jax.grad(sequence_loss(multiply), (0, 1))(X_BLC[0], W_CD),
    "of a batch": lambda multiply: jax.grad(batch_loss(multiply), (0, 1))(X_BLC, W_CD),
    "sequence by sequence": lambda multiply: jax.vmap(jax.grad(sequence_loss(multiply), (0, 1)), (0, None))(
        X_BLC, W_CD
    ),
    "of a batch in seeds": lambda multiply: jax.vmap(jax.grad(batch_loss(multiply), (0, 1)), (None, 0))(
        X_BLC, jnp.stack([W_CD, 2 * W_CD])
    ),
    "forward, of a batch": lambda multiply: jax.jvp(batch_loss(multiply), (X_BLC, W_CD), (X_BLC + 1, W_CD + 1)),
    "of the gradient": lambda multiply: jax.hessian(sequence_loss(multiply))(X_BLC[0], W_CD),
    "batch axis last": lambda multiply: jax.vmap(lambda x_LC: multiply(x_LC, W_CD), -1)(jnp.moveaxis(X_BLC, 0, -1)),
    "batches of batches": lambda multiply: jax.grad(
        lambda w_CD: jax.vmap(lambda x_BLC: batch_loss(multiply)(x_BLC, w_CD))(jnp.stack([X_BLC, -X_BLC])).sum()
    )(W_CD),
}


@pytest.mark.parametrize("what", TRANSFORMED)
def test_values_and_derivatives_are_those_of_matmul(what: str) -> None:
    actual, expected = (jax.jit(lambda m=m: TRANSFORMED[what](m))() for m in (row_product, jnp.matmul))
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5), actual, expected)


def test_by_hand() -> None:
    product = row_product(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[10.0], [100.0]]))
    np.testing.assert_array_equal(product, [[210], [430]])


def test_sums_and_result_are_float32_where_the_inputs_are_bfloat16() -> None:
    # 256 + 1 is no bfloat16.
    out = row_product(jnp.array([[256.0, 1.0]], jnp.bfloat16), jnp.ones((2, 1), jnp.bfloat16))
    assert (out.dtype, out[0, 0]) == (jnp.float32, 257)
    ones = jnp.ones((1, 1), jnp.bfloat16)
    gradients = jax.grad(lambda x, w: row_product(x, w).sum(), (0, 1))(ones, ones)
    assert [gradient.dtype for gradient in gradients] == [jnp.bfloat16, jnp.bfloat16]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_dense_layer_multiplies_by_it_as_by_its_own(dtype: jnp.dtype) -> None:
    own, ours = nn.Dense(C_OUT, dtype=dtype), nn.Dense(C_OUT, dtype=dtype, dot_general=dot_general_of_rows)
    params = own.init(jax.random.key(0), X_BLC[0])
    out = ours.apply(params, X_BLC[0])
    assert out.dtype == dtype
    tolerance = 1e-6 if dtype == jnp.float32 else 2e-2  # of bfloat16's 8 bits
    np.testing.assert_allclose(out, own.apply(params, X_BLC[0]), rtol=tolerance, atol=tolerance)


def test_products_of_a_batch_and_of_its_gradient_join_the_rows() -> None:
    gradient = jax.grad(batch_loss(row_product), (0, 1))
    shapes = [(product.left.shape, product.right.shape) for product in find_products(gradient, X_BLC, W_CD)]
    rows = BATCH * LENGTH
    # The product, w's gradient and x's.
    assert len(shapes) == 3
    assert all(len(left) == len(right) == 2 and rows in (*left, *right) for left, right in shapes)
