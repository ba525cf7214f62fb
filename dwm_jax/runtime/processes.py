"""Several processes of one run, as on a pod: process 0 decides, reads and writes; the others compute along.

All processes run the same program and meet in the same computations. Only process 0 touches files and the simulator;
what it reads, and how it decides, the others get from it (`call_on_first`), so they need not see its disk. Only process
0 has state to save; the others can be ended at any moment. When process 0 exits, all exit with its code. A signal or an
error in another process is reported to process 0 first.

In a single process everything here does nothing.
"""

import itertools
import os
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

Result = TypeVar("Result")

# How often a process looks whether another has word for it.
POLL_SECONDS = 0.25
# How long an exiting process stays so that the others see its code, and a failed one waits for process 0's code.
FAREWELL_SECONDS, PATIENCE_SECONDS = 1.0, 3.0
# Process 0 may evaluate, or wait for a lock, as long as it takes.
_FOREVER_MILLISECONDS = 30 * 24 * 3600 * 1000
# What travels over the devices at once; one size, so that one program is compiled.
_CHUNK_BYTES = 4 * 2**20
# Where exit codes are left: for process 0, and by it.
_TO_FIRST, _TO_OTHERS = "dwm_jax/to_first", "dwm_jax/to_others"
_calls = itertools.count()


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the other processes, before any other call of jax.

    Args:
      coordinator: HOST:PORT of process 0; None reads all three from the environment (Slurm, TPU, Kubernetes, Open MPI).
      num_processes, process_id: of the run, and of this process.

    Raises:
      ValueError: the environment does not say.
      RuntimeError: the others cannot be reached.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # type: ignore[no-untyped-call]
    jax.distributed.initialize(
        coordinator, num_processes, process_id, cluster_detection_method="deactivate" if coordinator else None
    )


def connect_devices() -> None:
    """Connects the devices of all processes, before each goes its own way between computations.

    Devices that compute together for the first time must do so within half a minute; once connected they wait for
    each other, and one may take minutes longer to compile.
    """
    if is_distributed():
        ones = np.ones(jax.local_device_count(), np.float32)
        jax.block_until_ready(jax.pmap(lambda one: jax.lax.psum(one, "all"), axis_name="all")(ones))  # type: ignore[no-untyped-call]
        _broadcast(b"", 1)


def is_distributed() -> bool:
    """Whether the run has more than one process. Wakes no device."""
    return jax.distributed.is_initialized() and _joined().num_processes > 1


def is_first() -> bool:
    """Whether this process decides and writes. Wakes no device."""
    return not is_distributed() or _joined().process_id == 0


def call_on_first(function: Callable[[], Result]) -> Result:
    """function() as process 0 found it, on every process; the others wait and do not call it.

    All processes must come here in the same order. The result travels pickled. An error in it ends the run.

    Args:
      function: computes on this process's devices at most; what needs the others would wait for them for ever.
    """
    if not is_distributed():
        return function()
    # The others wait here, on the host: how long a computation waits for one that is late is each backend's own.
    key = f"dwm_jax/call_on_first/{next(_calls)}"
    if is_first():
        result = function()
        pickled = pickle.dumps(result)
        _store().key_value_set(key, str(len(pickled)))
        _broadcast(pickled, len(pickled))
        return result
    size = int(_store().blocking_key_value_get(key, _FOREVER_MILLISECONDS))
    return pickle.loads(_broadcast(b"", size))  # type: ignore[no-any-return]


def finish() -> None:
    """The end of a run without errors: the others stay until process 0, which writes the report, is done."""
    if is_distributed() and is_first():
        send_exit_code(0)
    elif is_distributed():
        while receive_exit_code() is None:
            time.sleep(POLL_SECONDS)
        _follow(0.0)


def end_all(code: int, line: str) -> NoReturn:
    """Ends this process with that exit code at once, and all others with it; `line` says why."""
    if not is_first():
        # Mostly a computation has failed here because another process exited; process 0 has printed why.
        _follow(PATIENCE_SECONDS)
        line = f"process {_joined().process_id}: {line}"
    print(line, file=sys.stderr, flush=True)
    send_exit_code(code)
    _follow(FAREWELL_SECONDS if is_first() else PATIENCE_SECONDS)
    _exit(code)


def send_exit_code(code: int) -> None:
    """Process 0 tells all others to leave with `code`; another asks process 0 to."""
    if is_distributed():
        _store().key_value_set(_TO_OTHERS if is_first() else _TO_FIRST, str(code), allow_overwrite=True)


def receive_exit_code() -> int | None:
    """The exit code that this process was told, or asked, to leave with; None where it was not."""
    if not is_distributed():
        return None
    try:
        return int(_store().key_value_try_get(_TO_FIRST if is_first() else _TO_OTHERS))
    except jax.errors.JaxRuntimeError:
        return None


def poll_others() -> int | None:
    """For a watching thread: the number of a signal that reached another process; only process 0 gets one.

    Does not return where this process has to leave.
    """
    code = receive_exit_code()
    if not code:
        return None
    if is_first() and code > 128:
        return code - 128
    if is_first():
        end_all(code, "error: another process failed, see above or its own log; start the same command again to go on")
    _exit(code)


def _follow(seconds: float) -> None:
    """Exits as process 0 does if its exit code comes within the time; process 0 itself just waits for the others."""
    until = time.monotonic() + seconds
    while is_distributed():
        code = None if is_first() else receive_exit_code()
        if code:
            _exit(code)
        if time.monotonic() >= until:
            return
        time.sleep(POLL_SECONDS)


def _exit(code: int) -> NoReturn:
    # Not sys.exit: its clean-up waits for processes that may be stuck in a computation.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _joined() -> Any:
    """jax's own record of the processes it has joined: client of the key-value store, number, process_id.

    jax has no public name for the store; this is the one private module that is used, and only by several processes.

    Raises:
      RuntimeError: this jax keeps it elsewhere; one process by itself runs all the same.
    """
    try:
        from jax._src import distributed

        return distributed.global_state
    except (ImportError, AttributeError) as error:
        raise RuntimeError(
            f"jax {jax.__version__} does not say how its processes are joined ({error}); run in one process, or with a "
            "version that requirements.txt names"
        ) from error


def _store() -> Any:
    return _joined().client


def _broadcast(sent: bytes, size: int) -> bytes:
    """`sent` of process 0, over the devices."""
    received = []
    for first in range(0, size, _CHUNK_BYTES):
        chunk = np.frombuffer(sent[first : first + _CHUNK_BYTES].ljust(_CHUNK_BYTES, b"\0"), np.uint8)
        received.append(multihost_utils.broadcast_one_to_all(chunk).tobytes())
    return b"".join(received)[:size]
