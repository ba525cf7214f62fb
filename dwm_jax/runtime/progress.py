"""What a run says while it works: a live bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from dwm_jax.runtime import processes

# Off a terminal (a log file, CI) progress is a line at most this often.
SECONDS_BETWEEN_LINES = 20.0


class _Rate(ProgressColumn):
    """Steps per second and time left, as the display was last told them."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["rate"])


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class ProgressDisplay:
    """Shows how far one piece of work has come.

    Its speed is counted from the end of the first steps on: these wait for their program to be compiled.
    """

    def __init__(self, name: str, total: int, first: int, bar: Progress | None, unit: str = "step"):
        self._name, self._total, self._bar, self._unit = name, total, bar, unit
        self._last_line = time.monotonic()
        self._compiled: tuple[int, float] | None = None  # (step, moment) at which the speed starts to count
        self._note = ""
        if bar is not None:
            self._task = bar.add_task(name, total=total, completed=first, rate="compiling ...", note="")

    def advance(self, step: int, note: str = "") -> None:
        """The work has reached `step`; `note` (loss, score) stays until the next one."""
        self._note = note or self._note
        now = time.monotonic()
        rate = self._rate(step, now)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, rate=rate, note=self._note)
        elif step >= self._total or now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            reached = ", ".join(filter(None, [f"{self._name}: {self._unit} {step:,}/{self._total:,}", rate]))
            say(f"{reached}  {self._note}".rstrip())

    def _rate(self, step: int, now: float) -> str:
        """Steps per second and time left, in words; empty where they are not known yet."""
        if self._compiled is None:
            self._compiled = step, now
        since, began = self._compiled
        if step == since or now == began:
            return ""
        rate = (step - since) / (now - began)
        return f"{rate:,.0f}/s, {duration((self._total - step) / rate)} left"


def say(text: str) -> None:
    """Prints one line to the user, above any live bar; of a run's processes only the first does."""
    if not processes.is_first():
        return
    # The terminal may be closed, or the disk of a log full: the work goes on without output.
    with suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """With a ? for every control character: names come from files, and a terminal obeys what it is sent."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def one_line(text: object) -> str:
    """A text, or that of an error, without line breaks."""
    if isinstance(text, MemoryError):  # Python's own has no text, numpy's only an amount
        text = f"this machine has too little memory; ask for less of whatever is large. {text}"
    return " ".join(str(text).split())


@cache
def terminal() -> Console:
    """The one console: work may be shown inside other work, and their bars then share it."""
    return Console(stderr=True)


@contextmanager
def show_progress(
    name: str, total: int, first: int = 0, *, unit: str = "step", stays: bool = True
) -> Iterator[ProgressDisplay]:
    """Shows the progress of work from step `first` to `total` while the block runs; its bar stays, or is wiped."""
    console = terminal()
    if not console.is_terminal or not processes.is_first():
        yield ProgressDisplay(name, total, first, None, unit)
        return
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:>9,.0f}/{task.total:,.0f}"),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=not stays) as bar:
        yield ProgressDisplay(name, total, first, bar, unit)
