"""What a display of progress says off a terminal, with a clock that stands where it is put."""

import time
from collections.abc import Callable, Sequence

import pytest

from dwm_jax.runtime.progress import ProgressDisplay, one_line

# (total, (second, step) of each time it is told how far it is) -> the lines.
Said = Callable[[int, Sequence[tuple[float, int]]], list[str]]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    def of(total: int, moments: Sequence[tuple[float, int]]) -> list[str]:
        now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        display = ProgressDisplay("learning", total, 0, None)
        for now, step in moments:  # noqa: B007, the clock reads it
            display.advance(step, "loss 1")
        return capsys.readouterr().err.splitlines()

    return of


def test_the_speed_leaves_out_the_first_steps_whose_program_is_compiled(said: Said) -> None:
    # The first 100 took a minute, most of it for the compiler. Then 100 in 25 s are 4 a second: 800 more in 200 s.
    assert said(1_000, [(60, 100), (85, 200), (110, 300)]) == [
        "learning: step 100/1,000  loss 1",
        "learning: step 200/1,000, 4/s, 3:20 left  loss 1",
        "learning: step 300/1,000, 4/s, 2:55 left  loss 1",
    ]


def test_a_line_ends_with_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    ProgressDisplay("planning", 1, 0, None).advance(1)
    assert capsys.readouterr().err == "planning: step 1/1\n"


def test_lines_are_seconds_apart_and_the_last_is_always_said(said: Said) -> None:
    assert said(300, [(1, 100), (2, 200), (3, 300)]) == ["learning: step 300/300, 100/s, 0:00 left  loss 1"]


def test_an_error_without_a_text_of_its_own_is_said_too() -> None:
    assert one_line(ValueError("two\nlines")) == "two lines"
    assert one_line(MemoryError()) == "this machine has too little memory; ask for less of whatever is large."
