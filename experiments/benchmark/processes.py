"""Measurements in processes of their own: each has its own peak of memory, its own devices, nothing compiled."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

from dwm_jax.runtime import provenance

from .denoiser import training
from .figures import Figure
from .settings import Plan
from .timing import peak_memory

Result = TypeVar("Result")
VIRTUAL_DEVICES = (1, 2, 4, 8)


def in_fresh_process(
    function: Callable[..., Result], *arguments: Any, environment: Mapping[str, str] | None = None
) -> Result:
    """function(*arguments) in a new interpreter with these environment variables beside the present ones.

    Compiled programs are not taken from a cache there, so that a first call is one.
    """
    added = {"JAX_ENABLE_COMPILATION_CACHE": "false", **(environment or {})}
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def measure(function: Callable[..., list[Figure]], *arguments: Any) -> list[Figure]:
    """The figures of a measurement in this process, with its peak of memory and its devices."""
    figures = function(*arguments)
    memory, device = peak_memory(), provenance.devices()
    return [figure._replace(peak_memory=memory, device=device) for figure in figures]


def virtual_devices(size_name: str, plan: Plan) -> list[Figure]:
    """Training over 1, 2, 4, 8 virtual CPU devices. They share the same cores: what shows is overhead, no speed-up."""
    by_count: dict[int, Figure] = {}
    for count in VIRTUAL_DEVICES:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}".strip()
        environment = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        (figure,) = in_fresh_process(measure, training, size_name, plan, environment=environment)
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
