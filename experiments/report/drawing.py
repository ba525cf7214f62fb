"""The report's own pictures, beside those of dwm_jax.results.pictures: small SVG files, the same for the same data."""

import hashlib
import inspect
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from dwm_jax.results import pictures
from dwm_jax.runtime import files

from .statistics import Interval


class Points(NamedTuple):
    """One line: values with their spread, at settings."""

    label: str
    at: Sequence[float]
    mean: Sequence[float]
    std: Sequence[float]
    is_ours: bool = True


class Band(NamedTuple):
    """Scores by a whole number from 1 on, with the middle half around them, between two levels."""

    label: str
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    best: float  # the upper level
    every: float  # the lower one


def draw_once(draw: Callable[..., None], path: Path, *shown: object, font_size: float = 13) -> None:
    """`draw(path, *shown)` in the report's style, unless `path` is what it drew of the same before.

    A report is made again while runs go on, and most of its time is drawing. What a picture shows is known by the
    digest in its last line.

    Args:
      draw: writes an SVG.
      shown: can be pickled.
    """
    drawn_by = [inspect.getsource(sys.modules[name]) for name in (__name__, pictures.__name__, draw.__module__)]
    content = pickle.dumps([matplotlib.__version__, drawn_by, draw.__name__, font_size, shown])
    mark = f"<!-- {hashlib.sha256(content).hexdigest()} -->\n".encode()
    if path.is_file() and not path.is_symlink() and path.read_bytes().endswith(mark):
        return
    with style(font_size):
        draw(path, *shown)
    files.write(path, path.read_bytes() + mark)


@contextmanager
def style(font_size: float) -> Iterator[None]:
    """Legible at the width of a phone; text stays text; no random name in the file."""
    changed: Any = {
        "font.size": font_size,
        "font.sans-serif": ["DejaVu Sans", "Verdana"],
        "svg.fonttype": "none",
        "svg.hashsalt": "dwm_jax",
        "text.parse_math": False,  # a name may have a $ in it
    }
    with matplotlib.rc_context(changed):
        yield


def draw_lines(
    path: Path,
    shown: Sequence[Points],
    title: str,
    x_label: str,
    y_label: str,
    paper: str,
    is_log: bool = False,
) -> None:
    """Ours solid, with a band of one standard deviation; the paper's dashed, in the same colour.

    Args:
      paper: what the legend calls the paper's lines.
    """
    figure = Figure((7, 5))
    axes = figure.subplots()
    colours = {label: f"C{number}" for number, label in enumerate(dict.fromkeys(line.label for line in shown))}
    for line in shown:
        colour, mean, std = colours[line.label], np.array(line.mean), np.array(line.std)
        if line.is_ours:
            axes.plot(line.at, mean, color=colour, marker="o", label=line.label)
            axes.fill_between(line.at, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
        else:
            axes.plot(line.at, mean, color=colour, marker="x", linestyle="--", label=f"{line.label}, {paper}")
    if is_log and any(np.any(np.isfinite(line.mean) & (np.array(line.mean) > 0)) for line in shown):
        axes.set_yscale("log", nonpositive="clip")
        plain_numbers(axes.yaxis)
    axes.set_xticks(sorted({value for line in shown for value in line.at}))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    _finish(path, figure, axes, title)


def draw_bands(path: Path, shown: Sequence[Band], title: str, x_label: str, y_label: str) -> None:
    """A line with its band per method; its levels dashed and dotted in the same colour."""
    figure = Figure((7, 5))
    axes = figure.subplots()
    for number, band in enumerate(shown):
        colour, at = f"C{number}", np.arange(1, len(band.mean) + 1)
        axes.plot(at, band.mean, color=colour, label=band.label)
        axes.fill_between(at, band.low, band.high, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(band.best, color=colour, linestyle="--", linewidth=1)
        axes.axhline(band.every, color=colour, linestyle=":", linewidth=1)
    axes.set_xscale("log")
    plain_numbers(axes.xaxis)
    axes.set_xlabel(f"{x_label} (dashed: best variant, dotted: any)")
    axes.set_ylabel(y_label)
    _finish(path, figure, axes, title)


def draw_intervals(path: Path, by_method: Mapping[str, Interval], title: str) -> None:
    """A mark and its interval per method."""
    figure = Figure((7, 1.4 + 0.4 * len(by_method)), layout="constrained")
    axes = figure.subplots()
    for row, interval in enumerate(by_method.values()):
        axes.plot([interval.low, interval.high], [row, row], color="C0", linewidth=6, alpha=0.35, solid_capstyle="butt")
        axes.plot([interval.value], [row], color="C0", marker="|", markersize=13, markeredgewidth=3)
    axes.set_yticks(range(len(by_method)), list(by_method))
    axes.invert_yaxis()
    axes.set_xlabel("score (0-1)")
    _finish(path, figure, axes, title)


def draw_profiles(path: Path, thresholds: np.ndarray, by_method: Mapping[str, Interval], title: str) -> None:
    """The fraction of runs above each score."""
    figure = Figure((7, 5))
    axes = figure.subplots()
    for method, interval in by_method.items():
        (line,) = axes.plot(thresholds, interval.value, label=method)
        axes.fill_between(thresholds, interval.low, interval.high, alpha=0.1, color=line.get_color(), linewidth=0)
    axes.set_xlabel("score (0-1)")
    axes.set_ylabel("fraction of seeds above")
    _finish(path, figure, axes, title)


def plain_numbers(axis: Axis) -> None:
    """On a logarithmic axis: the default's powers are mathematics, which `style` does not parse."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _finish(path: Path, figure: Figure, axes: Axes, title: str) -> None:
    """Margins are by hand where no layout engine is: one draws everything twice to find them."""
    axes.set_title(title, y=1)  # where it is looked for otherwise, at half the cost of the picture
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    ncols = 1 if max(map(len, labels), default=0) > 30 else 2
    if labels:
        figure.legend(handles, labels, loc="lower center", ncols=ncols, frameon=False, fontsize="small")
    if figure.get_layout_engine() is None:
        rows = -(-len(labels) // ncols)
        figure.subplots_adjust(left=0.15, right=0.97, top=0.92, bottom=0.15 + 0.05 * rows)
    files.write_from(path, lambda file: figure.savefig(file, format=path.suffix[1:], metadata={"Date": None}))
