"""What an update is made of at the paper's size: operations, kernels, parameters. Nothing is timed."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.data import dataset as data
from dwm_jax.imagination import sources
from dwm_jax.imagination.pool import CHUNK
from dwm_jax.imagination.sources import Data, nobody
from dwm_jax.learners.policies import Policies
from dwm_jax.maths.value_expansion import expansion
from dwm_jax.phases.policy_updates import PolicyUpdates
from dwm_jax.phases.pretraining import update_from_segments
from dwm_jax.registry import LEARNERS
from dwm_jax.runtime import parallel

from ..benchmark.denoiser import make_bench, random_pairs
from ..benchmark.parts import products_of
from ..benchmark.policies import make_source
from ..benchmark.processes import in_fresh_process
from ..benchmark.settings import FULL, SIZES, random_dataset
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


def denoiser() -> list[Point]:
    """An update of the denoiser, and a draw of `CHUNK` trajectories."""
    bench, config = make_bench(SIZE, PLAN), SIZES[SIZE].make_config()
    starts = data.segment_rows(bench.dataset, bench.model.sequence_length, "absorb")
    one = update_from_segments(bench.model, bench.settings["batch_size"], jax.random.key(1))
    updates = parallel.on_one_device(parallel.one_after_another(one))
    pairs = random_pairs(bench.dataset)
    ask = sources.make_ask("constant", config.policy.return_to_go, bench.model)
    rollout = bench.model.rollout(config.policy.horizon, config.gamma)
    source = sources.fresh(lambda: pairs, rollout, bench.inference, ask)

    def draw(data: Data, keys: jax.Array) -> Any:
        return jax.vmap(lambda pair, key: source.draw((), data, pair, nobody, key))(jnp.arange(CHUNK), keys)

    keys = jax.random.split(jax.random.key(0), CHUNK)
    counted = {
        "kernels, update of the denoiser": kernels_of(updates, bench.state, (bench.dataset, starts), STEPS),
        f"kernels, {CHUNK} trajectories": kernels_of(draw, Data(pairs, bench.inference), keys),
        "parameters, denoiser": sum(leaf.size for leaf in jax.tree.leaves(bench.state.params)),
    }
    return [Point(name, SIZE, 1, count, name.split(",")[0]) for name, count in counted.items()]


def policy(name: str) -> list[Point]:
    """An update of one seed on recorded data."""
    size, config = SIZES[SIZE], SIZES[SIZE].make_config()
    learner = LEARNERS[name](
        observation_size=size.observation_size,
        action_size=size.action_size,
        num_updates=1_000,
        **config.learners[name].to_dict(),
    )
    pairs = random_pairs(random_dataset(size, PLAN.num_steps, config.gamma))
    lambda_ = config.policy.lambda_[name]
    bench = make_source(SIZE, "recorded", pairs, config, lambda_, PLAN)
    keys_S = jax.random.split(jax.random.key(4), 1)
    updates = PolicyUpdates(learner, bench.source, expansion(lambda_), config.policy.batch_size, keys_S)
    policies = Policies(jax.jit(jax.vmap(learner.init))(keys_S), pairs.units)
    on_device = parallel.on_one_device(updates)
    # The loop of a program holds one period of the learner.
    flop = sum(product.flop for product in products_of(on_device, policies, bench.data, STEPS)) / learner.period
    kernels = kernels_of(on_device, policies, bench.data, STEPS) / learner.period
    return [
        Point(f"operations, update of {name}", SIZE, 1, flop, "operations"),
        Point(f"kernels, update of {name}", SIZE, 1, kernels, "kernels"),
    ]


def parts_of_programs() -> Iterator[Point]:
    """All of them."""
    for name in COUNTED:
        yield from in_fresh_process(policy, name)
    yield from in_fresh_process(denoiser)
