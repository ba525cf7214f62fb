"""Where seconds are booked, with a clock that is moved by hand."""

import jax
import jax.numpy as jnp
import pytest

from dwm_jax.runtime import stopwatch
from dwm_jax.runtime.stopwatch import Compilation, Stopwatch

TRACE, BACKEND = "/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("dwm_jax.runtime.stopwatch.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def compilation(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> Compilation:
    monkeypatch.setattr(stopwatch, "_compilation", compilation := Compilation())
    return compilation


def test_every_second_belongs_to_the_innermost_purpose(clock: list[float], compilation: Compilation) -> None:
    watch = Stopwatch()
    clock[0] += 1
    with watch.spending("updates"):
        clock[0] += 2
        with watch.spending("evaluation"):
            clock[0] += 4
        clock[0] += 8
        compilation.report(BACKEND, 3.0)  # of these 8
    clock[0] += 16
    assert watch.seconds() == {"other": 17, "updates": 7, "evaluation": 4, "compiling": 3}


def test_what_is_compiled_inside_another_counts_once(clock: list[float], compilation: Compilation) -> None:
    for at, seconds in ((101.0, 1.0), (103.0, 1.0), (104.0, 4.0)):  # the last contains the other two
        clock[0] = at
        compilation.report(TRACE, seconds)
    clock[0] = 106.0
    compilation.report(BACKEND, 2.0)  # comes after them
    compilation.report("/jax/checkpoint/write", 5.0)
    assert compilation.seconds == 6


def test_a_block_that_fails_is_booked(clock: list[float], compilation: Compilation) -> None:
    def fail() -> None:
        clock[0] += 5
        raise KeyError

    with stopwatch.started() as watch:
        with pytest.raises(KeyError), stopwatch.spending("data"):
            fail()
        clock[0] += 1
    assert watch.seconds() == {"other": 1, "data": 5, "compiling": 0}


def test_jax_reports_what_it_compiles() -> None:
    with stopwatch.started() as watch:
        jax.jit(lambda x: jnp.sin(x) * 3)(1.0)
        assert 0 < watch.seconds()["compiling"] <= sum(watch.seconds().values())
