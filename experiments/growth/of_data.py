"""Growth with the data: reading it, fitting normalisers, memory of the devices, imagining for every pair."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from dwm_jax.maths.normalizers import fit_cdf, fit_standard

from .. import measure_reading
from ..benchmark.denoiser import draw_bulk, make_bench, random_pairs
from ..benchmark.policies import make_source
from ..benchmark.processes import call_in_fresh_process
from ..benchmark.settings import FULL, SIZES
from .points import Point, cpu_seconds

STEPS = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
PAIRS = (1_024, 2_048, 4_096, 8_192)
AGAINST = "recorded steps"
EPISODE = 1_000
PLAN = FULL._replace(num_steps=20_000, chunk=1_024)


def measure_data_reading(num_steps: int) -> list[Point]:
    """From Minari's local folder to device arrays, in walker2d's sizes; the memory that takes, and that stays."""
    with tempfile.TemporaryDirectory() as folder:
        place = {"MINARI_DATASETS_PATH": folder}
        call_in_fresh_process(measure_reading.write, num_steps, EPISODE, environment=place)
        measured = call_in_fresh_process(measure_reading.read, environment=place)
    of = {"reading the data": ("cpu_seconds", "CPU s"), "peak memory of reading": ("peak_bytes", "bytes")}
    of["data on a device"] = ("data_bytes", "bytes")
    # A little data does not reach the peak that jax's start has left.
    return [Point(curve, AGAINST, num_steps, measured[key], unit) for curve, (key, unit) in of.items() if measured[key]]


def measure_fitting(num_steps: int) -> list[Point]:
    """The two normalisers, of one column each; a data set has one per dimension of the state and one for rewards."""
    column = np.random.default_rng(0).normal(size=(num_steps, 1)).astype(np.float32)
    fits: dict[str, Callable[[np.ndarray], object]] = {"empirical CDF": fit_cdf, "mean and deviation": fit_standard}
    return [
        Point(f"fitting a column: {name}", AGAINST, num_steps, cpu_seconds(partial(fit, column), 0.2), "CPU s")
        for name, fit in fits.items()
    ]


def measure_imagining(num_pairs: int) -> list[Point]:
    """Drawing a trajectory for each pair by the quickstart's world model, and the memory of what is kept."""
    config, plan = SIZES["quickstart"].make_config(), PLAN
    pairs, lambda_ = random_pairs(make_bench("quickstart", plan).dataset), config.policy.lambda_.td3_bc
    imagined = make_source("quickstart", "fresh", pairs, config, lambda_, plan)
    chunks = draw_bulk(imagined.source, imagined.data, 1, lambda_, plan.chunk)
    kept = sum(leaf.nbytes for leaf in next(chunks)) / plan.chunk

    def draw() -> None:
        for _ in range(num_pairs // plan.chunk):
            next(chunks)

    return [
        Point("imagining", "pairs", num_pairs, cpu_seconds(draw), "CPU s"),
        Point("imagined trajectories, kept", "pairs", num_pairs, kept * num_pairs, "bytes"),
    ]


def growth_of_data(largest: int) -> Iterator[Point]:
    """Every curve, up to so many steps."""
    for num_steps in (steps for steps in STEPS if steps <= largest):
        yield from measure_data_reading(num_steps)
        yield from call_in_fresh_process(measure_fitting, num_steps)
    for num_pairs in (pairs for pairs in PAIRS if pairs <= largest):
        yield from call_in_fresh_process(measure_imagining, num_pairs)
