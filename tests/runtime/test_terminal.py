"""What a command prints: to a disk that is full, to a pipe that nobody reads, beside files that are in order."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO

import pytest

from dwm_jax.runtime import terminal

FULL = "error: standard output cannot be written: No space left on device\n"


@contextmanager
def full() -> Iterator[TextIO]:
    """Standard output is a disk without room; it is noticed where more than a buffer is written, or flushed."""
    with open("/dev/full", "w") as stream, redirect_stdout(stream):
        yield stream


@terminal.guard_output()
def goes_on_after_errors_of_files(text: str, *, flush: bool) -> None:
    for _ in range(3):
        with suppress(OSError, ValueError):
            print(text, flush=flush)


@pytest.mark.parametrize(("length", "flush"), [(1, False), (1, True), (100_000, False)])
def test_a_disk_that_is_full_ends_a_command_with_one_line(
    length: int, flush: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with full() as stream:
        with pytest.raises(SystemExit) as end:
            goes_on_after_errors_of_files(length * "x", flush=flush)
        stream.flush()  # as the interpreter does: nothing is left that could fail once more
    assert (end.value.code, capsys.readouterr().err) == (1, FULL)


def test_help_that_cannot_be_printed_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    @terminal.guard_output()
    def show_help() -> None:
        print("usage: ...")
        sys.exit(0)

    with full(), pytest.raises(SystemExit) as end:
        show_help()
    assert (end.value.code, capsys.readouterr().err) == (1, FULL)


def test_a_reader_who_has_seen_enough_ends_it_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream, redirect_stdout(stream), pytest.raises(SystemExit) as end:
        goes_on_after_errors_of_files("x", flush=True)
    assert (end.value.code, capsys.readouterr().err) == (terminal.PIPE_CLOSED, "")


def test_an_error_of_another_file_stays_what_it_is(tmp_path: Path) -> None:
    @terminal.guard_output()
    def read() -> None:
        (tmp_path / "none").read_text()

    with pytest.raises(FileNotFoundError):
        read()


def test_a_long_command_ends_well_where_what_it_shows_cannot_be_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @terminal.guard_output()
    def learn() -> str:
        terminal.show("a table")
        return "done"

    with full():
        assert learn() == "done"
    assert capsys.readouterr().err == ""
