"""The files a run appends to: `metrics.jsonl`, `results.csv`, `timing.jsonl`.

Rows carry `phase` (or `method`) and `step`. What was written after the checkpoint a run resumes from is cut, so
a resumed run leaves the same rows as an undisturbed one. Wall-clock figures go to `timing.jsonl` alone.
Of a run's processes the first writes.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dwm_jax.runtime import files, processes
from dwm_jax.runtime.files import UnreadableError
from dwm_jax.runtime.progress import say

Row = Mapping[str, Any]


# What the rows of a phase have, in metrics.jsonl, and in timing.jsonl.
OF_A_PHASE: Mapping[str, tuple[type, ...]] = {"phase": (str,), "step": (int,)}
TIMES = {**OF_A_PHASE, "seconds": (int, float)}
# Behind the name of a file that was moved out of the way.
UNREADABLE = ".unreadable"


class JsonLines:
    """One JSON object a line; the columns may differ from row to row.

    Attributes:
      needs: what every row that is read has, and of which types; another one is refused by its line.
    """

    def __init__(self, path: Path, needs: Mapping[str, tuple[type, ...]] | None = None):
        self.path = path
        self.needs = needs or {}

    def append(self, rows: Iterable[Row]) -> None:
        """Appends and flushes to the disk."""
        if processes.is_first():
            files.append(self.path, "".join(json.dumps(dict(row)) + "\n" for row in rows))

    def read(self) -> list[dict[str, Any]]:
        """All whole rows; a last line torn by a kill is not one.

        Raises:
          UnreadableError: naming the line.
        """
        lines = enumerate(files.read_lines(self.path), 1)
        return [self._object(f"line {number}", line) for number, line in lines]

    def find(self) -> list[dict[str, Any]]:
        """`read` of a file that only informs: no rows where it cannot be read, which is said."""
        try:
            return self.read()
        except UnreadableError as error:
            say(f"{error}; it is left out")
            return []

    def renew(self) -> None:
        """Moves a file that only informs, and cannot be read, out of the way of new rows, and says so.

        Raises:
          WriteError: it cannot be moved.
        """
        if not processes.is_first():
            return
        try:
            self.read()
        except UnreadableError as error:
            aside = files.free_name(self.path.with_name(self.path.name + UNREADABLE))
            files.put_in_place(self.path, aside)
            say(f"{error}; it is kept as {aside.name}, and a new one begun")

    def last(self, phase: str) -> dict[str, Any] | None:
        """The newest row of `phase`, found from the end of the file; None where there is none.

        Raises:
          UnreadableError: a row that came after it is damaged.
        """
        for number, line in enumerate(files.lines_backwards(self.path), 1):
            row = self._object(f"line {number} from the end", line)
            if row["phase"] == phase:
                return row
        return None

    def cut(self, phase: str, step: int) -> None:
        """Drops the rows of `phase` that came after `step`."""
        if processes.is_first() and self.path.exists():
            kept = [row for row in self.read() if row["phase"] != phase or row["step"] <= step]
            files.write(self.path, "".join(json.dumps(row) + "\n" for row in kept))

    def _object(self, place: str, line: str) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UnreadableError(f"{self.path} cannot be read: {place}: {error}") from error
        if not isinstance(row, dict):
            raise UnreadableError(f"{self.path} cannot be read: {place} is no JSON object")
        for key, types in self.needs.items():
            if type(row.get(key)) not in types:
                raise UnreadableError(f"{self.path} cannot be read: {place} has {row.get(key)!r} for its {key}")
        return row


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


# Columns of numbers in a row, of version 0.2 and since.
NUMBERS = (len(Result._fields) - 2 - len(Result._field_defaults), len(Result._fields) - 2)


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
        return [_result(self.path, f"line {number}", line) for number, line in lines]

    def last_evaluations(self) -> dict[str, list[Result]]:
        """The rows of the last evaluation of every method, in their order; of the others no more than that is parsed.

        Raises:
          UnreadableError: naming the line.
        """
        steps: dict[str, str] = {}
        found: dict[str, list[str]] = {}
        for line in files.lines_backwards(self.path):
            method, *cells = line.split(",", 4)
            step = cells[2] if len(cells) > 2 else ""
            if steps.setdefault(method, step) == step:
                found.setdefault(method, []).append(line)
        found.pop(Result._fields[0], None)  # the header
        return {
            method: [_result(self.path, "a row of the last evaluation", line) for line in reversed(lines)]
            for method, lines in found.items()
        }

    def cut(self, method: str, step: int) -> None:
        """Drops the rows of `method` that came after `step`."""
        if processes.is_first() and self.path.exists():
            kept = [row for row in self.read() if row.method != method or row.step <= step]
            files.write(self.path, "".join(map(_line, [Result._fields, *kept])))

    def drop(self, method: str, steps: Collection[int]) -> None:
        """Drops the rows of `method` at some steps."""
        if processes.is_first() and self.path.exists():
            kept = [row for row in self.read() if row.method != method or row.step not in steps]
            files.write(self.path, "".join(map(_line, [Result._fields, *kept])))


def refuse_unreadable(file: JsonLines | Results) -> None:
    """Refuses to go on with rows that cannot be read and that nothing else holds.

    Raises:
      UnreadableError: with what to do.
    """
    try:
        file.read()
    except UnreadableError as error:
        raise UnreadableError(
            f"{error}; move it away to go on without its rows, from the checkpoints, or choose another --workdir"
        ) from error


def _line(row: Iterable[Any]) -> str:
    return ",".join(map(str, row)) + "\n"


def _result(path: Path, place: str, line: str) -> Result:
    try:
        method, task, *numbers = line.rstrip("\n").split(",")
        if len(numbers) not in NUMBERS:
            raise ValueError(f"{len(numbers)} columns of numbers")
        seed, step, episode = map(int, numbers[:3])
        return Result(method, task, seed, step, episode, *map(float, numbers[3:]))
    except ValueError as error:
        raise UnreadableError(f"{path} cannot be read: {place} is no row of {_line(Result._fields).strip()}") from error
