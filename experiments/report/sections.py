"""A section per study: what it compares decides which tables and pictures it gets."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from dwm_jax.phases.summary import panels_of
from dwm_jax.results import pictures

from ..studies import reported
from ..studies.reported import Reported
from ..studies.study import Study
from . import drawing, markdown, online, scores, timing, world_models
from .found import FoundRun
from .scores import Line, choose_variants, collect_scores


class Section(NamedTuple):
    """What a study becomes."""

    heading: str
    text: str  # Markdown; figures by their path from the report's folder
    lines: dict[str, list[Line]]  # of its score tables, by task
    settings: tuple[str, ...]  # that these lines carry


class Comparison(NamedTuple):
    """What the score tables of a kind of study compare beside the methods."""

    settings: tuple[str, ...]  # keys of SETTINGS, the columns
    # file -> the paper's scores by (method, task, *settings)
    reported: Callable[[str], dict[tuple[str, ...], Reported]]


def _by_length(file: str) -> dict[tuple[str, ...], Reported]:
    """The file's figures are all for T = 32."""
    return {
        (method, task, "32", h): value for (method, task, h), value in reported.read_scores(file, "horizon").items()
    }


def _by_lambda(file: str) -> dict[tuple[str, ...], Reported]:
    """The file says whether; the paper's lambda is 0.95."""
    values = {"0": "1", "1": "0.95"}
    return {
        (method, task, values[is_lambda]): value
        for (method, task, is_lambda), value in reported.read_scores(file, "lambda_return").items()
    }


COMPARISONS = {
    "returns": Comparison((), reported.read_scores),
    "horizons": Comparison(("H",), lambda file: reported.read_scores(file, "horizon")),
    "sequence_length": Comparison(("T", "H"), _by_length),
    "returns_to_go": Comparison(("return-to-go",), reported.read_scores),
    "lambda": Comparison(("lambda",), _by_lambda),
    "attribution": Comparison(("without",), reported.read_scores),
    "distillation": Comparison(("distilled",), reported.read_scores),
}
MEASURED: dict[str, Callable[[str, Mapping[str, list[FoundRun]], str | None, Path], str]] = {
    "attribution": partial(world_models.by_setting, "without"),
    "distillation": partial(world_models.by_setting, "distilled"),
    "prediction_error": world_models.prediction_error,
    "diffusion_steps": world_models.diffusion_steps,
    "inference_time": timing.inference,
    "sampling_time": timing.sampling,
}


def make_section(study: Study, by_task: Mapping[str, list[FoundRun]], folder: Path) -> Section:
    """The section of one study; its pictures go to `folder`/figures."""
    source = f"Repeats {study.source}. " if study.source else ""
    remark = f"The paper's figures: {reported.read_remark(study.reported)}" if study.reported else ""
    text = [f"{source}{remark}".strip() + "\n"]
    lines: dict[str, list[Line]] = {}
    settings: tuple[str, ...] = ()
    if study.kind in MEASURED:
        text.append(MEASURED[study.kind](study.name, by_task, study.reported, folder))
    if study.kind in COMPARISONS:
        settings = COMPARISONS[study.kind].settings
        lines = make_score_lines(study, by_task)
        if len(lines) > 1:
            text.append("Mean of the last three evaluations, over all tasks:\n")
            text.append(scores.make_overview(settings, lines))
        text += [score_task(study, task, by_task[task], lines[task], folder) for task in lines]
    if len(text) == 1:
        text.append("No run of it is finished.\n")
    return Section(study.title, "\n".join(part for part in text if part.strip()), lines, settings)


def make_score_lines(study: Study, by_task: Mapping[str, list[FoundRun]]) -> dict[str, list[Line]]:
    """By task the lines of the study's table; tasks without a finished method are left out."""
    kind = COMPARISONS[study.kind]
    paper = kind.reported(study.reported) if study.reported else {}
    lines = {
        task: scores.make_lines(study.name, task, choose_variants(collect_scores(runs, kind.settings)), paper)
        for task, runs in by_task.items()
    }
    return {task: shown for task, shown in lines.items() if shown}


def score_task(study: Study, task: str, runs: Sequence[FoundRun], shown: Sequence[Line], folder: Path) -> str:
    """One task: table, pictures, and the search behind the table where there was one."""
    settings = COMPARISONS[study.kind].settings
    text = [markdown.heading(task), scores.make_table(settings, shown)]
    if not settings:
        text.append(scores.other_peers(task))
    if settings:
        picture = curve_over_setting(study, task, shown, folder)
        text += [markdown.figures(picture)] if picture else []
    else:
        text.append(markdown.figures(*learning_curves(study.name, task, shown, folder)))
    if any(line.choice.num_candidates > 1 for line in shown):
        found = collect_scores(runs, settings)
        text.append(markdown.fold(f"All {len(found)} variants", scores.make_search_table(settings, found)))
    text.append(online.make_section(study.name, task, runs, folder))
    if study.kind in ("returns", "returns_to_go"):
        text.append(world_models.quality(study.name, task, runs, folder))
    if study.kind == "returns_to_go":
        text.append(world_models.copy_label_histogram(study.name, task, runs[0].folder, folder))
    return "\n".join(part for part in text if part.strip())


def learning_curves(study: str, task: str, shown: Sequence[Line], folder: Path) -> list[tuple[str, str]]:
    """One picture, or of many methods one per learner, so that each is legible on a narrow screen."""
    panels, planners = panels_of([line.choice.score.curve for line in shown])
    made = []
    for title, curves in panels.items():
        file = markdown.picture_file(study or "runs", task, title or "curves")
        # Its legend leaves no room for larger letters.
        drawing.draw_once(pictures.draw_learning_curves, folder / file, task, {title: curves}, planners, font_size=11)
        made.append((f"Learning curves on {task}" + (f", {title}" if title else ""), file))
    return made


def curve_over_setting(study: Study, task: str, shown: Sequence[Line], folder: Path) -> tuple[str, str] | None:
    """Score against the last of the study's settings, ours and the paper's; None where fewer than two values are."""
    if study.kind in ("attribution", "distillation"):
        return None  # no values on an axis
    *others, name = COMPARISONS[study.kind].settings
    paper = COMPARISONS[study.kind].reported(study.reported) if study.reported and study.kind == "horizons" else {}
    groups: dict[str, list[Line]] = {}
    for line in shown:
        values = line.choice.score.settings
        if not values[-1]:
            continue  # has no such setting
        prefix = [f"{other} = {value}" for other, value in zip(others, values, strict=False) if value]
        groups.setdefault(", ".join([line.choice.score.method, *prefix]), []).append(line)
    ours = [_points(label, lines) for label, lines in groups.items()]
    if max((len(points.at) for points in ours), default=0) < 2 or any(line.choice.score.curve.is_raw for line in shown):
        return None
    theirs = [
        drawing.Points(
            label, [float(h) for h, _ in found], [r.mean for _, r in found], [r.std for _, r in found], False
        )
        for label, lines in groups.items()
        if (found := _reported_curve(lines[0], paper))
    ]
    file = markdown.picture_file(study.name, task)
    label = next((line.counterpart.label for line in shown if line.counterpart), "paper")
    drawing.draw_once(drawing.draw_lines, folder / file, [*ours, *theirs], task, name, "score (0-1)", label)
    return f"Score against {name} on {task}", file


def _points(label: str, lines: Sequence[Line]) -> drawing.Points:
    found = [line.choice.score for line in lines]
    three = [score.last_three for score in found]
    return drawing.Points(
        label,
        [float(score.settings[-1]) for score in found],
        [float(values.mean()) for values in three],
        [float(values.std()) for values in three],
    )


def _reported_curve(line: Line, paper: Mapping[tuple[str, ...], Reported]) -> list[tuple[str, Reported]]:
    """The paper's values of one method on the counterpart of a line's task, at all its horizons."""
    if line.counterpart is None:
        return []
    start = (line.choice.score.method, line.counterpart.task)
    return sorted(((key[2], value) for key, value in paper.items() if key[:2] == start), key=lambda one: float(one[0]))


def raw_rows(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """The lines of all score tables, unrounded."""
    return [line.as_row(section.settings) for section in sections for shown in section.lines.values() for line in shown]
