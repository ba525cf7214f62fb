"""Runs on this machine: a pool of processes, one for each GPU, or as many as asked for, each with its cores."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

from dwm_jax.runtime import interruption, locks
from dwm_jax.runtime.progress import say

from ..children import end_with_parent
from .plan import PlannedRun

POLL_SECONDS = 0.1
# What runs get to save and leave in when the sweep fails, before they are killed.
GRACE_SECONDS = 20.0


class Devices(NamedTuple):
    """What jax finds."""

    backend: str  # "cpu", "gpu" or "tpu"
    number: int

    @property
    def per_run(self) -> int:
        """How many a run has: a GPU, or all that is not one."""
        return 1 if self.backend == "gpu" else self.number


class Place(NamedTuple):
    """Where a run goes on."""

    environment: Mapping[str, str] = {}
    cores: tuple[int, ...] | None = None  # the only ones it may use; None: any


class Outcome(NamedTuple):
    """How a run ended."""

    exit_code: int  # 0: well; negative: by that signal
    seconds: float

    @property
    def was_interrupted(self) -> bool:
        """Whether it was asked to stop, and has said so or was ended by it."""
        return any(self.exit_code in (-number, 128 + number) for number in interruption.SIGNALS)

    @property
    def is_elsewhere(self) -> bool:
        """Whether another process is at work on it."""
        return self.exit_code == locks.EXIT_CODE


def find_devices() -> Devices:
    """What jax finds on this machine; asked in a process of its own, which gives the devices back.

    Raises:
      ValueError: it finds none.
    """
    question = "import jax, json; print(json.dumps([jax.default_backend(), jax.local_device_count()]))"
    answer = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True)
    if answer.returncode:
        said = answer.stderr.strip().splitlines() or [f"its process left with {answer.returncode}, without a word"]
        raise ValueError(f"jax finds no device: {said[-1]}")
    return Devices(*json.loads(answer.stdout.splitlines()[-1]))


def make_places(found: Devices, workers: int | None, visible: str | None, cores: Sequence[int]) -> list[Place]:
    """Where runs may go on at the same time.

    Args:
      found: what jax sees; each GPU runs one run, all of a TPU's cores one together.
      workers: how many, where the user says.
      visible: CUDA_VISIBLE_DEVICES as it is, None where unset.
      cores: of the processor; on a CPU backend each run gets an equal part, for two runs that compute on the same
        cores are several times slower than one after the other. With fewer cores than runs they share all.

    Raises:
      ValueError: more workers than the devices allow.
    """
    if found.backend == "cpu":
        number = workers or 1
        if len(cores) < number:
            return [Place()] * number
        bounds = [len(cores) * index // number for index in range(number + 1)]
        return [Place(cores=tuple(cores[first:last])) for first, last in pairwise(bounds)]
    at_most = found.number // found.per_run
    if (workers or 1) > at_most:
        raise ValueError(
            f"--workers {workers}: {found.number} {found.backend} device(s) take {at_most} run(s) at a time"
        )
    if found.backend != "gpu":
        return [Place()]
    names = visible.split(",") if visible else [str(index) for index in range(found.number)]
    return [Place({"CUDA_VISIBLE_DEVICES": name}) for name in names[: workers or at_most]]


def usable_cores() -> list[int]:
    """The processor's cores that this process may use; none where the system does not say (macOS)."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def run_all(
    runs: Sequence[PlannedRun],
    places: Sequence[Place],
    started: Callable[[PlannedRun], None],
    ended: Callable[[PlannedRun, Outcome], None],
) -> int | None:
    """Every run, as many at a time as there are places; one that fails stops no other.

    SIGTERM and SIGINT are passed on to the runs, which save and leave; no other is started. A second signal is passed
    on too, and ends them at once. A terminal that was closed (SIGHUP) stops them as SIGTERM does. However this ends, by
    an error too, no run goes on: even where this process is killed, they are told to save and leave (Linux).

    Returns:
      The number of the signal that stopped it; None when all runs have ended.
    """
    waiting, free = deque(runs), list(places)
    running: dict[subprocess.Popen[bytes], tuple[PlannedRun, Place, float]] = {}
    passed_on = 0
    with collect_signals() as signals, end_children(running):
        while running or (waiting and not signals):
            while waiting and free and not signals:
                run, place = waiting.popleft(), free.pop(0)
                try:
                    running[start(run, place)] = (run, place, time.monotonic())
                except OSError as error:
                    say(f"{run.name} cannot be started: {error}")
                    started(run)
                    ended(run, Outcome(1, 0.0))
                    free.append(place)
                else:
                    started(run)
            for number in signals[passed_on:]:
                for child in running:
                    child.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)
                passed_on += 1
            for child in [child for child in running if child.poll() is not None]:
                run, place, since = running.pop(child)
                free.append(place)
                ended(run, Outcome(child.returncode, time.monotonic() - since))
            time.sleep(POLL_SECONDS)
        return signals[0] if signals else None


def start(run: PlannedRun, place: Place) -> subprocess.Popen[bytes]:
    """The run's process; what it prints goes to its log, after what earlier starts have printed."""
    run.workdir.mkdir(parents=True, exist_ok=True)
    with open(run.log, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, *run.command[1:]],
            env={**os.environ, **place.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C reaches the sweep alone, which passes it on once
            preexec_fn=end_with_parent(),
        )
    if place.cores:
        os.sched_setaffinity(process.pid, place.cores)  # jax counts its threads by it, long after this
    return process


@contextmanager
def end_children(running: Mapping[subprocess.Popen[bytes], object]) -> Iterator[None]:
    """Ends the children in `running` after the block, however it ends: they save, or are killed when they do not."""
    try:
        yield
    finally:
        children = list(running)
        for child in children:
            child.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for child in children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextmanager
def collect_signals() -> Iterator[list[int]]:
    """The signals that come inside the block, in their order."""
    signals: list[int] = []
    numbers = interruption.listened_signals()
    earlier = {number: signal.signal(number, lambda number, frame: signals.append(number)) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
