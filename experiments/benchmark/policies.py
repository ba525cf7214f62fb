"""Updates of the learners: on recorded data, with fresh imagination, with a pool imagined in advance."""

from functools import partial
from typing import Any

import jax
import numpy as np

from dwm_jax import imagination, parallel
from dwm_jax.imagination import Pairs
from dwm_jax.policy_learning import update_policy
from dwm_jax.registry import LEARNERS
from dwm_jax.types import Array, Metrics, PyTree, Trajectory
from dwm_jax.value_expansion import expansion
from experiments.benchmark.denoiser import bulk, make_bench, updates
from experiments.benchmark.figures import Figure, rate
from experiments.benchmark.settings import SIZES, Plan, imagination_flop, updates_per_dispatch
from experiments.benchmark.timing import Run, Timing, in_turns, matrix_product

SOURCES = ("recorded", "fresh", "pool")
NAMES = {"td3_bc": "TD3+BC", "iql": "IQL"}
DESCRIPTIONS = {"recorded": "model-free", "fresh": "DWM fresh", "pool": "DWM from a pool"}


def policy_updates(size_name: str, learner_name: str, source_name: str, plan: Plan) -> list[Figure]:
    """Updates per second of one learner with one source, for one seed and for the config's number of seeds."""
    bench, effort, config = make_bench(size_name, plan), plan.effort(), SIZES[size_name].make_config()
    learner = LEARNERS[learner_name](
        observation_size=SIZES[size_name].observation_size,
        action_size=SIZES[size_name].action_size,
        **config.learners[learner_name].to_dict(),
    )
    lambda_, pairs = config.policy.lambda_[learner_name], bench.pairs()
    runs: dict[str, Run] = {}
    if source_name == "recorded":
        source = imagination.recorded(config.gamma)
        draw, source_data = source.draw, source.data
    else:
        rollout = bench.model.rollout(config.policy.horizon, config.gamma)
        source = imagination.fresh(rollout, bench.inference, config.policy.return_to_go)
        draw, source_data = source.draw, source.data
    if source_name == "pool":
        chunks = bulk(source, pairs, config.policy.imagined_per_pair, lambda_, plan.chunk)
        draw, source_data = imagination.draw_kept, pool_for(len(pairs.rows), next(chunks))
        runs["drawing"] = lambda: next(chunks)

    update_one = partial(update_policy, draw, expansion(lambda_), config.policy.batch_size)
    count = updates_per_dispatch(source_name)
    seeds = (1, config.num_seeds)
    for num_seeds in seeds:
        keys_S = jax.random.split(jax.random.key(4), num_seeds)

        def update(
            states_S: PyTree, on_device: tuple[Pairs, PyTree], step: Array, keys_S: Array = keys_S
        ) -> tuple[PyTree, Metrics]:
            one_seed = jax.vmap(partial(update_one, learner), in_axes=(0, 0, None, None, None))
            return one_seed(states_S, keys_S, *on_device, step)

        runs[str(num_seeds)] = updates(update, jax.vmap(learner.init)(keys_S), (pairs, source_data), count)
    product = matrix_product(effort.matrix_size)
    timings = in_turns(runs | {"product": product.run}, effort)

    name = f"{NAMES[learner_name]} {DESCRIPTIONS[source_name]}"
    settings = {**config.policy.to_dict(), **config.learners[learner_name].to_dict(), "updates_per_dispatch": count}
    figures = []
    for num_seeds in seeds:
        timing = timings[str(num_seeds)]
        here = settings | {"num_seeds": num_seeds}
        title = f"{name}, {num_seeds} seed{'s' if num_seeds > 1 else ''}"
        useful: dict[str, Any] = {}
        if source_name == "fresh":
            per_trajectory = imagination_flop(SIZES[size_name], bench.settings)
            useful["flop_per_unit"] = num_seeds * config.policy.batch_size * per_trajectory
            useful["peaks"] = product.flops(timings["product"])
        figures.append(rate("policies", size_name, title, "updates/s", count, timing, settings=here, **useful))
        if source_name == "pool":
            drawing = Timing(0.0, tuple(s / (plan.chunk * parallel.num_devices()) for s in timings["drawing"].seconds))
            per_update = Timing(timing.first_call_seconds, tuple(s / count for s in timing.seconds))
            figures.append(amortised(size_name, title, config, per_update, drawing, here))
    figures.append(ratio_of_seeds(size_name, name, timings[str(seeds[0])], timings[str(seeds[1])], settings, seeds[1]))
    return figures


def pool_for(num_pairs: int, chunk: Trajectory) -> Trajectory:
    """A chunk of drawn trajectories, repeated until there is one for every pair: only shapes matter."""
    return jax.tree.map(lambda leaf: np.take(leaf, np.arange(num_pairs) % len(leaf), axis=0), chunk)


def amortised(
    size_name: str, title: str, config: Any, per_update: Timing, per_pair: Timing, settings: dict[str, Any]
) -> Figure:
    """Updates per second of a whole run: its updates, and drawing its pool once before them."""
    pairs, num_updates = config.data.num_steps, config.policy.num_updates
    values = tuple(
        num_updates / (num_updates * update + pairs * draw)
        for update, draw in zip(per_update.seconds, per_pair.seconds, strict=True)
    )
    return Figure(
        "policies",
        size_name,
        f"{title}, drawing included",
        "updates/s",
        values,
        settings | {"pairs": pairs, "num_updates": num_updates},
    )


def ratio_of_seeds(
    size_name: str, name: str, one: Timing, several: Timing, settings: dict[str, Any], num_seeds: int
) -> Figure:
    """How much longer an update takes for several seeds side by side than for one."""
    values = tuple(b / a for a, b in zip(one.seconds, several.seconds, strict=True))
    title = f"{name}, time of {num_seeds} seeds / time of 1"
    return Figure("policies", size_name, title, "ratio", values, settings | {"num_seeds": num_seeds})
