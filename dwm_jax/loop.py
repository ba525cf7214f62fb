"""The loop of both phases: many updates in one dispatch, then whatever is due, resumable at every checkpoint."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dwm_jax import parallel
from dwm_jax.checkpoint import Checkpoints
from dwm_jax.metrics import JsonLines, first_non_finite
from dwm_jax.progress import phase, say
from dwm_jax.types import Array, Metrics, PyTree


class RunError(RuntimeError):
    """A run cannot go on; one line says why and what to do."""


def run_updates(
    name: str,
    update: Callable[[PyTree, PyTree, Array], tuple[PyTree, Metrics]],
    state: PyTree,
    make_data: Callable[[], PyTree],
    num_updates: int,
    config: ConfigDict,
    folder: Path,
    evaluate: Callable[[PyTree, int], str] | None = None,
) -> tuple[PyTree, float]:
    """From the last checkpoint, or `state`, to `num_updates`.

    Args:
      name: of the phase, in progress and metrics.
      update: as in `parallel.scan_updates`.
      state: without a device axis.
      make_data: what `update` reads, without a device axis; only called where updates are left to do.
      folder: gets metrics.jsonl, timing.jsonl and checkpoints/<name>.
      evaluate: (state, step) -> a note for the progress; called every `evaluation.every` updates and at the end.

    Returns:
      (state, wall seconds spent in this phase: making its data, compiling, updates, evaluations; those of earlier
      starts included).

    Raises:
      RunError: a metric is not finite; the last checkpoint stays.
    """
    metrics_file, timing_file = JsonLines(folder / "metrics.jsonl"), JsonLines(folder / "timing.jsonl")
    checkpoints = Checkpoints(folder / "checkpoints" / name)
    step, state = checkpoints.restore(state) or (0, state)
    for file in (metrics_file, timing_file):
        file.cut(name, step)
    earlier_seconds = max([row["seconds"] for row in timing_file.read() if row["phase"] == name], default=0.0)
    if step == num_updates:
        checkpoints.close()
        return state, earlier_seconds
    if step:
        say(f"{name}: resuming from step {step:,}")

    start, seconds, note = time.monotonic(), earlier_seconds, ""
    state, data = parallel.replicate(state), parallel.replicate(make_data())
    dispatch = parallel.scan_updates(update, config.updates_per_dispatch)
    with phase(name, num_updates, step) as progress:
        while step < num_updates:
            # ---- many updates, one dispatch
            state, on_device = dispatch(state, data, step)
            metrics = {key: np.asarray(value) for key, value in on_device.items()}
            refuse_non_finite(name, metrics, step, checkpoints)
            step += config.updates_per_dispatch

            # ---- what is due: metrics always, then evaluation, then the checkpoint that vouches for both
            means = {key: value.mean(axis=0) for key, value in metrics.items()}
            metrics_file.append(rows_of(name, step, means, config.seed))
            if evaluate is not None and (step % config.evaluation.every == 0 or step == num_updates):
                note = evaluate(parallel.unreplicate(state), step)
            if step % config.checkpoint_every == 0 or step == num_updates:
                checkpoints.save(step, parallel.unreplicate(state))
                seconds = earlier_seconds + time.monotonic() - start
                timing_file.append([{"phase": name, "step": step, "seconds": round(seconds, 1)}])
            loss_name, loss = next(iter(means.items()))
            progress.advance(step, f"{loss_name} {np.mean(loss):.4g}  {note}")
    checkpoints.close()
    return parallel.unreplicate(state), seconds


def refuse_non_finite(name: str, metrics: dict[str, np.ndarray], step: int, checkpoints: Checkpoints) -> None:
    """Stops at the first update with a metric that is not finite."""
    bad = first_non_finite(metrics, step)
    if bad is not None:
        raise RunError(
            f"{name}: {bad[1]} is not finite at update {bad[0]:,}; stopped. Last good checkpoint: "
            f"{checkpoints.latest_step()} in {checkpoints.directory}"
        )


def rows_of(name: str, step: int, means: dict[str, np.ndarray], first_seed: int) -> list[dict[str, Any]]:
    """Metric rows of one dispatch: one, or one per seed where the metrics have a seed axis."""
    shape = next(iter(means.values())).shape
    if not shape:
        return [{"phase": name, "step": step} | {key: float(value) for key, value in means.items()}]
    return [
        {"phase": name, "step": step, "seed": first_seed + s} | {key: float(value[s]) for key, value in means.items()}
        for s in range(shape[0])
    ]
