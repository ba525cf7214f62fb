"""What an update is made of at the paper's size: operations, kernels, parameters. Nothing is timed."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.data import dataset as data
from dwm_jax.imagination.pool import CHUNK
from dwm_jax.imagination.sources import Data, refuse_to_act
from dwm_jax.phases.pretraining import update_from_segments
from dwm_jax.runtime import parallel

from ..benchmark.denoiser import make_bench, random_pairs
from ..benchmark.parts import find_products
from ..benchmark.policies import make_learning, make_source
from ..benchmark.processes import call_in_fresh_process
from ..benchmark.settings import FULL, SIZES
from .points import Point

SIZE = "paper-hopper"
PLAN = FULL._replace(num_steps=5_000)
COUNTED = ("td3_bc", "iql", "pql")
STEPS = np.arange(10)  # a program of several updates holds each kernel once, in its loop
# What a compiled program starts by itself. Inside a fusion these stand for no kernel of their own, but for products.
KERNEL = re.compile(r"^\s+(?:ROOT )?\S+ = \S+(?:, \S+)* (?:fusion|dot|copy|custom-call|convolution)\(", re.MULTILINE)


def kernels_of(function: Any, *arguments: Any) -> int:
    """Kernels that XLA leaves of a function here."""
    text = jax.jit(function).lower(*arguments).compile().as_text() or ""
    # Computations are paragraphs; those that are called by a fusion are named after it.
    parts = re.split(r"\n\n", text)
    return sum(len(KERNEL.findall(part)) for part in parts if not part.lstrip().startswith("%fused_computation"))


def count_denoiser() -> list[Point]:
    """An update of the denoiser, and a draw of `CHUNK` trajectories."""
    bench, config = make_bench(SIZE, PLAN), SIZES[SIZE].make_config()
    starts = data.segment_rows(bench.dataset, bench.model.sequence_length, "absorb")
    one = update_from_segments(bench.model, bench.settings["batch_size"], jax.random.key(1))
    updates = parallel.on_one_device(parallel.repeat_update(one))
    lambda_ = config.policy.lambda_.td3_bc
    imagined = make_source(SIZE, "fresh", random_pairs(bench.dataset), config, lambda_, PLAN)

    def draw(data: Data, keys: jax.Array) -> Any:
        return jax.vmap(lambda pair, key: imagined.source.draw((), data, pair, refuse_to_act, key))(
            jnp.arange(CHUNK), keys
        )

    keys = jax.random.split(jax.random.key(0), CHUNK)
    counted = {
        "kernels, update of the denoiser": kernels_of(updates, bench.state, (bench.dataset, starts), STEPS),
        f"kernels, {CHUNK} trajectories": kernels_of(draw, imagined.data, keys),
        "parameters, denoiser": sum(leaf.size for leaf in jax.tree.leaves(bench.state.params)),
    }
    return [Point(name, SIZE, 1, count, name.split(",")[0]) for name, count in counted.items()]


def count_policy(name: str) -> list[Point]:
    """An update of one seed on recorded data."""
    learning = make_learning(SIZE, name, "recorded", PLAN)
    updates, policies = learning.of_seeds(1)
    on_device, period = parallel.on_one_device(updates), learning.learner.period
    arguments = policies, learning.bench.data, STEPS
    # The loop of a program holds one period of the learner.
    flop = sum(product.flop for product in find_products(on_device, *arguments)) / period
    kernels = kernels_of(on_device, *arguments) / period
    return [
        Point(f"operations, update of {name}", SIZE, 1, flop, "operations"),
        Point(f"kernels, update of {name}", SIZE, 1, kernels, "kernels"),
    ]


def parts_of_programs() -> Iterator[Point]:
    """All of them."""
    for name in COUNTED:
        yield from call_in_fresh_process(count_policy, name)
    yield from call_in_fresh_process(count_denoiser)
