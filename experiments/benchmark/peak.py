"""The matrix-product peak by itself."""

import jax

from .figures import Figure, rate
from .settings import Plan
from .timing import matrix_product, time_in_turns


def measure_peak(plan: Plan) -> list[Figure]:
    """FLOP/s of large square products: float32, and bfloat16 where an accelerator has hardware for it."""
    effort = plan.effort()
    dtypes = ("float32",) if jax.default_backend() == "cpu" else ("float32", "bfloat16")
    products = {dtype: matrix_product(effort.matrix_size, dtype) for dtype in dtypes}
    timings = time_in_turns({dtype: product.run for dtype, product in products.items()}, effort)
    return [
        rate(
            "peak",
            "-",
            f"matrix product {effort.matrix_size} x {effort.matrix_size}, {dtype}",
            "GFLOP/s",
            products[dtype].flop / 1e9,
            timings[dtype],
            settings={"matrix_size": effort.matrix_size, "dtype": dtype},
        )
        for dtype in dtypes
    ]
