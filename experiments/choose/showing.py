"""What was found, for the terminal, a spreadsheet and the eye."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rich.table
from matplotlib.figure import Figure
from rich.box import SIMPLE
from rich.text import Text

from dwm_jax.runtime import files
from dwm_jax.runtime.progress import printable

from ..report import drawing, markdown
from ..tables import console
from .judging import ESTIMATES, KEPT, Judged, Quality

Table = tuple[list[str], list[list[str]]]  # head and rows


def policies_table(judged: Sequence[Judged]) -> Table:
    """A line per policy, best by fitted Q evaluation first."""
    head = ["run", "method", "seed", *ESTIMATES, "measured return", "score"]
    rows = [
        [one.run, one.method, str(one.seed), *map(number, (*one.estimates, one.discounted_return, one.score))]
        for one in judged
    ]
    return head, rows


def quality_table(found: Sequence[Quality]) -> Table:
    """How good the rankings were."""
    head = ["ranking by", "policies", "Spearman", *(f"regret@{k}" for k in KEPT)]
    return head, [[one.estimate, str(one.number), number(one.spearman), *map(number, one.regrets)] for one in found]


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; figures stand to the right."""
    table = rich.table.Table(box=SIMPLE)
    for name, column in zip(head, zip(*rows, strict=True), strict=True):
        is_text = any(cell[:1].isalpha() for cell in column)
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # Text: a name in brackets is no mark-up
    console().print(table)


def number(value: float) -> str:
    """Three digits; a dash for none."""
    return markdown.NOTHING if np.isnan(value) else f"{value:.3g}"


def draw_estimates(path: Path, task: str, judged: Sequence[Judged]) -> None:
    """A panel per estimate and one of the measured scores; a row per policy, best by fitted Q evaluation on top."""
    columns = [(name, [one.estimates[index] for one in judged]) for index, name in enumerate(ESTIMATES)]
    columns.append(("measured score", [one.score for one in judged]))
    shown = [(name, values) for name, values in columns if not np.isnan(values).all()]
    with drawing.style(font_size=10):
        figure = Figure((2 + 2.4 * len(shown), 1.2 + 0.25 * len(judged)), layout="constrained")
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        methods = list(dict.fromkeys(one.method for one in judged))
        colours = [f"C{methods.index(one.method) % 10}" for one in judged]
        for axes, (name, values) in zip(panels, shown, strict=True):
            axes.scatter(values, range(len(judged)), c=colours)
            axes.set_xlabel(name)
            axes.grid(axis="y", alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        names = [f"{one.method}, seed {one.seed} ({Path(one.run).name})" for one in judged]
        panels[0].set_yticks(range(len(judged)), names)
        panels[0].invert_yaxis()
        figure.suptitle(task)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    files.write(path, content.getvalue())
