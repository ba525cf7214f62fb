"""The files a run appends to: `metrics.jsonl`, `results.csv`, `timing.jsonl`.

Rows carry `phase` (or `method`) and `step`. What was written after the checkpoint a run resumes from is cut, so
a resumed run leaves the same rows as an undisturbed one. Wall-clock figures go to `timing.jsonl` alone.
Of a run's processes the first writes.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dwm_jax.runtime import files, processes
from dwm_jax.runtime.files import UnreadableError

Row = Mapping[str, Any]


class JsonLines:
    """One JSON object a line; the columns may differ from row to row."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, rows: Iterable[Row]) -> None:
        """Appends and flushes to the disk."""
        if processes.is_first():
            files.append(self.path, "".join(json.dumps(dict(row)) + "\n" for row in rows))

    def read(self) -> list[dict[str, Any]]:
        """All whole rows; a last line torn by a kill is not one.

        Raises:
          UnreadableError: naming the line.
        """
        return [_object(self.path, number, line) for number, line in enumerate(files.read_lines(self.path), 1)]

    def cut(self, phase: str, step: int) -> None:
        """Drops the rows of `phase` that came after `step`."""
        if processes.is_first() and self.path.exists():
            kept = [row for row in self.read() if row["phase"] != phase or row["step"] <= step]
            files.write(self.path, "".join(json.dumps(row) + "\n" for row in kept))


class Result(NamedTuple):
    """One evaluation episode; the columns of `results.csv`."""

    method: str
    task: str
    seed: int
    step: int
    episode: int
    return_raw: float
    score_0_1: float
    score_0_100: float
    # Discounted, from the start of the episode, and what the method's critics said of that start; raw units. NaN where
    # there is no critic, and in files of version 0.2.
    discounted_return: float = math.nan
    value_at_start: float = math.nan


class Results:
    """Every evaluation episode of every seed, one row each, as CSV."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, rows: Iterable[Result]) -> None:
        if processes.is_first():
            files.append(self.path, "".join(map(_line, rows)), header=_line(Result._fields))

    def read(self) -> list[Result]:
        """All whole rows, in a file with its header or, as an earlier version left some, without; of version 0.2 too,
        which had no columns of critics.

        Raises:
          UnreadableError: naming the line.
        """
        lines = list(enumerate(files.read_lines(self.path), 1))
        if lines and lines[0][1].startswith(f"{Result._fields[0]},{Result._fields[1]},"):
            del lines[0]
        return [_result(self.path, number, line) for number, line in lines]

    def cut(self, method: str, step: int) -> None:
        """Drops the rows of `method` that came after `step`."""
        if processes.is_first() and self.path.exists():
            kept = [row for row in self.read() if row.method != method or row.step <= step]
            files.write(self.path, "".join(map(_line, [Result._fields, *kept])))


def _line(row: Iterable[Any]) -> str:
    return ",".join(map(str, row)) + "\n"


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{path} cannot be read: line {number}: {error}") from error
    if not isinstance(row, dict):
        raise UnreadableError(f"{path} cannot be read: line {number} is no JSON object")
    return row


def _result(path: Path, number: int, line: str) -> Result:
    types, cells = list(Result.__annotations__.values()), line.rstrip("\n").split(",")
    try:
        if len(cells) not in (len(types) - len(Result._field_defaults), len(types)):
            raise ValueError(f"{len(cells)} columns")
        return Result(*(convert(cell) for convert, cell in zip(types, cells, strict=False)))
    except ValueError as error:
        raise UnreadableError(f"{path} cannot be read: line {number} is no row of {_line(Result._fields)}") from error
