"""One file from the first mirror that gives it, resumed where it broke off."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from dwm_jax.runtime import files, interruption

CHUNK = 1 << 20
TIMEOUT_SECONDS = 30.0
# A connection that breaks off is taken up again, as long as every attempt brings something.
MOST_ATTEMPTS = 20
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Known(NamedTuple):
    """What a file must be to be the one that is meant."""

    size: int  # bytes
    sha256: str


class DownloadError(ValueError):
    """No mirror gave the file; the message lists what each one did."""


def fetch(
    urls: Sequence[str],
    target: Path,
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
    known: Known | None = None,
) -> str:
    """Downloads an HDF5 file to `target` and returns the address that gave it.

    Bytes go to a `.part` file beside the target, one per mirror, and stay there when a download is interrupted: the
    next call goes on from them, if the server says that its file is still the same (`If-Range` with the ETag or the
    date of the first bytes, kept beside the part), and begins again if it does not. The file gets its name when its
    size is the size the server announced, and when it is the one that is meant.

    Args:
      urls: the same file on several mirrors, tried in order.
      known: what the file must be; a mirror that sends another one is as good as one that has none. None where
        nobody has published it.
      on_progress: (bytes so far, bytes in all where known), after every chunk.

    Raises:
      DownloadError: every mirror failed.
      Interrupted: a signal asked; the part stays.
    """
    files.make_folder(target.parent)
    failures = []
    for url in urls:
        part = target.with_name(f"{target.name}.{digest(url.encode())[:8]}.part")
        try:
            _fetch_one(url, part, on_progress, known)
        except (OSError, http.client.HTTPException, DownloadError) as error:
            failures.append(f"{urlsplit(url).netloc}: {_reason(error)}")
            continue
        files.put_in_place(part, target)
        _validator_of(part).unlink(missing_ok=True)
        return url
    raise DownloadError(
        f"no mirror gave {target.name} ({'; '.join(failures)}); get the file by other means and name it with --file"
    )


def digest(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    running = sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            interruption.raise_if_requested()
            running.update(chunk)
    return running.hexdigest()


def _fetch_one(url: str, part: Path, on_progress: Callable[[int, int | None], None], known: Known | None) -> None:
    size, total = _size(part), None
    for _ in range(MOST_ATTEMPTS):
        before = size
        try:
            total = _attempt(url, part, before, on_progress, known)
        except (OSError, http.client.HTTPException):
            if _size(part) <= before:
                raise
        size = _size(part)
        if (total is not None and size >= total) or size <= before:
            break
    if total is not None and size != total:
        if size > total:
            _forget(part)
        raise DownloadError(f"sent {size:,} of the {total:,} bytes it announced")
    with open(part, "rb") as file:
        signature = file.read(len(HDF5_SIGNATURE))
    if signature != HDF5_SIGNATURE:
        _forget(part)
        raise DownloadError("sent something that is not an HDF5 file")
    if known is not None and (size, found := file_digest(part)) != known:
        _forget(part)
        raise DownloadError(
            f"sent another file: {size:,} bytes with SHA-256 {found[:12]}..., not {known.sha256[:12]}..."
        )


def _validator_of(part: Path) -> Path:
    """Holds what the server said of the file whose first bytes are in `part`: its ETag, or its date."""
    return part.with_name(f"{part.name}.etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_of(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _attempt(
    url: str, part: Path, offset: int, on_progress: Callable[[int, int | None], None], known: Known | None
) -> int | None:
    """Appends to `part` what the server sends from `offset` on; returns the size of the whole file, if announced."""
    validator = _validator_of(part)
    headers = {}
    if offset and validator.exists():
        headers = {"Range": f"bytes={offset}-", "If-Range": validator.read_text()}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not offset:
            raise
        # Nothing is left to send - or the file has shrunk since, and is begun again.
        total = _total_of_range(error.headers.get("Content-Range"))
        if total != offset:
            _forget(part)
            return _attempt(url, part, 0, on_progress, known)
        return total
    with response, open(part, "ab") as file:
        resumed = response.status == HTTPStatus.PARTIAL_CONTENT
        if not resumed:  # the file is another one now, or the server ignores ranges: it sends everything
            file.truncate(0)
            offset = 0
            _keep_validator(response, validator)
        total = _announced(response, resumed)
        if known is not None and total is not None and total != known.size:
            _forget(part)
            raise DownloadError(f"has another file: {total:,} bytes, not {known.size:,}")
        while chunk := response.read(CHUNK):
            file.write(chunk)
            offset += len(chunk)
            on_progress(offset, total)
            interruption.raise_if_requested()
    return total


def _keep_validator(response: Any, validator: Path) -> None:
    """Keeps what identifies the file: a strong ETag, which `If-Range` asks for, else the date of its last change."""
    etag = response.headers.get("ETag", "")
    said = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
    if said:
        validator.write_text(said)
    else:
        validator.unlink(missing_ok=True)


def _announced(response: Any, resumed: bool) -> int | None:
    if resumed:
        return _total_of_range(response.headers.get("Content-Range"))
    length = response.headers.get("Content-Length")
    return int(length) if length is not None else None


def _total_of_range(header: str | None) -> int | None:
    total = (header or "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    text = str(reason if reason else error) or type(error).__name__
    return f"HTTP {error.code} {text}" if isinstance(error, urllib.error.HTTPError) else text
