"""Locks: who holds one, on which machine; disks that take none; taking over what outlived its machine."""

import errno
import fcntl
import os
import socket
from pathlib import Path

import pytest

from dwm_jax.runtime import locks
from dwm_jax.runtime.locks import InUseError, exclusive

HOLDER = f"{os.getpid()} on {socket.gethostname()}"


def test_the_holder_is_named_with_its_host_and_the_way_to_take_over(tmp_path: Path) -> None:
    path = tmp_path / "run" / ".lock"
    with exclusive(path, wait=False):
        with pytest.raises(InUseError) as refused, exclusive(path, wait=False):
            pass
        assert str(refused.value) == (
            f"{path.parent} is in use by process {HOLDER}; if that machine is gone and the file system kept its lock, "
            f"delete {path} and start the same command again"
        )


def test_a_lock_that_outlived_its_machine_is_taken_over_by_removing_its_file(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with exclusive(path, wait=False):  # stands for a disk that keeps the lock of a machine that is gone
        path.unlink()
        with exclusive(path, wait=False), pytest.raises(InUseError), exclusive(path, wait=False):
            pass


def test_one_that_waits_says_for_whom_and_notices_a_take_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ".lock"
    waited = 0

    def remove_the_file_at_last(seconds: float) -> None:
        nonlocal waited
        waited += 1
        if waited == 3:
            path.unlink()

    monkeypatch.setattr(locks.time, "sleep", remove_the_file_at_last)
    with exclusive(path, wait=False), exclusive(path, wait=True):
        pass
    assert waited == 3
    (line,) = capsys.readouterr().err.splitlines()  # once, however long it takes
    assert line.startswith(
        f"waiting for process {os.getpid()} on {socket.gethostname()}, which holds the lock on {tmp_path}"
    )


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_without_locks_is_one_line_with_the_file_the_disk_and_the_way_round(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / ".lock"
    with pytest.raises(ValueError, match=rf"^{path}: this disk \(\w+ at /.*\) takes no locks: .*NFS: local_lock=flock"):
        exclusive(path, wait=False).__enter__()


def test_a_full_disk_does_not_keep_a_lock_from_being_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with exclusive(tmp_path / ".lock", wait=False), pytest.raises(InUseError, match="in use by process unknown"):
        exclusive(tmp_path / ".lock", wait=False).__enter__()
