"""A figure: what was measured, in one unit, once per repetition - as a row of a table and as a line of JSON."""

import json
from typing import Any, NamedTuple

import numpy as np

from .timing import Timing


class Figure(NamedTuple):
    """One line of the benchmark."""

    measurement: str  # a key of MEASUREMENTS
    size: str  # a key of SIZES, "-" where sizes do not matter
    name: str
    unit: str
    values: tuple[float, ...]  # one per repetition
    settings: dict[str, Any] = {}  # noqa: RUF012
    first_call_seconds: float | None = None
    flop_per_unit: int | None = None  # useful operations (see arithmetic.py)
    peaks: tuple[float, ...] = ()  # FLOP/s of the float32 matrix product beside each repetition
    peak_memory: tuple[int, str] | None = None  # (bytes, "device" or "process")
    device: dict[str, Any] = {}  # noqa: RUF012  backend, kind and number of devices

    @property
    def flops(self) -> tuple[float, ...]:
        """Useful FLOP/s of each repetition."""
        return tuple(value * self.flop_per_unit for value in self.values) if self.flop_per_unit else ()

    @property
    def shares_of_peak(self) -> tuple[float, ...]:
        """Useful FLOP/s over the peak measured beside it, of each repetition."""
        if not (self.flops and self.peaks):
            return ()
        return tuple(flops / peak for flops, peak in zip(self.flops, self.peaks, strict=True))


def rate(measurement: str, size: str, name: str, unit: str, per_call: float, timing: Timing, **rest: Any) -> Figure:
    """The figure of something that does `per_call` units in one call."""
    values = tuple(per_call / seconds for seconds in timing.seconds)
    return Figure(measurement, size, name, unit, values, first_call_seconds=timing.first_call_seconds, **rest)


def quartiles(values: tuple[float, ...]) -> tuple[float, float, float]:
    """(first quartile, median, third quartile)."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def record(figure: Figure) -> dict[str, Any]:
    """The figure with everything derived from it, ready for JSON; what does not apply is null."""
    low, median, high = quartiles(figure.values)
    memory, memory_of = figure.peak_memory or (None, None)
    return {
        "measurement": figure.measurement,
        "size": figure.size,
        "name": figure.name,
        "unit": figure.unit,
        "median": median,
        "first_quartile": low,
        "third_quartile": high,
        "repetitions": len(figure.values),
        "values": list(figure.values),
        "first_call_seconds": figure.first_call_seconds,
        "useful_flop_per_unit": figure.flop_per_unit,
        "useful_flops": quartiles(figure.flops)[1] if figure.flops else None,
        "share_of_peak": quartiles(figure.shares_of_peak)[1] if figure.shares_of_peak else None,
        "matrix_product_flops": quartiles(figure.peaks)[1] if figure.peaks else None,
        "peak_memory_bytes": memory,
        "peak_memory_of": memory_of,
        "settings": figure.settings,
        **figure.device,
    }


def json_line(figure: Figure, circumstances: dict[str, Any]) -> str:
    """One line: the figure, then machine, versions and commit."""
    return json.dumps(record(figure) | circumstances) + "\n"


HEADER = (
    "| measurement | size | figure | median | quartiles | unit | first call (s) | useful GFLOP/s | of the peak "
    "| matrix product beside it (GFLOP/s) | peak memory (MiB) |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def table_row(figure: Figure) -> str:
    """One row under HEADER."""
    derived = record(figure)
    memory, memory_of = derived["peak_memory_bytes"], derived["peak_memory_of"]

    cells = [
        figure.measurement,
        figure.size,
        figure.name,
        readable(derived["median"]),
        f"{readable(derived['first_quartile'])} - {readable(derived['third_quartile'])}",
        figure.unit,
        readable(derived["first_call_seconds"]),
        readable(derived["useful_flops"], 1e9),
        "" if derived["share_of_peak"] is None else f"{derived['share_of_peak']:.0%}",
        readable(derived["matrix_product_flops"], 1e9),
        "" if memory is None else f"{memory / 2**20:,.0f} ({memory_of})",
    ]
    return f"| {' | '.join(cells)} |"


def readable(value: float | None, scale: float = 1.0) -> str:
    """Three significant digits, thousands whole: 0.0123, 4.56, 789, 12,345."""
    if value is None:
        return ""
    value /= scale
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
