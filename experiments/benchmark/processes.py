"""Measurements in processes of their own: each has its own peak of memory and devices, and starts uncompiled."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

import jax

from dwm_jax.runtime import processes, provenance

from .denoiser import measure_training
from .figures import Figure
from .settings import Plan
from .timing import peak_memory

Result = TypeVar("Result")
VIRTUAL_DEVICES = (1, 2, 4, 8)


def call_in_fresh_process(
    function: Callable[..., Result], *arguments: Any, environment: Mapping[str, str] | None = None
) -> Result:
    """function(*arguments) in a new interpreter with these environment variables beside the present ones.

    Compiled programs are not taken from a cache there, so that a first call is one.
    """
    with fresh_processes(1, environment or {}) as pool:
        return pool.submit(function, *arguments).result()


def call_in_two_joined_processes(
    function: Callable[..., Result], *arguments: Any, environment: Mapping[str, str]
) -> tuple[Result, Result]:
    """As `call_in_fresh_process`, in two that have joined each other over loopback: what each of them returns."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    with fresh_processes(2, environment) as pool:
        one, other = (pool.submit(call_joined, coordinator, index, function, *arguments) for index in range(2))
        return one.result(), other.result()


def call_joined(coordinator: str, index: int, function: Callable[..., Result], *arguments: Any) -> Result:
    """function(*arguments) in process `index` of two."""
    os.dup2(2, 1)  # what connects them says so on stdout, where the table goes
    processes.join(coordinator, 2, index)
    processes.connect_devices()
    result = function(*arguments)
    jax.distributed.shutdown()  # type: ignore[no-untyped-call]  # where both meet once more
    return result


@contextmanager
def fresh_processes(number: int, environment: Mapping[str, str]) -> Iterator[ProcessPoolExecutor]:
    """A pool of new interpreters, each of which takes one call."""
    added = {"JAX_ENABLE_COMPILATION_CACHE": "false", **environment}
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        with ProcessPoolExecutor(number, get_context("spawn"), max_tasks_per_child=1) as pool:
            yield pool
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def measure(function: Callable[..., list[Figure]], *arguments: Any) -> list[Figure]:
    """The figures of a measurement in this process, with its peak of memory and its devices."""
    figures = function(*arguments)
    memory, device = peak_memory(), provenance.describe_devices()
    return [figure._replace(peak_memory=memory, device=device) for figure in figures]


def with_virtual_devices(count: int) -> dict[str, str]:
    """The environment of a process that has so many CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}".strip()
    return {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def measure_virtual_devices(size_name: str, plan: Plan) -> list[Figure]:
    """Training over 1, 2, 4, 8 virtual CPU devices, which share the same cores: this measures overhead, no speed-up."""
    by_count: dict[int, Figure] = {}
    for count in VIRTUAL_DEVICES:
        (figure,) = call_in_fresh_process(
            measure, measure_training, size_name, plan, environment=with_virtual_devices(count)
        )
        title = f"denoiser updates on {count} virtual device{'s' if count > 1 else ''} (shared cores)"
        by_count[count] = figure._replace(measurement="devices", name=title)
    one = by_count[VIRTUAL_DEVICES[0]]
    ratios = [
        figure._replace(
            name=f"time on {count} virtual devices / time on 1 (shared cores: overhead)",
            unit="ratio",
            values=tuple(a / b for a, b in zip(one.values, figure.values, strict=True)),
            first_call_seconds=None,
            flop_per_unit=None,
            peaks=(),
            peak_memory=None,
        )
        for count, figure in by_count.items()
        if count > 1
    ]
    return [*by_count.values(), *ratios]
