"""Wall times: of decisions, sampling, policy learning and world models, each on the machine that is named."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dwm_jax.registry import METHODS
from dwm_jax.results import pictures
from dwm_jax.results.labels import model_of_label

from ..studies import reported
from . import drawing, markdown
from .found import FoundModel, FoundRun

FILE = "timing.csv"
# Our world model by the paper's subject.
SAMPLED = {"DWM (T=8)": "dwm", "autoregressive diffusion": "autoregressive"}


def inference(study: str, by_task: Mapping[str, list[FoundRun]], file: str | None, folder: Path) -> str:
    """One decision of a policy against one of a planner; the ratio is what can be compared across machines."""
    paper = {row["subject"]: float(row["value"]) for row in _reported(file) if row["what"] == "inference"}
    text = []
    for task, runs in by_task.items():
        seconds = {method: value for run in runs for method, value in run.measured.acting_seconds.items()}
        unit = seconds.get("DWM-TD3BC", float("nan"))
        rows = [
            [
                method,
                f"{1000 * value:.3g}",
                markdown.number(value / unit, 1),
                f"{paper[method]:g}" if method in paper else markdown.NOTHING,
                markdown.number(paper[method] / paper["DWM-TD3BC"], 1) if method in paper else markdown.NOTHING,
            ]
            for method, value in seconds.items()
        ]
        head = ["method", "one decision (ms)", "x DWM-TD3BC", "paper: an episode (s)", "paper: x DWM-TD3BC"]
        text += [markdown.heading(task), markdown.table(head, rows)]
    return "\n".join(text)


def sampling(study: str, by_task: Mapping[str, list[FoundRun]], file: str | None, folder: Path) -> str:
    """Seconds of a batch of 128 trajectories by horizon."""
    paper = [row for row in _reported(file) if row["what"].startswith("sampling H=")]
    text = ["Seconds of one batch of 128 trajectories of H steps; the paper's on an A6000.\n"]
    for task, runs in by_task.items():
        seconds = {label: by_horizon for run in runs for label, by_horizon in run.measured.sampling_seconds.items()}
        if not seconds:
            continue
        horizons = sorted({horizon for by_horizon in seconds.values() for horizon in by_horizon})
        rows = [
            [label, *(f"{by_horizon[h]:.3g}" if h in by_horizon else markdown.NOTHING for h in horizons)]
            for label, by_horizon in seconds.items()
        ]
        models = set(map(model_of_label, seconds))
        for subject, model in SAMPLED.items():
            values = {int(row["what"].partition("=")[2]): row["value"] for row in paper if row["subject"] == subject}
            if model in models:
                rows.append([f"paper: {subject}", *(values.get(h, markdown.NOTHING) for h in horizons)])
        text += [markdown.heading(task), markdown.table(["world model", *(f"H = {h}" for h in horizons)], rows)]
        path = markdown.picture_file(study, task)
        drawing.draw_once(pictures.draw_sampling_times, folder / path, seconds, f"{task}: time of 128 trajectories")
        text.append(markdown.figures((f"Time of a batch of trajectories against the horizon on {task}", path)))
    return "\n".join(text)


def _reported(file: str | None) -> list[dict[str, str]]:
    return reported.read_rows(file) if file else []


def learning(runs: Sequence[FoundRun]) -> str:
    """Policy learning of all runs, by method: medians."""
    paper = {
        method: float(row["value"]) / 200
        for row in reported.read_rows(FILE)
        if row["what"] == "training 200k updates"
        for method in row["subject"].split()
        if method in METHODS
    }
    seconds: dict[str, list[float]] = {}
    for run in runs:
        for method in run.curves.keys() & run.learning_seconds.keys():
            thousands = run.num_updates / 1000
            seconds.setdefault(method, []).append(run.learning_seconds[method] / thousands)
    rows = [
        [
            method,
            str(len(seconds[method])),
            f"{np.median(seconds[method]):.3g}",
            f"{paper[method]:.3g}" if method in paper else markdown.NOTHING,
        ]
        for method in METHODS
        if method in seconds
    ]
    if not rows:
        return ""
    head = ["method", "runs", "s per 1,000 updates, all seeds", "paper: s per 1,000 updates, one seed, V100"]
    return markdown.table(head, rows)


def pretraining(models: Sequence[FoundModel]) -> str:
    """Every world model that the runs share."""
    rows = [
        [
            model.folder,
            f"{model.updates:,}",
            markdown.number(model.seconds, 0),
            f"{1000 * model.seconds / model.updates:.3g}",
        ]
        for model in models
    ]
    return markdown.table(["world model", "updates", "s", "s per 1,000"], rows) if rows else ""
