"""The runs below a folder, as far as they can be read. What is missing or broken is listed, never raised."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dwm_jax.data.d4rl_tasks import OTHER
from dwm_jax.phases.kept_models import last_update
from dwm_jax.registry import METHODS, Learning, Planning, names_in
from dwm_jax.results.diagnostics import Calibration, PredictionError, Terminations
from dwm_jax.results.scores import CriticCheck, Curve, critic_checks, curves
from dwm_jax.runtime import files
from dwm_jax.runtime.row_files import TIMES, JsonLines, Result, Results

from ..run_folders import UNREADABLE, run_folders, why_unreadable
from ..studies.variations import settings_of

Part = TypeVar("Part")

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
    origin: str | None  # of its data: D4RL's or not (`d4rl_tasks.origin`); None where the run does not say
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


def nothing_in(folder: Path, found: Found) -> str:
    """Why there is no run to show."""
    if not found.gaps:
        return f"{folder} holds no run: no config.json in it or below"
    first = found.gaps[0]
    return f"{folder} holds no run that can be read: {first.place}: {first.reason}"


def read_all(folder: Path, studies: Sequence[str]) -> Found:
    """Every run and world model in `folder` or below it.

    Args:
      folder: RUNS; holds `study/task/variant` folders, or runs anywhere.
      studies: the names that count as a study's folder.
    """
    runs: list[FoundRun] = []
    models: list[FoundModel] = []
    gaps: list[Gap] = []
    # The pattern follows links: a run that serves several studies may be one folder. Elsewhere one run is one.
    linked = {path.parent for study in studies for path in folder.glob(f"{study}/*/*/config.json")}
    for path in sorted({*run_folders(folder), *linked}):
        place = str(path.relative_to(folder)) if path != folder else path.resolve().name
        try:
            described = files.read_json(path / "config.json")
            if "methods" in described:
                run, unfinished = read_run(place, path, described, studies)
                runs.append(run)
                gaps += unfinished
            elif "num_updates" in described.get("settings", {}):
                found, untrained = read_model(place, path, described)
                models += found
                gaps += untrained
        except UNREADABLE as error:
            gaps.append(Gap(place, why_unreadable(error)))
    sweep, damage = read_sweep(folder)
    known = {run.place for run in runs} | {gap.place for gap in gaps}
    absent = [Gap(place, reason) for place, reason in sweep.members.items() if place not in known]
    return Found(runs, models, sorted(damage + gaps + absent), sweep.scale)


class Sweep(NamedTuple):
    """What a sweep says of itself."""

    scale: str | None
    members: dict[str, str]  # folder -> state in words, with the log where there is one


def read_sweep(folder: Path) -> tuple[Sweep, list[Gap]]:
    """RUNS/sweep.json: the members that were asked for; nothing where there is no such file."""
    path = folder / "sweep.json"
    if not path.exists():
        return Sweep(None, {}), []
    try:
        described = files.read_json(path)
        members = {
            place: member["state"] + (f", see {member['log']}" if (folder / member["log"]).exists() else "")
            for place, member in described["members"].items()
        }
        return Sweep(str(described["scale"]), members), []
    except UNREADABLE as error:
        return Sweep(None, {}), [Gap("sweep.json", why_unreadable(error))]


def read_run(place: str, folder: Path, config: dict[str, Any], studies: Sequence[str]) -> tuple[FoundRun, list[Gap]]:
    """One run, and what it still lacks."""
    parts = Path(place).parts
    in_study = len(parts) == 3 and parts[0] in studies
    results = Results(folder / "results.csv").read()
    whole = whole_evaluations(results, config)
    finished, gaps = finished_curves(place, whole, config)
    if not (folder / "diagnostics.json").exists():
        gaps.append(Gap(place, "not finished: no diagnostics.json yet"))

    def unless_damaged(read: Callable[[], Part], otherwise: Part) -> Part:
        """Reads a part that the run can be shown without; a gap where it is damaged."""
        try:
            return read()
        except UNREADABLE as error:
            gaps.append(Gap(place, why_unreadable(error)))
            return otherwise

    dwm = config["world_models"]["dwm"]
    run = FoundRun(
        place=place,
        folder=folder,
        study=parts[0] if in_study else "",
        task=_text(config["task"]),
        origin=_origin(folder),
        variant=parts[2] if in_study else place,
        settings={method: settings_of(config, method) for method in finished},
        horizon=int(config["policy"]["horizon"]),
        num_updates=int(config["policy"]["num_updates"]),
        episodes=int(config["evaluation"]["episodes"]),
        diffusion=(int(dwm["sequence_length"]), int(dwm["num_diffusion_steps"]), int(dwm["num_sampling_steps"])),
        results=results,
        curves=finished,
        critics=critic_checks([row for row in whole if row.method in finished]),
        measured=unless_damaged(lambda: read_measured(folder / "diagnostics.json"), Measured({}, {}, {}, {}, {})),
        learning_seconds=unless_damaged(lambda: read_seconds(folder / "timing.jsonl"), {}),
        starts=unless_damaged(lambda: [read_start(row) for row in JsonLines(folder / "starts.jsonl").read()], []),
    )
    return run, gaps


def read_measured(path: Path) -> Measured:
    """A run's diagnostics; empty where it has not yet measured them."""
    measured = files.read_json(path) if path.exists() else {}
    return Measured(
        {label: PredictionError(**_arrays(error)) for label, error in measured.get("prediction_error", {}).items()},
        {label: Calibration(**_arrays(columns)) for label, columns in measured.get("calibration", {}).items()},
        {label: Terminations(**_arrays(shares)) for label, shares in measured.get("terminations", {}).items()},
        {
            label: {int(horizon): float(seconds) for horizon, seconds in by_horizon.items()}
            for label, by_horizon in measured.get("sampling_seconds", {}).items()
        },
        {method: float(seconds) for method, seconds in measured.get("acting_seconds", {}).items()},
    )


def read_seconds(path: Path) -> dict[str, float]:
    """The seconds of every phase. Rows come in the order of time: the last one of a phase has its total."""
    return {row["phase"]: float(row["seconds"]) for row in JsonLines(path, TIMES).read()}


def whole_evaluations(results: Sequence[Result], config: dict[str, Any]) -> list[Result]:
    """The rows of the evaluations that have all their episodes: one may be read while it is written."""
    episodes = config["num_seeds"] * config["evaluation"]["episodes"]
    counts = Counter((row.method, row.step) for row in results)
    return [row for row in results if counts[row.method, row.step] == episodes]


def finished_curves(place: str, whole: Sequence[Result], config: dict[str, Any]) -> tuple[dict[str, Curve], list[Gap]]:
    """The curves of the methods with their last evaluation, and for the others a gap with how far they are.

    Args:
      whole: the rows of whole evaluations.
    """
    finished: dict[str, Curve] = {}
    gaps: list[Gap] = []
    by_method = {curve.method: curve for curve in curves(whole)}
    for name in names_in(config["methods"]):
        total = total_updates(name, config)
        if total is None:
            continue  # a world model by itself
        reached = int(by_method[name].steps[-1]) if name in by_method else 0
        if reached >= total:
            finished[name] = by_method[name]
        else:
            gaps.append(Gap(place, f"{name}: evaluated up to update {reached:,} of {total:,}"))
    return finished, gaps


def total_updates(method: str, config: dict[str, Any]) -> int | None:
    """The update of a method's last evaluation; None for what is never evaluated.

    Raises:
      KeyError: an unknown method.
    """
    cell = METHODS[method]
    if isinstance(cell, Learning):
        return int(config["policy"]["num_updates"])
    # A planner is evaluated once, under its model's number of updates.
    return int(config["world_models"][cell.model]["num_updates"]) if isinstance(cell, Planning) else None


def read_start(row: dict[str, Any]) -> FoundStart:
    """One start of a run."""
    if not row["command"]:
        raise ValueError("a start without a command")
    known = tuple(str(row.get(name, "")) for name in CIRCUMSTANCES)
    return FoundStart(str(row["time"]), [str(word) for word in row["command"]], str(row.get("xla_flags") or ""), known)


def read_model(place: str, folder: Path, described: dict[str, Any]) -> tuple[list[FoundModel], list[Gap]]:
    """A world model's folder: the model, as far as it is trained, and what it still lacks."""
    total = last_update(described["settings"])
    # A row per checkpoint, in the order of time: the last one has all the seconds so far.
    rows = JsonLines(folder / "timing.jsonl", TIMES).read()
    reached = int(rows[-1]["step"]) if rows else 0
    found = [FoundModel(folder.name, described["model"], reached, float(rows[-1]["seconds"]))] if reached else []
    return found, [] if reached >= total else [Gap(place, f"trained up to update {reached:,} of {total:,}")]


def distinct(runs: Sequence[FoundRun]) -> list[FoundRun]:
    """Each folder once: one run may serve several studies, by a link."""
    return list({run.folder.resolve(): run for run in reversed(runs)}.values())[::-1]


def common_origin(runs: Iterable[FoundRun]) -> str | None:
    """What the runs of a task say of its data: one word of them all, else that it is not D4RL's or cannot be told."""
    said = {run.origin for run in runs}
    return said.pop() if len(said) == 1 else OTHER if OTHER in said else None


def of_study(runs: Sequence[FoundRun], study: str) -> dict[str, list[FoundRun]]:
    """The study's runs by task."""
    by_task: dict[str, list[FoundRun]] = {}
    for run in runs:
        if run.study == study:
            by_task.setdefault(run.task, []).append(run)
    return by_task


def evaluations(run: FoundRun) -> Iterator[dict[str, Any]]:
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


def _origin(folder: Path) -> str | None:
    origin = (files.find_json(folder / "data.json") or {}).get("origin")
    return None if origin is None else _text(origin)


def _arrays(columns: dict[str, list[float]]) -> dict[str, np.ndarray]:
    arrays = {name: np.array(values, float) for name, values in columns.items()}
    if len({array.shape for array in arrays.values()}) > 1 or any(array.ndim != 1 for array in arrays.values()):
        raise ValueError(f"columns of different lengths: {', '.join(arrays)}")
    return arrays


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no name")
    return value
