"""The loop of a phase: updates, dispatches, data made anew - and a program compiled once."""

import errno
import os
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import pytest

from dwm_jax.phases.phase import Cadence, Evaluation, Phase, RunError
from dwm_jax.runtime.files import UnreadableError
from dwm_jax.runtime.locks import exclusive
from dwm_jax.runtime.parallel import repeat_update
from dwm_jax.runtime.row_files import JsonLines
from dwm_jax.train import run_phase
from tests import faults

CADENCE = Cadence(updates_per_dispatch=5, checkpoint_every=10, evaluate_every=10)


def test_dispatches_refreshed_data_and_checkpoints_do_not_compile_again(tmp_path: Path) -> None:
    made_at: list[int] = []

    @chex.assert_max_traces(n=1)
    def update(total: jax.Array, summand: jax.Array, step: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        return total + summand * step, {"total": total}

    def make_data(total: jax.Array, step: int) -> tuple[jax.Array, jax.Array]:
        made_at.append(step)
        return total, jnp.asarray(1.0 if step < 10 else 100.0)

    phase = Phase(
        name="adding",
        folder=tmp_path,
        updates=repeat_update(update),
        make_state=lambda: jnp.zeros(()),
        make_data=make_data,
        num_updates=20,
        finish=lambda total, seconds: float(total),
        refresh_every=10,
    )
    # 0 + 1 + ... + 9 = 45 with the first data, 10 + ... + 19 = 145 with the second: 45 + 14,500
    assert run_phase(phase, CADENCE) == 14_545
    assert made_at == [0, 10]
    assert [row["step"] for row in JsonLines(tmp_path / "metrics.jsonl").read()] == [5, 10, 15, 20]


def test_a_phase_that_goes_on_does_not_compute_its_first_state(tmp_path: Path) -> None:
    computed = []

    def make_state() -> jax.Array:
        total = jnp.zeros(())
        if not isinstance(total, jax.core.Tracer):
            computed.append(total)
        return total

    def update(total: jax.Array, summand: jax.Array, step: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        return total + summand, {"total": total}

    def run(num_updates: int) -> float:
        phase = Phase(
            name="adding",
            folder=tmp_path,
            updates=repeat_update(update),
            make_state=make_state,
            make_data=lambda total, step: (total, 1.0),
            num_updates=num_updates,
            finish=lambda total, seconds: float(total),
        )
        return run_phase(phase, CADENCE)

    assert [run(10), run(20), run(20)] == [10, 20, 20]
    assert len(computed) == 1


def test_the_last_evaluation_is_made_up_for_where_it_is_missing(tmp_path: Path) -> None:
    evaluated: list[int] = []
    phase = Phase(
        name="adding",
        folder=tmp_path,
        updates=repeat_update(lambda total, summand, step: (total + summand, {"total": total})),
        make_state=lambda: jnp.zeros(()),
        make_data=lambda total, step: (total, 1.0),
        num_updates=25,
        finish=lambda total, seconds: float(total),
        evaluation=Evaluation(lambda total, step: evaluated.append(step) or "", lambda step: step in evaluated),
    )
    run_phase(phase, CADENCE)
    assert evaluated == [10, 20, 25]
    run_phase(phase, CADENCE)
    assert evaluated == [10, 20, 25]
    evaluated.remove(25)
    run_phase(phase, CADENCE)
    assert evaluated == [10, 20, 25]


def adding(folder: Path, num_updates: int) -> Phase[float]:
    """0 + 1 + 2 + ...: the number of each update is added."""
    return Phase(
        name="adding",
        folder=folder,
        updates=repeat_update(lambda total, one, step: (total + one * step, {"total": total})),
        make_state=lambda: jnp.zeros(()),
        make_data=lambda total, step: (total, 1.0),
        num_updates=num_updates,
        finish=lambda total, seconds: float(total),
    )


def test_a_phase_taken_over_with_other_dispatches_realigns_and_ends_exactly_at_its_last_update(tmp_path: Path) -> None:
    assert run_phase(adding(tmp_path, 4), Cadence(4, 4, 4)) == 0 + 1 + 2 + 3
    assert run_phase(adding(tmp_path, 20), Cadence(6, 6, 6)) == 190  # 19 * 20 / 2
    assert [row["step"] for row in JsonLines(tmp_path / "metrics.jsonl").read()] == [4, 6, 12, 18, 20]


def test_a_checkpoint_beyond_the_last_update_is_refused(tmp_path: Path) -> None:
    run_phase(adding(tmp_path, 20), CADENCE)
    with pytest.raises(RunError, match=r"checkpoint 20 in .*/checkpoints/adding lies beyond the 10 updates asked for"):
        run_phase(adding(tmp_path, 10), CADENCE)


def test_damaged_times_stop_no_phase_and_damaged_metrics_say_what_to_do(tmp_path: Path) -> None:
    run_phase(adding(tmp_path, 10), CADENCE)
    (tmp_path / "timing.jsonl").write_bytes(b"\xff\n")
    assert run_phase(adding(tmp_path, 20), CADENCE) == 190
    assert (tmp_path / "timing.jsonl.unreadable").read_bytes() == b"\xff\n"
    assert [row["step"] for row in JsonLines(tmp_path / "timing.jsonl").read()] == [20, 20]
    (tmp_path / "metrics.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(UnreadableError, match=r"metrics.jsonl cannot be read: .*; move it away to go on"):
        run_phase(adding(tmp_path, 30), CADENCE)
    (tmp_path / "metrics.jsonl").unlink()
    assert run_phase(adding(tmp_path, 30), CADENCE) == 435  # 29 * 30 / 2


def test_metrics_that_are_lost_are_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_phase(adding(tmp_path, 10), CADENCE)
    run_phase(adding(tmp_path, 10), CADENCE)
    assert "lost" not in capsys.readouterr().err
    path = tmp_path / "metrics.jsonl"
    path.unlink()
    run_phase(adding(tmp_path, 10), CADENCE)
    line = f"adding: {path} has no row of update 10; its metrics up to there are lost and not made again\n"
    assert line in capsys.readouterr().err


def test_a_finished_phase_is_used_from_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    with exclusive(tmp_path / ".lock", wait=True):
        run_phase(adding(tmp_path, 20), CADENCE)

    def refuse(event: str, path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with faults.watching(tmp_path, refuse), exclusive(tmp_path / ".lock", wait=True):
        assert run_phase(adding(tmp_path, 20), CADENCE) == 190
