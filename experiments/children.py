"""Processes that an experiment starts: none outlives the experiment.

For an experiment that leaves jax's devices alone: what is done here between fork and exec is not for a process that has
jax's threads.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

# Of <linux/prctl.h>: the signal that a process gets when its parent dies.
PR_SET_PDEATHSIG = 1


def end_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn` that has the child sent SIGTERM, to save and leave, when its parent dies. Linux only."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None, use_errno=True).prctl, os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was dead before
            os.kill(os.getpid(), signal.SIGTERM)

    return ask
