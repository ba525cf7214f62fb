"""Tables of what was found: on the terminal, and as CSV files."""

import csv
import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from dwm_jax.runtime import files

# Columns of text off a terminal, where a table may be as wide as it needs.
WIDTH = 160


def console() -> Console:
    """Standard output, for tables."""
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A CSV file, unrounded, with an empty cell for None and NaN; no file where there are no rows."""
    rows = list(rows)
    if not rows:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in rows)
    files.write(path, text.getvalue())
