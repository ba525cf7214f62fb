"""A picture per kind of size: the points, and the straight line through them in logarithms."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dwm_jax.runtime import files

from ..report import drawing
from .points import Point, fit_law, group_by_curve


def draw_all(rows: Sequence[dict[str, Any]], folder: Path) -> Iterator[Path]:
    """Draws `folder`/KIND.svg for every kind with more than one size."""
    for kind in dict.fromkeys(row["kind"] for row in rows):
        curves = group_by_curve(row for row in rows if row["kind"] == kind)
        shown = [points for points in curves.values() if len(points) > 1]
        if shown:
            with drawing.style(font_size=11):
                draw(folder / f"{kind}.svg", shown)
            yield folder / f"{kind}.svg"


def draw(path: Path, curves: Sequence[Sequence[Point]]) -> None:
    """A panel for each unit and each kind of size: what can share its axes."""
    panels: dict[tuple[str, str], list[Sequence[Point]]] = {}
    for points in curves:
        panels.setdefault((points[0].against, points[0].unit), []).append(points)
    figure = Figure((5.4 * min(len(panels), 2), 4.8 * -(-len(panels) // 2)), layout="constrained")
    all_axes = figure.subplots(-(-len(panels) // 2), min(len(panels), 2), squeeze=False).ravel()
    for axes, ((against, unit), shown) in zip(all_axes, panels.items(), strict=False):
        for number, points in enumerate(shown):
            draw_curve(axes, points, f"C{number}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(against)
        axes.set_ylabel(unit)
        sizes = sorted({point.size for points in shown for point in points})
        drawing.plain_numbers(axes.yaxis)
        axes.set_xticks(sizes, [readable(size) for size in sizes])
        axes.set_xticks([], minor=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize="small")
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    files.write_from(path, lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))


def readable(size: float) -> str:
    """Short enough to stand beside its neighbours: 8192, 300k, 10M."""
    for least, unit, name in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if size >= least:
            return f"{size / unit:.3g}{name}"
    return f"{size:g}"


def draw_curve(axes: Axes, points: Sequence[Point], colour: str) -> None:
    """Points, and their law dashed, its exponent in the legend."""
    sizes, costs = [point.size for point in points], [point.cost for point in points]
    law = fit_law(sizes, costs)
    axes.plot(sizes, costs, color=colour, marker="o", linestyle="none")
    ends = np.array([sizes[0], sizes[-1]])
    label = f"{points[0].curve}\nexponent {law.exponent:.2f}, within x{law.worst:.2f}"
    axes.plot(ends, [law.at(size) for size in ends], color=colour, linestyle="--", label=label)
