"""The loop of a phase: updates, dispatches, data made anew - and a program compiled once."""

from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import tiny

from dwm_jax.loop import run_updates
from dwm_jax.metrics import JsonLines


def test_dispatches_refreshed_data_and_checkpoints_do_not_compile_again(tmp_path: Path) -> None:
    config = tiny.config(updates_per_dispatch=5, checkpoint_every=10)
    made_at: list[int] = []

    @chex.assert_max_traces(n=1)
    def update(total: jax.Array, summand: jax.Array, step: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        return total + summand * step, {"total": total}

    def make_data(total: jax.Array, step: int) -> tuple[jax.Array, jax.Array]:
        made_at.append(step)
        return total, jnp.asarray(1.0 if step < 10 else 100.0)

    total, _ = run_updates("adding", update, jnp.zeros(()), make_data, 20, config, tmp_path, refresh_every=10)
    # 0 + 1 + ... + 9 = 45 with the first data, 10 + ... + 19 = 145 with the second: 45 + 14,500
    assert float(total) == 14_545
    assert made_at == [0, 10]
    assert [row["step"] for row in JsonLines(tmp_path / "metrics.jsonl").read()] == [5, 10, 15, 20]
