"""Where the time of a training update goes: its matrix products alone, its optimiser alone, the whole.

What is left of the whole are norms, activations, concatenations and the batch. The products alone are started in a
program of their own and write every result to fresh memory: where they are small, that costs more than they do.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import optax

from dwm_jax.data import dataset as data
from dwm_jax.networks.optimization import move_ema
from dwm_jax.networks.row_product import row_product_p
from dwm_jax.phases.pretraining import update_from_segments
from dwm_jax.runtime import parallel
from dwm_jax.types import Array, Metrics, PyTree

from .denoiser import make_bench, make_repeated_dispatch
from .figures import Figure, rate
from .settings import SIZES, Plan, sample_flop, updates_per_dispatch
from .timing import Timed, matrix_product, time_in_turns


class Product(NamedTuple):
    """One matrix product of a program."""

    left: Array  # shapes and types alone
    right: Array
    parameters: dict[str, Any]  # of the operation: which axes meet, and the type of the sums
    flop: int  # a multiplication and an addition per pair of entries that meet

    def compute(self, left: Array, right: Array) -> Array:
        """The product of two arrays of these shapes."""
        return jax.lax.dot_general_p.bind(left, right, **self.parameters)  # type: ignore[no-any-return]


def find_products(function: Callable[..., Any], *arguments: Any) -> Iterator[Product]:
    """Every matrix product that a function computes, one entry per use; in a loop once.

    Args:
      arguments: of the function; shapes are enough.
    """

    def typed(variable: Any) -> Array:
        return variable.aval  # type: ignore[no-any-return]

    def products_in(jaxpr: jex.Jaxpr) -> Iterator[Product]:
        for equation in jaxpr.eqns:
            if equation.primitive is jax.lax.dot_general_p:
                (left, right), (out,) = ([typed(v) for v in side] for side in (equation.invars, equation.outvars))
                (contracted, _), _ = equation.params["dimension_numbers"]
                meet = math.prod(left.shape[axis] for axis in contracted)
                yield Product(left, right, equation.params, 2 * meet * out.size)
            if equation.primitive is row_product_p:
                yield from products_in(jax.make_jaxpr(row_product_p.impl)(*map(typed, equation.invars)).jaxpr)
            for inner in jex.jaxprs_in_params(equation.params):
                yield from products_in(inner)

    yield from products_in(jax.make_jaxpr(function)(*arguments).jaxpr)


def compute_alone(products: list[Product]) -> Timed:
    """Computes all of them, each from operands of its own, in one program with nothing else in it."""
    operands = [
        tuple(jnp.ones(operand.shape, operand.dtype) for operand in (product.left, product.right))
        for product in products
    ]

    @jax.jit
    def program(operands: list[tuple[Array, Array]]) -> list[Array]:
        return [product.compute(*pair) for product, pair in zip(products, operands, strict=True)]

    return lambda: jax.block_until_ready(program(operands))  # type: ignore[no-untyped-call]


def make_optimize(settings: Mapping[str, Any]) -> Callable[[PyTree, PyTree, Array], tuple[PyTree, Metrics]]:
    """Adam and the moving average of an update of the denoiser, whose gradients are given."""
    optimizer = optax.adam(settings["learning_rate"])

    def optimize(state: PyTree, gradients: PyTree, step: Array) -> tuple[PyTree, Metrics]:
        params, optimizer_state, ema = state
        changes, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        params = optax.apply_updates(params, changes)
        ema = move_ema(ema, params, step, settings["ema_rate"], settings["ema_every"])
        return (params, optimizer_state, ema), {}

    return optimize


def measure_training_parts(size_name: str, plan: Plan) -> list[Figure]:
    """Updates per second of the pretraining: matrix products alone, optimiser alone, and whole updates."""
    bench, effort, count = make_bench(size_name, plan), plan.effort(), updates_per_dispatch("denoiser")
    settings = bench.settings
    starts = data.segment_rows(bench.dataset, bench.model.sequence_length, "absorb")
    updates = parallel.repeat_update(update_from_segments(bench.model, settings["batch_size"], jax.random.key(1)))
    products = list(find_products(parallel.on_one_device(updates), bench.state, (bench.dataset, starts), jnp.arange(1)))
    state, gradients = bench.state, jax.tree.map(jnp.ones_like, bench.state.params)
    product = matrix_product(effort.matrix_size)
    runs = {
        "products": compute_alone(products),
        "optimiser": make_repeated_dispatch(
            parallel.repeat_update(make_optimize(settings)),
            (state.params, state.optimizer_state, state.ema.params),
            gradients,
            count,
        ),
        "update": make_repeated_dispatch(updates, state, (bench.dataset, starts), count),
        "product": product.run,
    }
    timings = time_in_turns(runs, effort)
    peaks = product.flops(timings["product"])
    useful = settings["batch_size"] * sample_flop(SIZES[size_name], settings)
    return [
        rate(
            "parts",
            size_name,
            name,
            "updates/s",
            per_call,
            timings[run],
            flop_per_unit=flop,
            peaks=peaks,
            settings=settings | {"products": len(products)},
        )
        for run, name, per_call, flop in [
            ("products", "the products of a denoiser update, alone", 1, sum(one.flop for one in products)),
            ("optimiser", "Adam and EMA of a denoiser update, alone", count, None),
            ("update", "denoiser updates, whole", count, useful),
        ]
    ]
