"""The arithmetic of a soak."""

import os
from pathlib import Path

import pytest

from experiments.soak import by_tenths, main, resident_mebibytes


def test_the_first_minute_does_not_count():
    # A sample every 10 s: 500 MiB at first, then 100 and, from 160 s on, 103.
    samples = [(s, 500.0 if s < 60 else 100.0 if s < 160 else 103.0) for s in range(0, 260, 10)]
    # A checkpoint every 1,000 updates: 50 s each at first, 20 s each after the first minute.
    checkpoints = [(30.0 + 50 * i, 1000 * (i + 1)) for i in range(3)] + [
        (130.0 + 20 * i, 3000 + 1000 * i) for i in range(1, 11)
    ]
    measured = by_tenths(samples, checkpoints)
    assert measured["memory_MiB"] == [100.0] * 5 + [103.0] * 5
    assert measured["updates_per_second"] == [50.0] * 10


def test_speed_of_a_tenth_is_updates_by_seconds():
    # Twenty intervals after the first minute, 10 s and 30 s in turn: 2,000 updates in 40 s everywhere.
    seconds, checkpoints = 70.0, [(0.0, 1000), (70.0, 2000)]
    for i in range(20):
        seconds += 10.0 if i % 2 == 0 else 30.0
        checkpoints.append((seconds, 3000 + 1000 * i))
    assert by_tenths([(60.0, 1.0)], checkpoints)["updates_per_second"] == [50.0] * 10


def test_a_run_that_saved_once_tells_nothing_about_its_speed():
    with pytest.raises(ValueError, match="fewer than two checkpoints"):
        by_tenths([(60.0, 1.0)], [(0.0, 1000), (70.0, 2000)])


def test_the_memory_of_this_process_is_a_sensible_number():
    assert 10 < resident_mebibytes(os.getpid()) < 100_000


@pytest.mark.parametrize("minutes", ["1", "nan", "inf", "-5"])
def test_a_soak_that_would_not_end_or_not_begin_is_refused(
    minutes: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("experiments.soak.soak", lambda workdir, seconds: pytest.fail("a run was started"))
    monkeypatch.setattr("sys.argv", ["soak", f"--minutes={minutes}", "--workdir", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert f"--minutes: {minutes} is not a number above 1" in capsys.readouterr().err
