"""The loop of both phases: many updates in one dispatch, then whatever is due, resumable at every checkpoint."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from dwm_jax.runtime import interruption, mirrors, non_finite, parallel, processes
from dwm_jax.runtime.checkpoints import Checkpoints
from dwm_jax.runtime.parallel import Updates
from dwm_jax.runtime.progress import phase, say
from dwm_jax.runtime.row_files import JsonLines
from dwm_jax.types import PyTree


class RunError(RuntimeError):
    """A run cannot go on; one line says why and what to do."""


class Evaluation(NamedTuple):
    """What is measured every `evaluation.every` updates and at the end."""

    # (state, step) -> a note for the progress; writes its rows.
    run: Callable[[PyTree, int], str]
    # step that a run begins at -> whether its rows are there, whole; drops all that came after.
    resume: Callable[[int], bool]


def run_updates(
    name: str,
    updates: Updates,
    make_state: Callable[[], PyTree],
    make_data: Callable[[PyTree, int], tuple[PyTree, PyTree]],
    num_updates: int,
    config: ConfigDict,
    folder: Path,
    evaluation: Evaluation | None = None,
    refresh_every: int = 0,
) -> tuple[PyTree, float]:
    """From the last checkpoint, or the first state, to `num_updates`.

    A checkpoint vouches for the metric rows up to its step. An evaluation comes after the checkpoint of its step
    and is made up for where it is missing, so it may be interrupted like anything else.

    Args:
      name: of the phase, in progress and metrics.
      updates: as in `parallel.in_one_dispatch`.
      make_state: the first state, without a device axis; where there is a checkpoint only its shapes are asked for.
      make_data: (state, step) -> (state, what `updates` reads), without a device axis. Called where updates are left
        to do, at the first of them and at every refresh; the state it returns is what it has to remember to make the
        same data again.
      folder: gets metrics.jsonl, timing.jsonl and checkpoints/<name>.
      evaluation: None where nothing is evaluated.
      refresh_every: updates after which the data are made anew, from a checkpoint; 0: they stay.

    Returns:
      (state, wall seconds spent in this phase: making its data, compiling, updates, evaluations; those of earlier
      starts included).

    Raises:
      RunError: a metric or a number of the state is not finite; the last checkpoint stays. Inside
        `non_finite.searching` the line names the operation that made it.
      Interrupted: a signal asked; the state is saved.
    """
    metrics_file, timing_file = JsonLines(folder / "metrics.jsonl"), JsonLines(folder / "timing.jsonl")
    checkpoints = Checkpoints(folder / "checkpoints" / name)

    def begin() -> tuple[int, PyTree]:
        if checkpoints.latest_step() is None:
            return 0, make_state()
        restored = checkpoints.restore(jax.eval_shape(make_state))
        assert restored is not None
        return restored

    step, state = processes.from_first(begin)
    for file in (metrics_file, timing_file):
        file.cut(name, step)
    mirrors.resume(name, step)
    earlier_seconds = max([row["seconds"] for row in timing_file.read() if row["phase"] == name], default=0.0)
    start = time.monotonic()

    def seconds() -> float:
        return earlier_seconds + time.monotonic() - start

    def save(state: PyTree) -> None:
        checkpoints.save(step, state)
        timing_file.append([{"phase": name, "step": step, "seconds": round(seconds(), 1)}])

    def evaluation_is_due() -> bool:
        return evaluation is not None and step > 0 and (step % config.evaluation.every == 0 or step == num_updates)

    def evaluate(state: PyTree) -> str:
        assert evaluation is not None
        return processes.from_first(lambda: evaluation.run(state, step))

    is_evaluated = evaluation is None or processes.from_first(lambda: evaluation.resume(step))
    note = evaluate(state) if evaluation_is_due() and not is_evaluated else ""
    if step == num_updates:
        checkpoints.close()
        return state, earlier_seconds
    if step:
        say(f"{name}: resuming from step {step:,}")

    def is_refreshed() -> bool:
        return refresh_every > 0 and step % refresh_every == 0

    on_devices, data = parallel.replicate(state), None
    dispatch = parallel.in_one_dispatch(updates, config.updates_per_dispatch)
    with phase(name, num_updates, step) as progress:
        while step < num_updates:
            if data is None or is_refreshed():
                data = None  # makes room
                state, fresh_data = make_data(parallel.unreplicate(on_devices), step)
                on_devices, data = parallel.replicate(state), parallel.replicate(fresh_data)

            # ---- many updates, one dispatch; the state passed in is gone
            before = parallel.unreplicate(on_devices) if non_finite.is_searched() else None
            on_devices, metrics_on_device = dispatch(on_devices, data, step)
            metrics = {key: np.asarray(value) for key, value in metrics_on_device.items()}
            steps = range(step, step + config.updates_per_dispatch)
            bad = non_finite_number(metrics, on_devices, steps)
            if bad is not None:
                cause = "start the same command again with --debug-nans to find the operation"
                if before is not None:
                    cause = non_finite.first_operation(updates, before, parallel.unreplicate(data), steps)
                kept = f"last good checkpoint: {checkpoints.latest_step()} in {checkpoints.directory}"
                raise RunError(f"{name}: {bad}; stopped. {cause}; {kept}")
            step = steps.stop

            # ---- what is due: metrics always, the checkpoint that vouches for them, the evaluation
            means = {key: value.mean(axis=0) for key, value in metrics.items()}
            rows = rows_of(name, step, means, config.seed)
            metrics_file.append(rows)
            mirrors.metrics(rows)
            is_due = step % config.checkpoint_every == 0 or step == num_updates or is_refreshed()
            if is_due or interruption.requested():
                save(parallel.unreplicate(on_devices))
            interruption.check()
            if evaluation_is_due():
                note = evaluate(parallel.unreplicate(on_devices))
            loss_name, loss = next(iter(means.items()))
            progress.advance(step, f"{loss_name} {np.mean(loss):.4g}  {note}")
    save(parallel.unreplicate(on_devices))
    checkpoints.close()
    return parallel.unreplicate(on_devices), seconds()


def non_finite_number(metrics: dict[str, np.ndarray], on_devices: PyTree, steps: range) -> str | None:
    """What is not finite after a dispatch: the earliest metric, else a number of the state; None: nothing."""
    metric = non_finite.first_metric(metrics, steps.start)
    if metric is not None:
        return f"{metric[1]} is not finite at update {metric[0]:,}"
    leaf = non_finite.first_leaf(parallel.first_copy(on_devices))
    return None if leaf is None else f"{leaf} is not finite after update {steps.stop - 1:,}"


def rows_of(name: str, step: int, means: dict[str, np.ndarray], first_seed: int) -> list[dict[str, Any]]:
    """Metric rows of one dispatch: one, or one per seed where the metrics have a seed axis."""
    shape = next(iter(means.values())).shape
    if not shape:
        return [{"phase": name, "step": step} | {key: float(value) for key, value in means.items()}]
    return [
        {"phase": name, "step": step, "seed": first_seed + s} | {key: float(value[s]) for key, value in means.items()}
        for s in range(shape[0])
    ]
