"""The diffusion world model: updates of its training, trajectories sampled from it."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dwm_jax.config import settings_at
from dwm_jax.data import dataset as data
from dwm_jax.imagination import sources
from dwm_jax.imagination.pool import draw_several, keep_for_target
from dwm_jax.imagination.sources import Data, Pairs, Source, refuse_to_act
from dwm_jax.learners.policies import Units
from dwm_jax.phases.pretraining import training_rows, update_from_segments
from dwm_jax.registry import make_model
from dwm_jax.runtime import parallel
from dwm_jax.types import Array, PyTree, Start, Trajectory
from dwm_jax.world_models.base import WorldModel
from dwm_jax.world_models.distillation import Distilled

from .figures import Figure, rate
from .settings import (
    SIZES,
    Plan,
    imagination_flop,
    random_dataset,
    sample_flop,
    updates_per_dispatch,
)
from .timing import Timed, matrix_product, time_in_turns

BATCH = 128  # of the paper's timing of trajectories
IN_ONE_PASS = {"distil": True, "num_sampling_steps": 1, "guidance_weight": 1.0}  # what sampling a distilled one takes


class Bench(NamedTuple):
    """A world model in its initial state, and random data of its shapes."""

    model: WorldModel
    state: PyTree
    dataset: data.Dataset
    settings: dict[str, Any]  # of the model, those of its training too

    @property
    def inference(self) -> PyTree:
        """What a rollout needs of the state."""
        return self.model.inference(self.state)


@functools.cache
def make_bench(size_name: str, plan: Plan) -> Bench:
    """The DWM of a size; one process makes it once. The denoiser alone: a head beside it would be timed with it."""
    size = SIZES[size_name]
    config = size.make_config()
    settings = config.world_models.dwm.to_dict()
    model: Any = make_model("dwm", **settings_at(config, "world_models.dwm") | {"reachable_quantile": 0.0})
    dataset = random_dataset(size, plan.num_steps, config.gamma)
    return Bench(model, model.init(jax.random.key(0), training_rows(dataset)), dataset, settings)


def random_pairs(dataset: data.Dataset) -> Pairs:
    """The transitions a learner sees, in standardised units. Host arrays."""
    rows = data.transition_rows(dataset)
    units = Units(data.state_normalizer(dataset), jnp.ones(()))
    return Pairs(dataset, rows, units)  # type: ignore[arg-type]


def make_repeated_dispatch(
    updates: parallel.Updates,
    state: PyTree,
    on_device: PyTree,
    num_updates: int,
    engine: parallel.Engine = parallel.PMAP,
) -> Timed:
    """A function that runs one dispatch of `num_updates` updates, as training does; every call continues the last."""
    dispatch = parallel.make_dispatch(updates, num_updates, engine)
    held, data = [parallel.replicate(state, engine), 0], parallel.replicate(on_device, engine)

    def run() -> None:
        held[0], metrics = dispatch(held[0], data, held[1])
        held[1] += num_updates
        jax.block_until_ready((held[0], metrics))  # type: ignore[no-untyped-call]

    return run


def measure_training(size_name: str, plan: Plan) -> list[Figure]:
    """Updates per second of the pretraining: batch, loss, gradient, Adam, EMA."""
    bench, effort = make_bench(size_name, plan), plan.effort()
    model, batch_size = bench.model, bench.settings["batch_size"]
    starts = data.segment_rows(bench.dataset, model.sequence_length, "absorb")
    updates = parallel.repeat_update(update_from_segments(model, batch_size, jax.random.key(1)))
    count = updates_per_dispatch("denoiser")
    run = make_repeated_dispatch(updates, bench.state, (bench.dataset, starts), count)
    product = matrix_product(effort.matrix_size)
    timings = time_in_turns({"updates": run, "product": product.run}, effort)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(bench.state.params))
    return [
        rate(
            "training",
            size_name,
            "denoiser updates",
            "updates/s",
            count,
            timings["updates"],
            flop_per_unit=batch_size * sample_flop(SIZES[size_name], bench.settings),
            peaks=product.flops(timings["product"]),
            settings=bench.settings | {"updates_per_dispatch": count, "parameters": parameters},
        )
    ]


def measure_sampling(size_name: str, plan: Plan) -> list[Figure]:
    """Trajectories per second, guided and distilled: one batch at a time, and in bulk as a run draws its pool."""
    bench, effort = make_bench(size_name, plan), plan.effort()
    size, config = SIZES[size_name], SIZES[size_name].make_config()
    product = matrix_product(effort.matrix_size)
    teacher: Any = bench.model
    distilled = Distilled(teacher=teacher)
    runs = {
        **make_drawing_runs("guided", bench.model, bench.inference, bench.dataset, config, plan),
        **make_drawing_runs("distilled", distilled, bench.inference, bench.dataset, config, plan),
    }
    timings = time_in_turns(runs | {"product": product.run}, effort)
    per_dispatch = plan.chunk * parallel.num_devices()
    figures = []
    for how, settings in (("guided", bench.settings), ("distilled", bench.settings | IN_ONE_PASS)):
        for name, per_call in ((f"batch {BATCH}", BATCH), (f"bulk {per_dispatch}", per_dispatch)):
            figures.append(
                rate(
                    "sampling",
                    size_name,
                    f"{how} trajectories, {name}",
                    "trajectories/s",
                    per_call,
                    timings[f"{how} {name.split()[0]}"],
                    flop_per_unit=imagination_flop(size, settings),
                    peaks=product.flops(timings["product"]),
                    settings=settings | {"horizon": config.policy.horizon, "trajectories_per_dispatch": per_call},
                )
            )
    return figures + [
        compare_rates(distilled, guided) for guided, distilled in zip(figures[:2], figures[2:], strict=True)
    ]


def compare_rates(distilled: Figure, guided: Figure) -> Figure:
    """How many times as many trajectories, repetition by repetition."""
    return Figure(
        "sampling",
        guided.size,
        f"{distilled.name} / guided",
        "ratio",
        tuple(one / other for one, other in zip(distilled.values, guided.values, strict=True)),
        settings=distilled.settings,
    )


def make_drawing_runs(
    how: str, model: WorldModel, inference: PyTree, dataset: data.Dataset, config: ConfigDict, plan: Plan
) -> dict[str, Timed]:
    """Runs that draw trajectories of one world model: "HOW batch" and "HOW bulk"."""
    goal, pairs = jnp.asarray(config.policy.return_to_go), random_pairs(dataset)
    rollout = model.rollout(config.policy.horizon, config.gamma)

    @jax.jit
    def sample_batch(model: PyTree, pairs: Pairs, pair_B: Array, keys_B: Array) -> Trajectory:
        def one(pair: Array, key: Array) -> Trajectory:
            start = Start(pairs.observation(pair), pairs.action(pair), goal)
            return rollout(model, start, lambda *_: pairs.action(pair), key)

        return jax.vmap(one)(pair_B, keys_B)

    on_device = jax.device_put((inference, pairs))
    batch = jnp.arange(BATCH) % len(pairs.rows), jax.random.split(jax.random.key(2), BATCH)
    ask = sources.make_ask("constant", float(goal), model)
    source = sources.make_fresh_source(lambda: pairs, rollout, inference, ask)
    chunks = draw_bulk(source, Data(pairs, inference), 1, 1.0, plan.chunk)
    return {
        f"{how} batch": lambda: jax.block_until_ready(sample_batch(*on_device, *batch)),  # type: ignore[no-untyped-call]
        f"{how} bulk": lambda: next(chunks),
    }


def draw_bulk(source: Source, data: Data, num_draws: int, lambda_: float, chunk: int) -> Iterator[Trajectory]:
    """Endless chunks of a pool, drawn as a run draws them.

    Args:
      num_draws: trajectories per data pair.
      lambda_: of the target, which says what is kept of a trajectory.
      chunk: pairs per device and dispatch.
    """
    draw = draw_several(source, num_draws, keep_for_target(lambda_))

    def draw_one(data: Data, index: Array) -> Trajectory:
        key = jax.random.fold_in(jax.random.key(3), index)
        return draw(data, index % data.pairs.rows.shape[0], refuse_to_act, key)

    endless = np.iinfo(np.int32).max // 2
    yield from parallel.map_chunks(draw_one, chunk)(endless, data)
