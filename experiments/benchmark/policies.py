"""Updates of the learners: on recorded data, with fresh imagination, with a pool imagined in advance."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dwm_jax.imagination import sources
from dwm_jax.imagination.pool import draw_kept
from dwm_jax.imagination.sources import Data, Pairs, Source
from dwm_jax.learners.base import Learner
from dwm_jax.learners.policies import Policies
from dwm_jax.maths.value_expansion import choose_expansion
from dwm_jax.phases.policy_updates import PolicyUpdates
from dwm_jax.registry import LEARNERS
from dwm_jax.runtime import parallel
from dwm_jax.types import Trajectory

from .denoiser import draw_bulk, make_bench, make_repeated_dispatch, random_pairs
from .figures import Figure, rate
from .parts import compute_alone, find_products
from .settings import SIZES, Plan, imagination_flop, random_dataset, updates_per_dispatch
from .timing import Timed, matrix_product, time_in_turns

SOURCES = ("recorded", "fresh", "pool")
NAMES = {"td3_bc": "TD3+BC", "iql": "IQL"}
DESCRIPTIONS = {"recorded": "model-free", "fresh": "DWM fresh", "pool": "DWM from a pool"}


class Bench(NamedTuple):
    """Where trajectories come from."""

    source: Source
    data: Data
    # Draws for a chunk of pairs more, where that is done before the updates.
    drawing: Timed | None = None


class Learning(NamedTuple):
    """A learner at a size, and where its trajectories come from."""

    learner: Learner
    bench: Bench
    pairs: Pairs
    lambda_: float
    batch_size: int

    def of_seeds(self, number: int) -> tuple[PolicyUpdates, Policies]:
        """The updates of so many seeds side by side, and their policies before the first."""
        keys_S = jax.random.split(jax.random.key(4), number)
        updates = PolicyUpdates(
            self.learner, self.bench.source, choose_expansion(self.lambda_), self.batch_size, keys_S
        )
        return updates, Policies(jax.jit(jax.vmap(self.learner.init))(keys_S), self.pairs.units)


def make_learning(size_name: str, learner_name: str, source_name: str, plan: Plan) -> Learning:
    """By the config of a size, on random data.

    Args:
      size_name, learner_name, source_name: of SIZES, LEARNERS and SOURCES.
    """
    size = SIZES[size_name]
    config = size.make_config()
    learner = LEARNERS[learner_name](
        observation_size=size.observation_size,
        action_size=size.action_size,
        num_updates=config.policy.num_updates,
        **config.learners[learner_name].to_dict(),
    )
    pairs = random_pairs(random_dataset(size, plan.num_steps, config.gamma))
    lambda_ = config.policy.lambda_[learner_name]
    bench = make_source(size_name, source_name, pairs, config, lambda_, plan)
    return Learning(learner, bench, pairs, lambda_, config.policy.batch_size)


def measure_policy_updates(size_name: str, learner_name: str, source_name: str, plan: Plan) -> list[Figure]:
    """Updates per second of one learner with one source, for one seed and for the config's number of seeds.

    Model-free, also those of an update that had only its matrix products (of a branch not taken, too).

    Args:
      size_name, learner_name, source_name: of SIZES, NAMES and SOURCES.
    """
    size, effort = SIZES[size_name], plan.effort()
    config = size.make_config()
    learning = make_learning(size_name, learner_name, source_name, plan)
    bench, batch_size = learning.bench, learning.batch_size
    count, seeds = updates_per_dispatch(source_name), (1, config.num_seeds)
    of_seeds = {number: learning.of_seeds(number) for number in seeds}
    runs = {str(number): make_repeated_dispatch(*of_seeds[number], bench.data, count) for number in seeds}
    product = matrix_product(effort.matrix_size)
    beside = {"product": product.run}
    if bench.drawing is not None:
        beside["drawing"] = bench.drawing
    if source_name == "recorded":
        updates, policies = of_seeds[1]
        products = find_products(parallel.on_one_device(updates), policies, bench.data, jnp.arange(1))
        beside["products"] = compute_alone(list(products))
    timings = time_in_turns(runs | beside, effort)

    name = f"{NAMES[learner_name]} {DESCRIPTIONS[source_name]}"
    learner_settings = config.learners[learner_name].to_dict()
    settings = {**config.policy.to_dict(), **learner_settings, "updates_per_dispatch": count}
    per_trajectory = imagination_flop(size, config.world_models.dwm.to_dict())
    figures = []
    for num_seeds in seeds:
        figure = rate(
            "policies",
            size_name,
            f"{name}, {num_seeds} seed{'s' if num_seeds > 1 else ''}",
            "updates/s",
            count,
            timings[str(num_seeds)],
            # The learner's own arithmetic is not counted: beside imagination it is little.
            flop_per_unit=num_seeds * batch_size * per_trajectory if source_name == "fresh" else None,
            peaks=product.flops(timings["product"]),
            settings=settings | {"num_seeds": num_seeds},
        )
        figures.append(figure)
        if bench.drawing is not None:
            pairs_per_second = [plan.chunk * parallel.num_devices() / s for s in timings["drawing"].seconds]
            figures.append(drawing_included(figure, pairs_per_second, config.data.num_steps, config.policy.num_updates))
    if "products" in timings:
        title = f"{name}, 1 seed, the products of an update alone"
        figures.insert(1, rate("policies", size_name, title, "updates/s", 1, timings["products"], settings=settings))
    return [*figures, ratio_of_times(figures[0], figures[-1 if bench.drawing is None else -2], name, seeds[1])]


def make_source(
    size_name: str, source_name: str, pairs: Pairs, config: ConfigDict, lambda_: float, plan: Plan
) -> Bench:
    """Recorded steps, fresh imagination, or a pool."""
    if source_name == "recorded":
        return Bench(sources.make_recorded_source(lambda: pairs, 1, config.gamma), Data(pairs, ()))
    bench = make_bench(size_name, plan)
    rollout = bench.model.rollout(config.policy.horizon, config.gamma)
    ask = sources.make_ask("constant", config.policy.return_to_go, bench.model)
    fresh, data = sources.make_fresh_source(lambda: pairs, rollout, bench.inference, ask), Data(pairs, bench.inference)
    if source_name == "fresh":
        return Bench(fresh, data)
    chunks = draw_bulk(fresh, data, config.policy.imagined_per_pair, lambda_, plan.chunk)
    kept = fresh._replace(draw=draw_kept)
    return Bench(kept, Data(pairs, pool_for(len(pairs.rows), next(chunks))), lambda: next(chunks))


def pool_for(num_pairs: int, chunk: Trajectory) -> Trajectory:
    """A chunk of drawn trajectories, repeated until there is one for every pair: only shapes matter."""
    return jax.tree.map(lambda leaf: np.take(leaf, np.arange(num_pairs) % len(leaf), axis=0), chunk)


def drawing_included(figure: Figure, pairs_per_second: Sequence[float], num_pairs: int, num_updates: int) -> Figure:
    """Updates per second of a whole run that first draws its pool: U / (U / updates per second + P / pairs per second).

    Args:
      figure: updates per second from a pool.
      pairs_per_second: drawn in bulk, one entry per repetition.
      num_pairs, num_updates: P and U.
    """
    values = tuple(
        num_updates / (num_updates / updates + num_pairs / drawn)
        for updates, drawn in zip(figure.values, pairs_per_second, strict=True)
    )
    settings = figure.settings | {"num_pairs": num_pairs, "num_updates": num_updates}
    return figure._replace(
        name=f"{figure.name}, drawing included", values=values, settings=settings, first_call_seconds=None, peaks=()
    )


def ratio_of_times(one: Figure, several: Figure, name: str, num_seeds: int) -> Figure:
    """How much longer an update takes for several seeds side by side than for one."""
    return several._replace(
        name=f"{name}, time of {num_seeds} seeds / time of 1",
        unit="ratio",
        values=tuple(a / b for a, b in zip(one.values, several.values, strict=True)),
        first_call_seconds=None,
        flop_per_unit=None,
        peaks=(),
    )
