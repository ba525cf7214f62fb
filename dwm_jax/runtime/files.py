"""The one way in which files are written: whole or not at all, and on the disk when the call returns.

A file is written aside, flushed, and renamed; so a kill, a full disk or a power cut at any moment leaves what was there
before. Rows are appended (`append`): a last line without its end was torn by a kill, and the next append drops it. A
file that cannot be read raises an error that names it, and the caller decides whether to go on without it.
"""

import errno
import io
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from dwm_jax.runtime.progress import one_line, say

# What lies beside a file while it is written, and after a kill until it is written again; nobody reads it.
PARTIAL = ".partial"
# Bytes that are read at a time from the end of a file.
BLOCK = 2**16


class WriteError(OSError):
    """A file cannot be written; one line says which, why, and that nothing was lost."""


class UnreadableError(ValueError):
    """A file does not hold what it should; one line says which and why."""


def write(path: Path, content: str | bytes) -> None:
    """Makes `content` the file's content, text as UTF-8, and its folder where there is none.

    A file that holds it already is left alone. What is no character, as in a name that is no UTF-8, is escaped.

    Raises:
      WriteError: the disk is full or cannot be written; the file is as it was.
    """
    content = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    if _holds(path, content):
        return
    aside = path.with_name(path.name + PARTIAL)
    try:
        make_folder(path.parent)
        with open(aside, "wb") as file:
            file.write(content)
            _flush_file(file)
        os.replace(aside, path)
        flush(path.parent)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise make_write_error(error, path) from error


def write_from(path: Path, save: Callable[[BinaryIO], object]) -> None:
    """`write` for code that wants an open file to save to: `save` gets one in memory.

    Raises:
      WriteError: as `write`.
    """
    buffer = io.BytesIO()
    save(buffer)
    write(path, buffer.getvalue())


def require_room(folder: Path, num_bytes: int) -> None:
    """Asks the disk for room before C code writes, which may crash where it is full: reserves it, and gives it back.

    Raises:
      OSError: there is none; `make_write_error` makes a line of it.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    aside = folder / f"room{PARTIAL}"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT)
    try:
        os.posix_fallocate(descriptor, 0, num_bytes)
    except OSError as error:
        if is_full(error):
            raise
        # Not every file system can reserve.
    finally:
        os.close(descriptor)
        aside.unlink()


def append(path: Path, text: str, header: str = "") -> None:
    """Appends whole lines; the first one of an empty file is `header`.

    Raises:
      WriteError: the disk is full or cannot be written; what the file had before is still there.
    """
    try:
        make_folder(path.parent)
        is_new = not path.exists()
        with open(path, "a+b") as file:
            whole = _end_of_whole_lines(file)
            file.truncate(whole)
            file.write(((header if whole == 0 else "") + text).encode())
            _flush_file(file)
        if is_new:
            flush(path.parent)
    except OSError as error:
        raise make_write_error(error, path) from error


def put_in_place(aside: Path, path: Path) -> None:
    """Gives a file or folder that others have written aside its name, all of it on the disk first.

    Raises:
      WriteError: it cannot be flushed or renamed; nothing is there under the name.
    """
    with named_in_errors(path):
        flush_tree(aside)
        os.replace(aside, path)
        flush(path.parent)


def free_name(path: Path) -> Path:
    """The path, or the first of PATH.2, PATH.3, ... that nothing has."""
    numbered = (path.with_name(f"{path.name}.{number}") for number in itertools.count(2))
    return next(one for one in itertools.chain([path], numbered) if not os.path.lexists(one))


def flush_tree(path: Path) -> None:
    """Brings a file, or a folder with all that is in it, to the disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            flush(Path(folder) / name)
        flush(Path(folder))
    if path.is_file():
        flush(path)


def flush(path: Path) -> None:
    """fsync of a file or folder by its name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network disks do not flush folders; they keep their order by themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """The folder and those it lies in, where they are missing."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    flush(folder.parent)


def refuse_tilde(path: Path) -> None:
    """Refuses a path that still begins with the ~ of a home folder: a folder of that name would be made here.

    A shell leaves the ~ of `--option=~/folder` alone, and everybody else takes it for a name.

    Raises:
      ValueError: with the remedy.
    """
    whole = os.path.expanduser(path)
    if whole != str(path):
        raise ValueError(f"{path}: the shell has left its ~ as it is; write the whole path, {whole} if that is meant")


def refuse_dangling(asked: str, folder: Path) -> Path:
    """What is there of a path, itself or the nearest folder above; refuses a link that leads to what is not there.

    Args:
      asked: what the user typed, for the line.

    Raises:
      ValueError: with where it leads: perhaps to a disk that is not mounted.
    """
    whole = folder.absolute()
    nearest = next(place for place in (whole, *whole.parents) if os.path.lexists(place))
    if not nearest.exists():
        raise ValueError(f"{asked}: {nearest} is a link to {os.readlink(nearest)}, which is not there; name another")
    return nearest


def refuse_unwritable(asked: str, folder: Path) -> None:
    """Refuses a folder, there or to be made, in which nothing can be written; before the work for it is done.

    Args:
      asked: what the user typed, for the line.

    Raises:
      ValueError: with where and why.
    """
    refuse_tilde(folder)
    nearest = refuse_dangling(asked, folder)
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise ValueError(f"{asked}: nothing can be written in {nearest}: {error.strerror}; name another") from error


def read_lines(path: Path) -> list[str]:
    """The whole lines of a file of rows; none where there is no file.

    Raises:
      UnreadableError: it is no text.
    """
    try:
        return [line for line in path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise make_unreadable_error(path, error) from error


def lines_backwards(path: Path) -> Iterator[str]:
    """The whole lines of a file of rows, the last one first, without their ends; none where there is no file.

    Reads no more of the file than is asked for.

    Raises:
      UnreadableError: it is no text.
    """
    try:
        with open(path, "rb") as file:
            end, rest, is_torn = file.seek(0, os.SEEK_END), b"", True
            while end:
                start = max(0, end - BLOCK)
                file.seek(start)
                first, *whole = (file.read(end - start) + rest).split(b"\n")
                if is_torn and whole:
                    whole.pop()  # what follows the last end of a line
                    is_torn = False
                for line in reversed(whole):
                    yield line.decode("utf-8")
                end, rest = start, first
            if not is_torn:
                yield rest.decode("utf-8")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise make_unreadable_error(path, error) from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
      FileNotFoundError: there is no file.
      UnreadableError: it holds something else, or nothing.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise make_unreadable_error(path, error) from error
    if not isinstance(content, dict):
        raise UnreadableError(f"{path} cannot be read: no JSON object")
    return content


def find_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file that can be made again; None where it is absent or, with a printed line, unreadable."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
    except UnreadableError as error:
        say(f"{error}; it is taken as absent")
        return None


def make_unreadable_error(path: Path, error: BaseException) -> UnreadableError:
    """The error of a file that cannot be read, in one line."""
    reason = "it is empty" if _is_empty(path) else one_line(error)[:200] or type(error).__name__
    return UnreadableError(f"{path} cannot be read: {reason}")


def is_full(error: OSError) -> bool:
    """Whether the disk, a quota or the largest size of a file is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Turns an OSError of the block into a WriteError that names `path`; one that names its file already stays."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise make_write_error(error, path) from error


def make_write_error(error: OSError, path: Path) -> WriteError:
    """The error of a file that cannot be written, in one line, with the remedy."""
    reason = error.strerror or one_line(error)
    remedy = ". Make room and start the same command again" if is_full(error) else ""
    return WriteError(f"cannot write {path}: {reason}; what was there before is still there{remedy}")


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return False


def _end_of_whole_lines(file: BinaryIO) -> int:
    """Where a line that was torn begins; the end of a file without one."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    if not size or file.read(1) == b"\n":
        return size
    file.seek(0)
    return file.read().rfind(b"\n") + 1


def _flush_file(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
