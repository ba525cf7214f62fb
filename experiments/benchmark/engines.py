"""What a dispatch costs by itself, by `pmap` and by `shard_map`: one update that computes next to nothing."""

import jax
import numpy as np

from dwm_jax.runtime import parallel
from dwm_jax.types import Array, Metrics, PyTree

from .denoiser import make_bench, make_repeated_dispatch
from .figures import Figure
from .processes import (
    call_in_fresh_process,
    call_in_two_joined_processes,
    measure,
    with_virtual_devices,
)
from .settings import Plan
from .timing import time_calls

# Dispatches of a repetition. A number, as processes that compute together must agree on it.
CALLS = 100


def measure_engines(size_name: str, plan: Plan) -> list[Figure]:
    """Milliseconds of a dispatch by each engine, and their ratio: in one process and in two."""
    one, eight, four = map(with_virtual_devices, (1, 8, 4))
    by_place = {
        "1 device": call_in_fresh_process(measure, dispatch_times, size_name, plan, environment=one),
        "8 virtual devices": call_in_fresh_process(measure, dispatch_times, size_name, plan, environment=eight),
        "2 processes x 4 virtual devices": call_in_two_joined_processes(
            measure, dispatch_times, size_name, plan, environment=four
        )[0],
    }
    return [
        figure._replace(name=f"{figure.name}, {place}") for place, figures in by_place.items() for figure in figures
    ]


def dispatch_times(size_name: str, plan: Plan) -> list[Figure]:
    """The figures on the devices there are; the engines are timed in turns.

    The state has the leaves of the denoiser's, one number each: what a dispatch costs goes by their number.
    """
    state = jax.tree.map(lambda leaf: np.zeros((), leaf.dtype), make_bench(size_name, plan).state)

    def update(state: PyTree, data: PyTree, step: Array) -> tuple[PyTree, Metrics]:
        return jax.tree.map(lambda leaf: leaf + 1, state), {"step": step}

    updates = parallel.repeat_update(update)
    runs = {name: make_repeated_dispatch(updates, state, (), 1, engine) for name, engine in parallel.ENGINES.items()}
    first = {name: time_calls(run, 1) for name, run in runs.items()}
    rounds = [{name: time_calls(run, CALLS) / CALLS for name, run in runs.items()} for _ in range(plan.repetitions)]
    settings = {"leaves": len(jax.tree.leaves(state)), "dispatches_per_repetition": CALLS}
    times = [
        Figure(
            "engines",
            size_name,
            f"a dispatch by {name}",
            "ms",
            tuple(1e3 * seconds[name] for seconds in rounds),
            settings,
            first[name],
        )
        for name in runs
    ]
    ratio = tuple(seconds["pmap"] / seconds["shard_map"] for seconds in rounds)
    return [*times, Figure("engines", size_name, "time by pmap / time by shard_map", "ratio", ratio, settings)]
