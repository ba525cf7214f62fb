"""Timing of several things in turns, so that whatever else the machine does falls on all of them alike."""

import resource
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dwm_jax.runtime import parallel
from dwm_jax.types import Array

# Does the work once and returns when it is finished.
Timed = Callable[[], object]


class Timing(NamedTuple):
    """How long one thing took."""

    # The very first call, which no repetition contains: tracing, compiling and running once.
    first_call_seconds: float
    # Of one call, one entry per repetition: the mean over as many calls as filled it.
    seconds: tuple[float, ...]


class Effort(NamedTuple):
    """Repetitions of a figure, and their length."""

    repetitions: int
    seconds: float  # that a repetition should last; a single call may take longer
    matrix_size: int  # of the products that measure the peak


def time_in_turns(runs: dict[str, Timed], effort: Effort) -> dict[str, Timing]:
    """Times every run, one repetition of each after the other.

    The first call of each is timed alone; the second warms up and says how many calls fill a repetition.
    """
    first, calls = {}, {}
    for name, run in runs.items():
        first[name] = time_calls(run, 1)
        calls[name] = max(1, round(effort.seconds / time_calls(run, 1)))
    rounds = [
        {name: time_calls(run, calls[name]) / calls[name] for name, run in runs.items()}
        for _ in range(effort.repetitions)
    ]
    return {name: Timing(first[name], tuple(seconds[name] for seconds in rounds)) for name in runs}


def time_calls(run: Timed, calls: int) -> float:
    """Wall time of so many calls, one after the other."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return time.perf_counter() - start


class MatrixProduct(NamedTuple):
    """Large square products on all devices at once: the peak with which everything else is compared."""

    run: Timed
    flop: float  # of one call

    def flops(self, timing: Timing) -> tuple[float, ...]:
        """FLOP/s of each repetition."""
        return tuple(self.flop / seconds for seconds in timing.seconds)


def matrix_product(size: int, dtype: str = "float32") -> MatrixProduct:
    """A chain of `size` x `size` products on every local device, at JAX's default precision.

    Args:
      size: of the matrices. On an accelerator a call chains many, so that starting it does not count.
      dtype: "float32" or "bfloat16".
    """
    chain = 1 if jax.default_backend() == "cpu" else 32
    # Entries of variance 1 / size: a product keeps the scale of its left factor.
    draw = jax.pmap(lambda key: (jax.random.normal(key, (size, size)) / size**0.5).astype(dtype))
    matrices = draw(jax.random.split(jax.random.key(0), parallel.num_devices()))

    @jax.pmap
    def multiply(matrix: Array) -> Array:
        return jax.lax.fori_loop(0, chain, lambda _, left: jnp.matmul(left, matrix), matrix)

    flop = float(parallel.num_devices() * chain * 2 * size**3)
    return MatrixProduct(lambda: jax.block_until_ready(multiply(matrices)), flop)  # type: ignore[no-untyped-call]


def peak_memory() -> tuple[int, str]:
    """(bytes, of what): the most held so far on the fullest "device" or, where it keeps no count, by this "process"."""
    on_devices = [(device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in jax.local_devices()]
    if max(on_devices) > 0:
        return max(on_devices), "device"
    return process_peak(), "process"


def process_peak() -> int:
    """Bytes: the most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
