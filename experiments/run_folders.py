"""Where runs lie below a folder, and whether they can be read."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from dwm_jax.runtime import files
from dwm_jax.runtime.files import UnreadableError
from dwm_jax.runtime.progress import one_line

# What a damaged file of a run raises when it is read and taken apart.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
# Folders that a run keeps of its own.
OF_A_RUN = {"checkpoints", "figures", "policies", "tensorboard"}


def named_run(usage: str | None) -> Path:
    """The finished run, with policies and a world model, that a tutorial's command line names; leaves where it is none.

    Args:
      usage: what its --help says.
    """
    parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run with a policy and a world model")
    run: Path = parser.parse_args().run
    measured = files.find_json(run / "diagnostics.json") or {}
    if not any(run.glob("policies/*.npz")) or not measured.get("prediction_error"):
        parser.error(f"{run} holds no finished run with policies and a world model (policies/, diagnostics.json)")
    return run


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
