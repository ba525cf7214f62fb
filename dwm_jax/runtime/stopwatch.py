"""Where the seconds of a run go: each belongs to one purpose, the innermost one under way, or to compiling.

Compiling is what JAX reports of itself: tracing, lowering, and compiling or reading a kept program, whatever it is for.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import jax

COMPILING, OTHER = "compiling", "other"


class Stopwatch:
    """Adds up wall-clock seconds by purpose."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = defaultdict(float)
        self._purposes = [OTHER]
        self._booked_at, self._compiled = time.monotonic(), _compilation.seconds

    @contextmanager
    def spending(self, purpose: str) -> Iterator[None]:
        """The block's seconds belong to `purpose`, but for those of a block inside it."""
        self._book()
        self._purposes.append(purpose)
        try:
            yield
        finally:
            self._book()
            self._purposes.pop()

    def seconds(self) -> dict[str, float]:
        """So far, by purpose; the sum is what has passed since this object was made."""
        self._book()
        return dict(self._spent)

    def _book(self) -> None:
        now, compiled = time.monotonic(), _compilation.seconds
        self._spent[COMPILING] += compiled - self._compiled
        self._spent[self._purposes[-1]] += now - self._booked_at - (compiled - self._compiled)
        self._booked_at, self._compiled = now, compiled


class Compilation:
    """Adds up what JAX reports as it ends: a program may be traced within the tracing of another, which contains it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._ended: list[tuple[float, float]] = []  # (when it began, how long it took), none inside another

    def report(self, event: str, duration_secs: float, **_: str | int) -> None:
        """A listener of `jax.monitoring`."""
        if not event.startswith("/jax/core/compile/"):
            return
        began = time.monotonic() - duration_secs
        while self._ended and self._ended[-1][0] >= began - 1e-4:  # reported a moment after their end, either
            self.seconds -= self._ended.pop()[1]
        self._ended.append((began, duration_secs))
        self.seconds += duration_secs


_compilation = Compilation()
jax.monitoring.register_event_duration_secs_listener(_compilation.report)
_running = [Stopwatch()]


@contextmanager
def started() -> Iterator[Stopwatch]:
    """A stopwatch of its own for the block, which `spending` finds."""
    _running.append(Stopwatch())
    try:
        yield _running[-1]
    finally:
        _running.pop()


@contextmanager
def spending(purpose: str) -> Iterator[None]:
    """`Stopwatch.spending` of the stopwatch that runs."""
    with _running[-1].spending(purpose):
        yield
