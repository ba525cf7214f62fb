"""Stopping on request: a signal is recorded, and the run stops at the next point where nothing is lost.

A handler that raised could interrupt anything, a save included. So a signal is only recorded, and everything that takes
long calls `raise_if_requested` now and then. Where the program cannot call it in time - inside a compilation, or one
long dispatch - a watchdog ends the process: what is on disk is whole at every moment, and at most the work since is
repeated.

Of several processes the first is stopped, whichever the signal reached, and the others leave with it.
"""

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dwm_jax.runtime import processes

# From the signal to the end of the process, at the longest.
GRACE_SECONDS = 8.0

# Requests to stop. A terminal that is closed sends the last.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818 - it is a request, not an error
    """A signal asked the run to stop.

    Attributes:
      exit_code: 128 + the signal's number, as a shell reports it: 143 for SIGTERM, 130 for an interrupt, 129 for a
        terminal that was closed.
    """

    def __init__(self, number: int):
        self.exit_code = 128 + number
        super().__init__(f"stopped by {signal.Signals(number).name}; start the same command again to go on")


# The signal that has asked, process-wide as signals are.
_asked: list[int] = []


def is_requested() -> bool:
    """Whether a signal has asked the run to stop."""
    return bool(_asked)


def raise_if_requested() -> None:
    """Raises Interrupted if a signal has asked the run to stop; free otherwise."""
    if _asked:
        raise Interrupted(_asked[0])


def listened_signals() -> list[int]:
    """`SIGNALS`; without SIGHUP where it is ignored, as `nohup` has it."""
    return [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


@contextmanager
def listening() -> Iterator[None]:
    """Records `SIGNALS` inside the block, and ends the process where no `raise_if_requested` follows in time.

    For the main thread only. A second signal ends the process at once, unless it is one of several of a run.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # The interpreter writes a signal's number into the pipe even while compiled code keeps it from its handlers.
    earlier_fd = signal.set_wakeup_fd(writer)
    earlier = {number: signal.signal(number, lambda number, frame: None) for number in listened_signals()}
    watchdog = threading.Thread(target=_watch, args=(reader,), daemon=True)
    watchdog.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier_fd)
        for number, handler in earlier.items():
            signal.signal(number, handler)
        os.close(writer)  # the watchdog reads the end of the pipe and leaves
        watchdog.join()
        os.close(reader)
        _asked.clear()


def _watch(reader: int) -> None:
    """Waits for a signal, to this process or reported by another; then GRACE_SECONDS at most for the block to end."""
    number, deadline = None, float("inf")
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([reader], [], [], _patience(left))
        word = os.read(reader, 1) if ready else None
        if word == b"":
            return
        signalled = word[0] if word and word[0] in SIGNALS else processes.poll_others()
        if signalled is None:
            continue
        if number is None:
            number, deadline = signalled, time.monotonic() + GRACE_SECONDS
            if processes.is_first():
                _asked.append(number)
            else:
                processes.send_exit_code(128 + number)
        elif not processes.is_distributed():
            break
    assert number is not None
    processes.end_all(128 + number, f"{Interrupted(number)}; what was not saved yet is done again")


def _patience(left: float) -> float | None:
    """Seconds to sleep unless a signal comes; None is for ever."""
    if processes.is_distributed():
        return min(left, processes.POLL_SECONDS)
    return None if left == float("inf") else left
