"""Modules that a command line names: a learner, a world model or an environment of one's own, made known by importing.

Nothing is imported because a file asks for it: only whoever calls a command names the modules that it trusts.
"""

import argparse
import importlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path


def add_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --import, which may be given several times, as `own_modules`."""
    parser.add_argument(
        "--import",
        dest="own_modules",
        metavar="MODULE",
        action="append",
        default=[],
        help="imported first, a module's name or a .py file: it makes your own learner, model or environment known",
    )


def import_all(names: Iterable[str]) -> None:
    """Imports what --import has named: a .py file by its path, anything else as a module.

    Raises:
      ValueError: one cannot be imported.
    """
    for name in names:
        try:
            if name.endswith(".py"):
                _import_file(Path(name))
            else:
                importlib.import_module(name)
        except (Exception, SystemExit) as error:  # whatever a third party's module raises when it is imported
            raise ValueError(f"--import {name}: {type(error).__name__}: {error}") from error


def _import_file(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
