"""One run at a time: a lock file that the operating system releases when its holder dies."""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dwm_jax.runtime import files, interruption, processes
from dwm_jax.runtime.progress import say

# A disk that cannot be written: nobody who could write there is kept out by a lock, and nobody is needed to.
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
# What a disk answers that takes no locks: NFS without its lock service, Lustre mounted without "flock".
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
# How often one that waits tries again.
POLL_SECONDS = 0.5


class InUseError(RuntimeError):
    """Another process holds the lock. It is worth trying again later: exit code `EXIT_CODE`."""


# EX_TEMPFAIL of sysexits.h: nothing is wrong, the same command goes on later. Schedulers may retry it.
EXIT_CODE = 75


@contextmanager
def exclusive(path: Path, *, wait: bool) -> Iterator[None]:
    """Holds the lock file `path` inside the block; of a run's processes the first holds it for all.

    On a disk that is read-only there is nothing to guard, and no lock is taken.

    Args:
      path: created where missing, with its folder; left in place (removing it would race).
      wait: wait for the holder to finish, which is said, or raise at once.

    Raises:
      InUseError: another process holds it and `wait` is False; the message names the process and its host.
      ValueError: the disk takes no locks; the message says how to mount it, or what else to do.
    """
    if not processes.is_first():
        yield
        return
    try:
        descriptor = _locked(path, wait)
    except files.WriteError as error:
        if getattr(error.__cause__, "errno", None) not in READ_ONLY:
            raise
        yield
        return
    try:
        with suppress(OSError):  # it only tells others whom they wait for
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _locked(path: Path, wait: bool) -> int:
    """The lock file, open and locked."""
    has_said = False
    while True:
        try:
            files.make_folder(path.parent)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise files.make_write_error(error, path) from error
        try:
            if _lock(descriptor, path):
                # Whoever takes over removes the file of a holder that is gone; a lock on that one keeps nobody out.
                if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
                os.close(descriptor)
                continue
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "unknown"
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        remedy = f"if that machine is gone and the file system kept its lock, delete {path}"
        if not wait:
            raise InUseError(f"{path.parent} is in use by process {holder}; {remedy} and start the same command again")
        if not has_said:
            say(f"waiting for process {holder}, which holds the lock on {path.parent}; {remedy}")
            has_said = True
        interruption.raise_if_requested()
        time.sleep(POLL_SECONDS)


def _lock(descriptor: int, path: Path) -> bool:
    """Whether the open file is locked now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise ValueError(
            f"{path}: this disk ({find_disk(path)}) takes no locks: {error.strerror}; without them two runs could "
            "write the same files. Mount it with locks (NFS: local_lock=flock, or a running lockd; Lustre: flock), or "
            "put the folder on another disk"
        ) from error


def find_disk(path: Path) -> str:
    """The kind and place of the disk that a file lies on, as /proc/mounts has it."""
    try:
        mounts = [line.split()[:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "of unknown kind"
    resolved = path.resolve()
    fitting = [(place, kind) for _, place, kind in mounts if resolved.is_relative_to(place)]
    place, kind = max(fitting, key=lambda mount: len(mount[0]), default=("?", "unknown kind"))
    return f"{kind} at {place}"


def is_held(path: Path) -> bool:
    """Whether a living process of this machine holds the lock file; asking disturbs nobody (Linux: /proc/locks)."""
    try:
        stat = path.stat()
        locks = Path("/proc/locks").read_text()
    except OSError:
        return False
    device = f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"
    return any(device in line.split() for line in locks.splitlines() if "FLOCK" in line and "->" not in line)
