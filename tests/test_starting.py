"""What a command does before its modules are imported: interrupts, closed streams; a library's user sees none of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dwm_jax import starting
from dwm_jax.runtime import terminal

ROOT = Path(__file__).parents[1]
# Imports the package as `python -m NAME` does, then does `then`.
BEGIN = "import os, signal, sys; sys.orig_argv = ['python', *{given}]; import dwm_jax; {then}"
INTERRUPT = "os.kill(os.getpid(), signal.SIGINT); print('goes on')"


def begin(given: list[str], then: str) -> subprocess.CompletedProcess[str]:
    program = BEGIN.format(given=given, then=then)
    # A shell's background jobs ignore interrupts, and so would the tests' own.
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize(
    ("program", "given", "expected"),
    [
        ("-m", ["-m", "dwm_jax.train", "--config", "smoke"], True),
        ("-m", ["-W", "ignore", "-m", "experiments.sweep", "main"], True),
        ("/usr/bin/dwm-train", ["/usr/bin/dwm-train", "--config", "smoke"], True),
        ("-m", ["-m", "pytest", "dwm_jax.train"], False),
        ("mine.py", ["mine.py"], False),
        ("", [], False),
        ("", ["-m"], False),
    ],
)
def test_a_command_is_told_from_a_program_that_imports_the_package(
    program: str, given: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setattr(sys, "orig_argv", ["python", *given])
    assert starting.is_command() is expected


def test_an_interrupt_ends_a_command_that_is_still_importing() -> None:
    ended = begin(["-m", "dwm_jax.train"], INTERRUPT)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


def test_an_interrupt_stays_a_keyboard_interrupt_for_a_program_that_imports_the_package() -> None:
    ended = begin(["mine.py"], INTERRUPT)
    assert ended.stderr.strip().endswith("KeyboardInterrupt")


def test_a_command_that_prints_answers_an_interrupt_with_130() -> None:
    then = f"from dwm_jax.runtime import terminal\nwith terminal.guard_output():\n    {INTERRUPT}"
    ended = begin(["-m", "dwm_jax.data"], f"exec({then!r})")
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_interrupts_that_are_ignored_stay_ignored() -> None:
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        starting.prepare()
        with terminal.guard_output():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, earlier)


def test_a_folder_that_has_gone_is_no_place_to_start_a_command_in(tmp_path: Path) -> None:
    program = "import os; os.rmdir(os.getcwd()); " + BEGIN.format(given=["-m", "dwm_jax.data"], then="print('goes on')")
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    line = "error: the folder that this command was started in is no longer there; change to another one\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", line)


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_a_closed_stream_leads_to_nothing_and_not_to_the_next_file(descriptor: int) -> None:
    # The name is written to the file descriptors that are open, the next of which is none of the three.
    program = BEGIN.format(
        given=["-m", "dwm_jax.data"],
        then="file = open(os.devnull); assert file.fileno() > 2, file; print('out'); print('err', file=sys.stderr)",
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        preexec_fn=lambda: os.close(descriptor),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ("" if descriptor == 1 else "out\n")
    assert ended.stderr == ("" if descriptor == 2 else "err\n")
