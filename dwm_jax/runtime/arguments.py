"""Types of command-line arguments: what argparse makes of a text, or refuses in one line."""

import argparse
from pathlib import Path

from dwm_jax.runtime.files import refuse_tilde


def non_empty(text: str) -> str:
    """Refuses an empty argument, as a shell variable that is not set leaves it.

    Raises:
      ArgumentTypeError: argparse prints it behind the argument's name.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; give it a value, or leave it out")
    return text


def local_path(text: str) -> Path:
    """A file or folder of this machine.

    Raises:
      ArgumentTypeError: it is empty, or begins with a ~ that the shell has left alone.
    """
    path = Path(non_empty(text))
    try:
        refuse_tilde(path)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path
