"""The streams of a command, wherever it was started: an ASCII terminal, a pipe that closes, a notebook's cell."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dwm_jax import starting

# What a shell shows for a program that wrote to a pipe nobody reads: 128 + SIGPIPE.
PIPE_CLOSED = 141
# Installed as dwm-NAME (setup.cfg).
COMMANDS = ("train", "data", "evaluate", "share", "sweep", "report", "status", "choose")


def prepare() -> None:
    """What a terminal cannot show is shown as a ?, and no reason to stop."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # not every stand-in for a stream can
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def as_started(text: str) -> str:
    """A help text with its commands as they are typed where this one was: `dwm-data` for `python -m dwm_jax.data`."""
    if not Path(sys.argv[0]).name.startswith("dwm-"):
        return text
    return re.sub(rf"python -m (?:dwm_jax|experiments)\.({'|'.join(COMMANDS)})\b", r"dwm-\1", text)


def number_between(low: float, high: float) -> Callable[[str], float]:
    """Of an argument: reads a number above `low` and at most `high`; what is not one is refused by argparse."""

    def number(text: str) -> float:
        value = float(text)
        if not low < value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not a number above {low:g} and at most {high:,.0f}")
        return value

    return number


@contextmanager
def printing() -> Iterator[None]:
    """For a command whose work is what it prints: when the reader has seen enough (`| head`), it leaves in silence.

    An interrupt that the command does not answer itself ends it with 130.
    """
    prepare()
    starting.heed_interrupts()
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more as it leaves.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def show(text: str) -> None:
    """Prints what a long command has found, where somebody still reads; its files hold it anyway."""
    try:
        print(text, flush=True)
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
