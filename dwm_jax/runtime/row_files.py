"""The files a run appends to: `metrics.jsonl`, `results.csv`, `timing.jsonl`.

Rows carry `phase` (or `method`) and `step`. What was written after the checkpoint a run resumes from is cut, so
a resumed run leaves the same rows as an undisturbed one. Wall-clock figures go to `timing.jsonl` alone.
Of a run's processes the first writes.
"""

import csv
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dwm_jax.runtime import processes

Row = Mapping[str, Any]


class JsonLines:
    """One JSON object a line; the columns may differ from row to row."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, rows: Iterable[Row]) -> None:
        """Appends and flushes to the disk."""
        _append(self.path, "".join(json.dumps(dict(row)) + "\n" for row in rows))

    def read(self) -> list[dict[str, Any]]:
        """All whole rows; a last line torn by a kill is not one."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def cut(self, phase: str, step: int) -> None:
        """Drops the rows of `phase` that came after `step`."""
        if self.path.exists():
            kept = [row for row in self.read() if row["phase"] != phase or row["step"] <= step]
            _replace(self.path, "".join(json.dumps(row) + "\n" for row in kept))


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


class Results:
    """Every evaluation episode of every seed, one row each, as CSV."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, rows: Iterable[Result]) -> None:
        header = "" if self.path.exists() else ",".join(Result._fields) + "\n"
        _append(self.path, header + "".join(",".join(map(str, row)) + "\n" for row in rows))

    def read(self) -> list[Result]:
        if not self.path.exists():
            return []
        whole = [line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        types = list(Result.__annotations__.values())
        return [
            Result(*(convert(row[name]) for convert, name in zip(types, Result._fields, strict=True)))
            for row in csv.DictReader(whole)
        ]

    def cut(self, method: str, step: int) -> None:
        """Drops the rows of `method` that came after `step`."""
        if self.path.exists():
            kept = [row for row in self.read() if row.method != method or row.step <= step]
            _replace(self.path, "".join(",".join(map(str, row)) + "\n" for row in [Result._fields, *kept]))


def _append(path: Path, text: str) -> None:
    if not processes.is_first():
        return
    with open(path, "a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if size and file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)  # drops what a kill left torn
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, text: str) -> None:
    if not processes.is_first():
        return
    aside = path.with_suffix(path.suffix + ".new")
    aside.write_text(text)
    os.replace(aside, path)
