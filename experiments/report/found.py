"""What was found below a folder of runs, and how the report groups it."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dwm_jax.data.d4rl_tasks import OTHER
from dwm_jax.results.diagnostics import Calibration, PredictionError, Terminations
from dwm_jax.results.scores import CriticCheck, Curve
from dwm_jax.runtime.row_files import Result

# What of a start is shown beside its command, where it is known.
CIRCUMSTANCES = (
    "commit",
    "python",
    "jax",
    "flax",
    "numpy",
    "backend",
    "device_kind",
    "num_devices",
    "processor",
    "cores",
)


class FoundStart(NamedTuple):
    """One line of starts.jsonl."""

    time: str
    command: list[str]
    xla_flags: str
    circumstances: tuple[str, ...]  # as in CIRCUMSTANCES; "" where one is not known


class Measured(NamedTuple):
    """What diagnostics.json holds of a run."""

    errors: dict[str, PredictionError]  # by world model and who acts in it
    calibrations: dict[str, Calibration]
    terminations: dict[str, Terminations]  # by world model: the shares found and invented
    sampling_seconds: dict[str, dict[int, float]]  # by horizon, of one batch of trajectories
    acting_seconds: dict[str, float]  # of one decision, by method


class FoundRun(NamedTuple):
    """One run folder; of its methods those that are finished."""

    place: str  # its folder below RUNS, "study/task/variant" in a sweep
    folder: Path
    study: str  # a key of STUDIES; "" for a run that belongs to none
    task: str  # what it was trained and evaluated on
    origin: str | None  # of its data: D4RL's or not (`d4rl_tasks.find_origin`); None where the run does not say
    variant: str  # what distinguishes it inside the task
    settings: dict[str, dict[str, str]]  # by method: what studies compare
    horizon: int
    num_updates: int  # of a policy
    episodes: int  # of an evaluation, per seed
    diffusion: tuple[int, int, int]  # T, K, N of the diffusion world model
    results: list[Result]  # every episode of every evaluation
    curves: dict[str, Curve]  # by method
    critics: dict[str, CriticCheck]  # by method: what they predicted for initial states, and what followed
    measured: Measured
    learning_seconds: dict[str, float]  # of all seeds side by side, by method
    starts: list[FoundStart]


class FoundModel(NamedTuple):
    """A world model that runs share, and what it has cost so far."""

    folder: str
    model: str
    updates: int  # that took these seconds: all of them, or those up to its last checkpoint
    seconds: float


class Gap(NamedTuple):
    """Something the report would need and does not have."""

    place: str
    reason: str


class Found(NamedTuple):
    """Everything below one folder."""

    runs: list[FoundRun]
    models: list[FoundModel]
    gaps: list[Gap]
    scale: str | None  # of the sweep, where there was one


def explain_no_run(folder: Path, found: Found) -> str:
    """Why there is no run to show."""
    if not found.gaps:
        return f"{folder} holds no run: no config.json in it or below"
    first = found.gaps[0]
    return f"{folder} holds no run that can be read: {first.place}: {first.reason}"


def drop_links(runs: Sequence[FoundRun]) -> list[FoundRun]:
    """Each folder once: one run may serve several studies, by a link."""
    return list({run.folder.resolve(): run for run in reversed(runs)}.values())[::-1]


def common_origin(runs: Iterable[FoundRun]) -> str | None:
    """What the runs of a task say of its data: one word of them all, else that it is not D4RL's or cannot be told."""
    said = {run.origin for run in runs}
    return said.pop() if len(said) == 1 else OTHER if OTHER in said else None


def group_by_task(runs: Sequence[FoundRun], study: str) -> dict[str, list[FoundRun]]:
    """The study's runs by task."""
    by_task: dict[str, list[FoundRun]] = {}
    for run in runs:
        if run.study == study:
            by_task.setdefault(run.task, []).append(run)
    return by_task


def make_evaluation_rows(run: FoundRun) -> Iterator[dict[str, Any]]:
    """Means over the episodes of every evaluation: the raw rows behind the tables."""
    cells: dict[tuple[str, int, int], list[Result]] = {}
    for row in run.results:
        cells.setdefault((row.method, row.seed, row.step), []).append(row)
    for (method, seed, step), rows in cells.items():
        yield {
            "study": run.study,
            "task": run.task,
            "variant": run.variant,
            "method": method,
            "seed": seed,
            "step": step,
            "episodes": len(rows),
            "return_raw": float(np.mean([row.return_raw for row in rows])),
            "score_0_1": float(np.mean([row.score_0_1 for row in rows])),
        }
