"""The streams of a command, wherever it was started: an ASCII terminal, a pipe that closes, a notebook's cell."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from dwm_jax import starting
from dwm_jax.runtime.progress import say

# What a shell shows for a program that wrote to a pipe nobody reads: 128 + SIGPIPE.
PIPE_CLOSED = 141
# Installed as dwm-NAME (setup.cfg).
COMMANDS = ("train", "data", "evaluate", "share", "sweep", "report", "status", "choose")


def prepare() -> None:
    """Has characters that a terminal cannot show printed as ?, where they would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # not every stand-in for a stream can
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def spell_commands(text: str) -> str:
    """A help text with its commands as they are typed where this one was: `dwm-data` for `python -m dwm_jax.data`."""
    if not Path(sys.argv[0]).name.startswith("dwm-"):
        return text
    return re.sub(rf"python -m (?:dwm_jax|experiments)\.({'|'.join(COMMANDS)})\b", r"dwm-\1", text)


def number_between(low: float, high: float) -> Callable[[str], float]:
    """The `type` of an argument: a number above `low` and at most `high`; argparse refuses anything else."""

    def number(text: str) -> float:
        value = float(text)
        if not low < value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not a number above {low:g} and at most {high:,.0f}")
        return value

    return number


class OutputError(Exception):
    """Standard output cannot be written. Not an OSError: commands that go on after an error of a file end with this."""


class _Output:
    """Standard output, whose errors are told from those of all other files."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with _named_errors():
            return self._stream.write(text)

    def flush(self) -> None:
        with _named_errors():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"standard output cannot be written: {error.strerror or error}") from error


@contextmanager
def guard_output() -> Iterator[None]:
    """For a command that prints: what it cannot print ends it with one line, and files are left as they are.

    Where the reader closes the pipe (`| head`), it leaves in silence. An interrupt that the command does not handle
    itself ends it with 130.
    """
    prepare()
    starting.heed_interrupts()
    output = _Output(sys.stdout)
    try:
        with redirect_stdout(cast(TextIO, output)):
            try:
                yield
            finally:
                output.flush()
    except OutputError as error:
        _discard(output)
        if isinstance(error.__cause__, BrokenPipeError):
            sys.exit(PIPE_CLOSED)
        say(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def show(text: str) -> None:
    """Prints what a long command has found, where somebody still reads; its files hold it anyway."""
    try:
        print(text, flush=True)
    except (OSError, OutputError):
        with suppress(OSError, ValueError):
            _discard(sys.stdout)


def _discard(output: TextIO | _Output) -> None:
    """Discards what is still buffered: the interpreter flushes once more as it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
