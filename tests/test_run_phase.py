"""The loop of a phase: updates, dispatches, data made anew - and a program compiled once."""

from pathlib import Path

import chex
import jax
import jax.numpy as jnp

from dwm_jax.phases.phase import Cadence, Evaluation, Phase
from dwm_jax.runtime.parallel import one_after_another
from dwm_jax.runtime.row_files import JsonLines
from dwm_jax.train import run_phase

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
        updates=one_after_another(update),
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
            updates=one_after_another(update),
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
        updates=one_after_another(lambda total, summand, step: (total + summand, {"total": total})),
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
