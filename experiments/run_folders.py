"""Where runs lie below a folder, and whether they can be read."""

import os
from collections.abc import Iterator
from pathlib import Path

from dwm_jax.runtime.files import UnreadableError
from dwm_jax.runtime.progress import one_line

# What a damaged file of a run raises when it is read and taken apart.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
# Folders that a run keeps of its own.
OF_A_RUN = {"checkpoints", "figures", "policies", "tensorboard"}


def why_unreadable(error: Exception) -> str:
    """In one line: by the file that is damaged, or by what it raised as it was taken apart."""
    reason = one_line(error)
    return reason if isinstance(error, UnreadableError) else f"cannot be read: {type(error).__name__}: {reason}"


def run_folders(folder: Path) -> Iterator[Path]:
    """`folder` and the folders below it that hold a config.json, by name; links are not followed.

    What a run keeps in folders of its own, checkpoints of many files, and what is hidden is not looked through.
    """
    for place, names, file_names in os.walk(folder):
        is_run = "config.json" in file_names
        names[:] = sorted(name for name in names if not (name.startswith(".") or (is_run and name in OF_A_RUN)))
        if is_run:
            yield Path(place)
