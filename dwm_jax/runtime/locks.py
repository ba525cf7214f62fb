"""One run at a time: a lock file that the operating system releases when its holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dwm_jax.runtime import processes


class InUseError(RuntimeError):
    """Another living process holds the lock."""


@contextmanager
def exclusive(path: Path, *, wait: bool) -> Iterator[None]:
    """Holds the lock file `path` inside the block; of a run's processes the first holds it for all.

    Args:
      path: created where missing, with its folder; left in place (removing it would race).
      wait: wait for the holder to finish, or raise at once.

    Raises:
      InUseError: another process holds it and `wait` is False; the message names the process.
    """
    if not processes.is_first():
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise InUseError(f"{path.parent} is in use by process {holder}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_held(path: Path) -> bool:
    """Whether a living process of this machine holds the lock file; asking disturbs nobody (Linux: /proc/locks)."""
    try:
        stat = path.stat()
        locks = Path("/proc/locks").read_text()
    except OSError:
        return False
    device = f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"
    return any(device in line.split() for line in locks.splitlines() if "FLOCK" in line and "->" not in line)
