"""Faults, injected at every write: what a kill leaves, and a disk that is full from one write on.

Python's audit hooks tell of every file that is opened for writing, every folder that is made and every name that is
changed, by whomever: this package, orbax, Minari. What C code writes in between (arrays, HDF5) shows as files that
differ between two such moments. A process that is killed leaves its files as they are; so its kill at the n-th write is
a copy of them, taken there, and one run yields all of them.
"""

import builtins
import errno
import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dwm_jax.runtime import files

# (event, path): called before it happens; may raise.
Watch = Callable[[str, Path], None]
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink")
_watches: list[tuple[Path, Watch]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watches or (event != "open" and event not in _CHANGES):
        return
    if event == "open" and not (
        isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    ):
        return
    if not isinstance(arguments[0], str | bytes | os.PathLike):
        return
    path = Path(os.fsdecode(arguments[0]))
    at = next((argument for argument in arguments[1:] if isinstance(argument, int) and argument > 2), None)
    if not path.is_absolute() and event in ("os.remove", "os.rmdir") and at is not None:
        path = Path(os.readlink(f"/proc/self/fd/{at}")) / path
    root, watch = _watches[-1]
    is_there = event == "os.mkdir" and path.exists()  # asked for in case it is not
    if path.is_relative_to(root) and not is_there:
        watch(event, path)


@contextmanager
def watching(root: Path, watch: Watch) -> Iterator[None]:
    """`watch` is told of every write below `root` inside the block."""
    if not _watches and _hear not in _installed:
        sys.addaudithook(_hear)
        _installed.append(_hear)
    _watches.append((root, watch))
    try:
        yield
    finally:
        _watches.pop()


_installed: list[Callable[..., None]] = []  # hooks stay for the life of a process


# ------------------------------------------------------------------------------------------------- kills


def states_of_kills(root: Path, states: Path, command: Callable[[], None]) -> list[Path]:
    """Runs the command, and returns copies of `root` as a kill at any of its writes would have left it.

    Two for each: before it, and with half of what it wrote. Equal ones are one.
    """
    seen: set[str] = set()
    kept: list[Path] = []
    before: list[Path] = []
    one_at_a_time = threading.Lock()  # orbax writes from several threads

    def keep(folder: Path) -> None:
        if (digest := digest_of(folder)) not in seen:
            seen.add(digest)
            kept.append(folder)

    def take(event: str = "", path: Path = root) -> None:
        with one_at_a_time:
            before.append(copied(root, states / f"{len(before)}"))

    with watching(root, take):
        command()
    take()
    for earlier, later in zip([None, *before[:-1]], before, strict=True):
        if earlier is not None and (torn := half_written(earlier, later, states / f"torn-{later.name}")):
            keep(torn)
        keep(later)
    return kept


def copied(folder: Path, target: Path) -> Path:
    """A copy of a folder in which another thread may just be renaming something."""
    for _ in range(100):
        try:
            shutil.copytree(folder, target, symlinks=True)
            return target
        except (OSError, shutil.Error):
            shutil.rmtree(target)
    raise RuntimeError(f"{folder} never stands still")


def half_written(earlier: Path, later: Path, folder: Path) -> Path | None:
    """`later` with half of what each file has more than in `earlier`; None where none has."""
    # What has only got another name is whole.
    there = {path.read_bytes() for path in earlier.rglob("*") if path.is_file()}
    written = [path for path in later.rglob("*") if path.is_file() and path.stat().st_size]
    changed = [path.relative_to(later) for path in written if path.read_bytes() not in there]
    if not changed:
        return None
    shutil.copytree(later, folder, symlinks=True)
    for name in changed:
        content, old = (folder / name).read_bytes(), earlier / name
        was = old.read_bytes() if old.is_file() else b""
        kept = len(was) if content.startswith(was) else 0
        (folder / name).write_bytes(content[: kept + (len(content) - kept) // 2])
    return folder


def digest_of(folder: Path) -> str:
    """Of all names and contents."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)}\0{path.is_dir()}\0".encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


# --------------------------------------------------------------------------------------------- full disk


class _Half:
    """An open file on a disk that takes half of what is written to it."""

    def __init__(self, file: Any):
        self._file = file

    def write(self, content: bytes) -> int:
        self._file.write(content[: len(content) // 2])
        self._file.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __enter__(self) -> "_Half":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def full_disk(root: Path, first: int, monkeypatch: Any) -> Iterator[list[str]]:
    """From the `first`-th write below `root` on the disk takes no more: files come to half, folders not at all.

    Yields:
      The writes that were refused.
    """
    count = 0
    refused: list[str] = []

    def watch(event: str, path: Path) -> None:
        nonlocal count
        count += 1
        if count < first or event in ("os.rename", "os.remove", "os.rmdir", "os.truncate"):
            return  # which need no room
        refused.append(f"{event} {path}")
        if not by_files:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    by_files = False

    def half_open(path: Any, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        nonlocal by_files
        by_files = True
        refusals = len(refused)
        try:
            file = builtins.open(path, mode, *arguments, **keywords)  # noqa: SIM115
        finally:
            by_files = False
        return _Half(file) if len(refused) > refusals else file

    with monkeypatch.context() as patch:
        patch.setattr(files, "open", half_open, raising=False)
        with watching(root, watch):
            yield refused
