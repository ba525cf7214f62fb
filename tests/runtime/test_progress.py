"""What a phase says off a terminal, with a clock that stands where it is put."""

import time

import pytest

from dwm_jax.runtime.progress import Phase


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One number, the time; what is written into it is read by the phase."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_speed_leaves_out_the_first_steps_whose_program_is_compiled(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    phase = Phase("learning", 1_000, 0, None)
    for second, step in ((60.0, 100), (85.0, 200), (110.0, 300)):
        clock[0] = second
        phase.advance(step, "loss 1")
    # The first 100 took a minute, most of it for the compiler. Then 100 in 25 s are 4 a second: 800 more in 200 s.
    assert capsys.readouterr().err.splitlines() == [
        "learning: step 100/1,000  loss 1",
        "learning: step 200/1,000, 4/s, 3:20 left  loss 1",
        "learning: step 300/1,000, 4/s, 2:55 left  loss 1",
    ]


def test_lines_are_seconds_apart_and_the_last_is_always_said(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    phase = Phase("learning", 300, 0, None)
    for second, step in ((1.0, 100), (2.0, 200), (3.0, 300)):
        clock[0] = second
        phase.advance(step)
    assert capsys.readouterr().err == "learning: step 300/300, 100/s, 0:00 left  \n"
