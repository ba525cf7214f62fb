"""A point of a curve, its cost in processor seconds, and the straight line through the points in logarithms."""

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..benchmark.timing import Timed

REPETITIONS = 3


class Point(NamedTuple):
    """What something cost at one size."""

    curve: str  # "reading the data"
    against: str  # what the size counts: "recorded steps"
    size: float
    cost: float
    unit: str  # of the cost: "CPU s", "bytes"


class Law(NamedTuple):
    """cost = factor * size ** exponent."""

    factor: float
    exponent: float
    worst: float  # the largest ratio, either way, between a point and the line

    def at(self, size: float) -> float:
        """The line's cost."""
        return float(self.factor * size**self.exponent)


def fit_law(sizes: Sequence[float], costs: Sequence[float]) -> Law:
    """Least squares of log cost on log size.

    Args:
      sizes, costs: above 0; at least two different sizes.

    Raises:
      ValueError: fewer.
    """
    x, y = np.log(sizes), np.log(costs)
    if len(set(sizes)) < 2:
        raise ValueError(f"a line needs two sizes, not {sorted(set(sizes))}")
    exponent, intercept = np.polyfit(x, y, 1)
    worst = float(np.exp(np.abs(y - intercept - exponent * x).max()))
    return Law(float(np.exp(intercept)), float(exponent), worst)


def group_by_curve(rows: Iterable[dict[str, Any]]) -> dict[str, list[Point]]:
    """The points of every curve, ascending; of one that was measured again the newest."""
    newest = {(row["curve"], row["size"]): Point(*(row[name] for name in Point._fields)) for row in rows}
    curves: dict[str, list[Point]] = {}
    for point in sorted(newest.values(), key=lambda point: point.size):
        curves.setdefault(point.curve, []).append(point)
    return curves


def cpu_seconds(run: Timed, at_least: float = 0.5) -> float:
    """Processor seconds of one call, the least of a few repetitions; compiling and a first call come before.

    Wall time would say how busy the machine is. What others do to the caches is in it all the same.
    """
    run()
    calls = max(1, round(at_least / max(_once(run, 1), 1e-6)))
    return min(_once(run, calls) / calls for _ in range(REPETITIONS))


def _once(run: Timed, calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        run()
    return time.process_time() - start
