"""How good the world models are: prediction error by step, against diffusion steps, calibration of returns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dwm_jax.results import pictures
from dwm_jax.results.diagnostics import PredictionError
from dwm_jax.results.labels import label_with_recorded_actions
from dwm_jax.runtime import files

from ..studies import reported
from ..studies.reported import Counterpart
from . import drawing, markdown
from .drawing import Points
from .found import FoundRun, common_origin

UNITS = (
    "Mean squared error on held-out segments (on training segments where a run holds none out) by the number of steps "
    "after the recorded start (which the paper counts as step 1); states in units of the data's variance, averaged "
    "over dimensions. The paper does not name its units.\n"
)
# Our labels by the paper's names.
LABELS = {"dwm": "dwm", "one_step": label_with_recorded_actions("one_step")}
QUANTITIES = {"observation": "state", "reward": "reward"}
# Where the paper measured its curves.
REPORTED_TASK = "walker2d-medium-expert-v2"
# How a PNG file begins, and the largest size of a run's own pictures, in bytes.
PNG, LARGEST_PICTURE = b"\x89PNG\r\n\x1a\n", 10 * 2**20


class ReportedErrors(NamedTuple):
    """The paper's curves, by our labels, and what to call them beside ours."""

    counterpart: Counterpart
    errors: dict[str, PredictionError]


def reported_errors(file: str, task: str, origin: str | None) -> ReportedErrors:
    """The paper's curves, which are of one task, to be shown beside ours of `task`, whichever that is.

    The paper's step 1 is the given state and the first reward: states are shifted by one, rewards are not.

    Args:
      origin: what our runs say of their data (`reported.find_counterpart`).
    """
    beside = reported.find_counterpart(task, {REPORTED_TASK}, origin) or Counterpart(REPORTED_TASK, is_same_data=False)
    rows = reported.read_rows(file)
    errors = {}
    for model, label in LABELS.items():
        mine = sorted((row for row in rows if row["model"] == model), key=lambda row: int(row["step"]))
        states, rewards = ([float(row[f"{name}_mse"]) for row in mine] for name in QUANTITIES)
        errors[label] = PredictionError(np.array(states[1:]), np.array(rewards[:-1]))
    return ReportedErrors(beside, errors)


def prediction_error(study: str, by_task: Mapping[str, list[FoundRun]], file: str | None, folder: Path) -> str:
    """Error by step: mean and standard deviation over the runs of a task, which differ in the world models' seed."""
    text = [UNITS]
    for task, runs in by_task.items():
        shown = with_longest_horizon(runs)
        errors = collect_errors(shown)
        if errors:
            paper = reported_errors(file, task, common_origin(shown)) if file else None
            text.append(f"{markdown.heading(task)}\n{remark_on_spread(errors)}")
            text += [error_table(name, errors, paper) for name in QUANTITIES]
            text.append(markdown.figures(*error_pictures(study, task, errors, paper, folder)))
    return "\n".join(text)


def by_setting(setting: str, study: str, by_task: Mapping[str, list[FoundRun]], file: str | None, folder: Path) -> str:
    """By task and value of a setting: how good and how fast the world model is, and the critics that learnt from it."""
    text = []
    for task, runs in by_task.items():
        rows = []
        for run in runs:
            for method, check in run.critics.items():
                predicted, measured = check.last
                error, ends = run.measured.errors.get("dwm"), run.measured.terminations.get("dwm")
                by_horizon = run.measured.sampling_seconds.get("dwm", {})
                seconds = by_horizon.get(max(by_horizon, default=0))
                found = ends.found[np.isfinite(ends.found)] if ends else np.zeros(0)
                cells = [f"{error.observation[step]:.3g}" if error else markdown.NOTHING for step in (0, -1)]
                cells += [f"{found.mean():.2f}" if len(found) else markdown.NOTHING]
                cells += [f"{ends.invented[-1]:.3g}" if ends else markdown.NOTHING]
                cells += [f"{1000 * seconds:.3g}" if seconds else markdown.NOTHING]
                value = run.settings[method][setting] or markdown.NOTHING
                rows.append([method, value, *cells, f"{predicted:.4g}", f"{measured:.4g}"])
        if rows:
            horizon = max(run.horizon for run in runs)
            head = ["method", setting, "state error, step 1", f"step {horizon}"]
            head += ["terminations found", "terminations invented", "128 trajectories (ms)"]
            head += ["critic value at initial states", "discounted return"]
            text += [markdown.heading(task), markdown.table(head, rows)]
    return "\n".join(text)


def remark_on_spread(errors: Mapping[str, list[PredictionError]]) -> str:
    """Over how many world models the tables' ± goes; nothing where each is alone."""
    if max(map(len, errors.values())) == 1:
        return ""
    numbers = "; ".join(f"{len(found)} of {label}" for label, found in errors.items())
    return f"± is the standard deviation over world models of different seeds: {numbers}.\n"


def with_longest_horizon(runs: Sequence[FoundRun]) -> list[FoundRun]:
    """The runs with errors over the longest horizon among them: only these can be laid side by side."""
    measured = [run for run in runs if run.measured.errors]
    return [run for run in measured if run.horizon == max(other.horizon for other in measured)]


def collect_errors(runs: Sequence[FoundRun]) -> dict[str, list[PredictionError]]:
    """The errors of all runs, by world model and who acts in it."""
    found: dict[str, list[PredictionError]] = {}
    for run in runs:
        for label, error in run.measured.errors.items():
            found.setdefault(label, []).append(error)
    return found


def error_table(quantity: str, errors: Mapping[str, list[PredictionError]], paper: ReportedErrors | None) -> str:
    """A line per step, a column per world model, the paper's after ours."""
    beside = [label for label in errors if paper and label in paper.errors]
    ours = {label: np.array([getattr(error, quantity) for error in found]) for label, found in errors.items()}
    head = [f"{QUANTITIES[quantity]}, step", *errors]
    rows = []
    for step in range(max(values.shape[1] for values in ours.values())):
        row = [str(step + 1)]
        for values in ours.values():
            known = step < values.shape[1]
            row.append(_spread(values[:, step]) if known else markdown.NOTHING)
        for label in beside:
            assert paper is not None
            theirs = getattr(paper.errors[label], quantity)
            row.append(f"{theirs[step]:.3g}" if step < len(theirs) else markdown.NOTHING)
        rows.append(row)
    head += [f"{label}: {paper.counterpart.heading()}" for label in beside if paper]
    return markdown.table(head, rows)


def _spread(values: np.ndarray) -> str:
    """Mean and, of several, standard deviation; errors differ by orders of magnitude."""
    return f"{values.mean():.3g}" + (f" ± {values.std():.2g}" if len(values) > 1 else "")


def error_pictures(
    study: str,
    task: str,
    errors: Mapping[str, list[PredictionError]],
    paper: ReportedErrors | None,
    folder: Path,
) -> list[tuple[str, str]]:
    """One picture of the states' errors and one of the rewards'."""
    made = []
    for quantity, name in QUANTITIES.items():
        lines = []
        for label, found in errors.items():
            values = np.array([getattr(error, quantity) for error in found])
            at = range(1, values.shape[1] + 1)
            lines.append(Points(label, at, values.mean(axis=0).tolist(), values.std(axis=0).tolist()))
            if paper and label in paper.errors:
                theirs = getattr(paper.errors[label], quantity).tolist()
                lines.append(Points(label, range(1, len(theirs) + 1), theirs, [], is_ours=False))
        file = markdown.picture_file(study or "runs", task, quantity, "error")
        label = paper.counterpart.label if paper else ""
        drawing.draw_once(drawing.draw_lines, folder / file, lines, task, "step", f"squared error, {name}", label, True)
        made.append((f"Prediction error of the {name} by step on {task}", file))
    return made


def quality(study: str, task: str, runs: Sequence[FoundRun], folder: Path) -> str:
    """Pictures of the world models behind one task's scores, from the runs of the longest horizon."""
    measured = with_longest_horizon(runs)
    if not measured:
        return ""
    horizon = measured[0].horizon
    # Runs of one world model repeat its figures: one of each is shown.
    errors = {label: found[:1] for label, found in collect_errors(measured).items()}
    made = error_pictures(study, task, errors, None, folder)
    calibrations = {label: found for run in reversed(measured) for label, found in run.measured.calibrations.items()}
    if calibrations:
        file = markdown.picture_file(study or "runs", task, "calibration")
        title = f"{task}: return of {horizon} steps"
        drawing.draw_once(pictures.draw_calibrations, folder / file, calibrations, {}, title, font_size=11)
        made.append((f"Return asked for against the return of {horizon} imagined steps on {task}", file))
    return f"The world models on held-out segments, {horizon} steps:\n\n{markdown.figures(*made)}"


def read_own_picture(path: Path) -> bytes | None:
    """A picture that a run has drawn; None where there is none, or something else: a link to some file."""
    is_file = path.is_file() and path.resolve() == path.parent.parent.resolve() / path.parent.name / path.name
    if not is_file or path.stat().st_size > LARGEST_PICTURE:
        return None
    content = path.read_bytes()
    return content if content.startswith(PNG) else None


def copy_label_histogram(study: str, task: str, place: Path, folder: Path) -> str:
    """The recorded labels that the returns-to-go are to be read against: a run's own picture; "" where it has none."""
    picture = read_own_picture(place / "figures" / "returns_to_go.png")
    if picture is None:
        return ""
    file = markdown.picture_file(study, task, "labels", kind="png")
    files.write(folder / file, picture)
    return markdown.figures((f"Return-to-go of all recorded steps of {task}", file))


def diffusion_steps(study: str, by_task: Mapping[str, list[FoundRun]], file: str | None, folder: Path) -> str:
    """Error of the diffusion world model against its training steps K and sampling steps N, averaged over steps."""
    cells: dict[tuple[int, int, int], list[PredictionError]] = {}
    tasks = []
    for task, runs in by_task.items():
        for run in runs:
            if "dwm" in run.measured.errors:
                cells.setdefault(run.diffusion, []).append(run.measured.errors["dwm"])
                tasks.append(task)
    names = "T", "K", "N"
    errors = [f"{quantity}_error" for quantity in QUANTITIES]
    paper = {tuple(int(row[name]) for name in names): row for row in (reported.read_rows(file) if file else [])}
    head = [*names, "state", "reward"] + (["paper, over 9 tasks: state", "paper: reward"] if paper else [])
    rows = []
    for key, found in sorted(cells.items()):
        row = [*map(str, key)]
        row += [f"{np.mean([getattr(error, quantity).mean() for error in found]):.3g}" for quantity in QUANTITIES]
        row += [paper[key][name] if key in paper else markdown.NOTHING for name in errors] if paper else []
        rows.append(row)
    known = ", ".join(map(markdown.escape, dict.fromkeys(tasks))) or "no task"
    return (
        f"{UNITS}\nMean over all steps, on {known}. T rows, K training steps, N sampling steps.\n\n"
        + markdown.table(head, rows)
    )
