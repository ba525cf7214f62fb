"""The runs below a folder, as far as they can be read. What is missing or broken is listed, never raised."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dwm_jax.phases.kept_models import last_update
from dwm_jax.registry import METHODS, Learning, Planning, split_names
from dwm_jax.results.diagnostics import Calibration, PredictionError, Terminations
from dwm_jax.results.scores import Curve, make_critic_checks, make_curves
from dwm_jax.runtime import files
from dwm_jax.runtime.progress import printable
from dwm_jax.runtime.row_files import TIMES, JsonLines, Result, Results

from ..run_folders import UNREADABLE, run_folders, why_unreadable
from ..studies.variations import settings_of
from .found import CIRCUMSTANCES, Found, FoundModel, FoundRun, FoundStart, Gap, Measured

Part = TypeVar("Part")


def read_all(folder: Path, studies: Sequence[str]) -> Found:
    """Every run and world model in `folder` or below it; their names as they can be printed and drawn.

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
        place = printable(str(path.relative_to(folder)) if path != folder else path.resolve().name)
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
        critics=make_critic_checks([row for row in whole if row.method in finished]),
        measured=unless_damaged(lambda: read_measured(folder / "diagnostics.json"), Measured({}, {}, {}, {}, {})),
        learning_seconds=unless_damaged(lambda: read_seconds(folder / "timing.jsonl"), {}),
        starts=unless_damaged(lambda: [read_start(row) for row in JsonLines(folder / "starts.jsonl").read()], []),
    )
    return run, gaps


def read_measured(path: Path) -> Measured:
    """A run's diagnostics; empty where it has not yet measured them."""
    measured = files.read_json(path) if path.exists() else {}

    def by_name(key: str) -> Iterator[tuple[str, Any]]:
        return ((printable(name), value) for name, value in measured.get(key, {}).items())

    return Measured(
        {label: PredictionError(**_arrays(error)) for label, error in by_name("prediction_error")},
        {label: Calibration(**_arrays(columns)) for label, columns in by_name("calibration")},
        {label: Terminations(**_arrays(shares)) for label, shares in by_name("terminations")},
        {
            label: {int(horizon): float(seconds) for horizon, seconds in by_horizon.items()}
            for label, by_horizon in by_name("sampling_seconds")
        },
        {method: float(seconds) for method, seconds in by_name("acting_seconds")},
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
    by_method = {curve.method: curve for curve in make_curves(whole)}
    for name in split_names(config["methods"]):
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
    return printable(value)
