"""The streams of a command, wherever it was started: an ASCII terminal, a pipe that closes, a notebook's cell."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# What a shell shows for a program that wrote to a pipe nobody reads: 128 + SIGPIPE.
PIPE_CLOSED = 141


def prepare() -> None:
    """What a terminal cannot show is shown as a ?, and no reason to stop."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # not every stand-in for a stream can
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


@contextmanager
def printing() -> Iterator[None]:
    """For a command whose work is what it prints: when the reader has seen enough (`| head`), it leaves in silence."""
    prepare()
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more as it leaves.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)


def show(text: str) -> None:
    """Prints what a long command has found, where somebody still reads; its files hold it anyway."""
    try:
        print(text, flush=True)
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
