"""What a command needs before its other modules are imported, which takes seconds."""

import os
import signal
import sys

PACKAGES = ("dwm_jax", "experiments")


def is_command() -> bool:
    """Whether this process is one of the commands here: `python -m dwm_jax.train`, `dwm-train` and so on."""
    if os.path.basename(sys.argv[0] if sys.argv else "").startswith("dwm-"):
        return True
    given = sys.orig_argv[1:]
    module = given[given.index("-m") + 1 :][:1] if "-m" in given else []
    return bool(module) and module[0].split(".")[0] in PACKAGES


def prepare() -> None:
    """Makes an interrupt end the process at once, and closed standard streams lead to nothing; leaves with a line where
    the folder that it was started in has gone.

    An interrupt while modules are imported would be a traceback, or be lost in a library's callback. It is heard again
    from `heed_interrupts` on, or while `interruption.listening`. A stream that was closed by who started the command
    would be the next file that is opened, or fail a library that starts a process.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free, which is this one; processes that are started have it, too.
            os.set_inheritable(os.open(os.devnull, flags), True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    try:
        os.getcwd()
    except FileNotFoundError:  # libraries ask for it as they are imported
        sys.exit("error: the folder that this command was started in is no longer there; change to another one")


def heed_interrupts() -> None:
    """From here on an interrupt is a KeyboardInterrupt again; where they are ignored they stay ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
