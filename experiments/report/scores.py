"""Scores of runs, of a search the best, and the tables in which they stand beside the paper's."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dwm_jax.registry import METHODS
from dwm_jax.results.scores import Curve, final_scores

from ..studies.reported import CORL, Counterpart, Reported, find_counterpart, read_peers
from . import markdown
from .found import FoundRun, common_origin


class Score(NamedTuple):
    """One finished method of one run."""

    method: str
    settings: tuple[str, ...]  # what the study compares beside the methods: a horizon, a return-to-go
    run: FoundRun
    curve: Curve

    @property
    def last_three(self) -> np.ndarray:
        """Each seed's mean over its last three evaluations (a planner has one), shape (S,)."""
        return final_scores(self.curve, 3)

    @property
    def last(self) -> np.ndarray:
        """Each seed's last evaluation, shape (S,)."""
        return final_scores(self.curve, 1)


class Choice(NamedTuple):
    """The variant with the best mean of the last three evaluations, of so many."""

    score: Score
    num_candidates: int


def collect_scores(runs: Sequence[FoundRun], settings: Sequence[str]) -> list[Score]:
    """Every finished method of every run, methods in the registry's order, settings ascending."""
    found = [
        Score(method, tuple(run.settings[method][name] for name in settings), run, curve)
        for run in runs
        for method, curve in run.curves.items()
    ]
    order = {method: number for number, method in enumerate(METHODS)}
    return sorted(found, key=lambda score: (order[score.method], [sorting_key(value) for value in score.settings]))


def choose_variants(found: Sequence[Score]) -> list[Choice]:
    """Of each method and setting the best variant."""
    groups: dict[tuple[str, tuple[str, ...]], list[Score]] = {}
    for score in found:
        groups.setdefault((score.method, score.settings), []).append(score)
    return [Choice(max(group, key=lambda score: score.last_three.mean()), len(group)) for group in groups.values()]


def sorting_key(text: str) -> tuple[float, str]:
    """Sorting key of a setting's value: no value first, then numbers by size, then words."""
    try:
        return (float(text) if text else -np.inf), ""
    except ValueError:
        return np.inf, text


class Line(NamedTuple):
    """One line: a method (with a setting) on a task."""

    study: str
    task: str
    choice: Choice
    counterpart: Counterpart | None
    reported: Reported | None
    corl: Reported | None = None  # CORL's figure for the same method

    @property
    def difference(self) -> float | None:
        """Ours, averaged over the last three evaluations, less the paper's."""
        if self.reported is None or self.choice.score.curve.is_raw:
            return None
        return float(self.choice.score.last_three.mean()) - self.reported.mean

    def as_row(self, settings: Sequence[str]) -> dict[str, Any]:
        """For the file of raw rows."""
        score = self.choice.score
        return {
            "study": self.study,
            "task": self.task,
            "method": score.method,
            "settings": " ".join(f"{name}={value}" for name, value in zip(settings, score.settings, strict=True)),
            "variant": score.run.variant,
            "variants_searched": self.choice.num_candidates,
            "unit": "return_raw" if score.curve.is_raw else "score_0_1",
            "seeds": len(score.last),
            "episodes": score.run.episodes,
            "updates": int(score.curve.steps[-1]),
            "last_three_mean": float(score.last_three.mean()),
            "last_three_std": float(score.last_three.std()),
            "last_mean": float(score.last.mean()),
            "last_std": float(score.last.std()),
            "paper_task": self.counterpart.task if self.counterpart and self.reported else None,
            "paper_on_same_data": self.counterpart.is_same_data if self.counterpart and self.reported else None,
            "paper_mean": self.reported.mean if self.reported else None,
            "paper_std": self.reported.std if self.reported else None,
            "difference": self.difference,
            "corl_mean": self.corl.mean if self.corl else None,
            "corl_std": self.corl.std if self.corl else None,
        }


def make_lines(
    study: str, task: str, choices: Sequence[Choice], reported: Mapping[tuple[str, ...], Reported]
) -> list[Line]:
    """Our choices on one task, each with what the paper reports for the same method and settings.

    Args:
      reported: by (method, the paper's task, *settings as the study's columns have them).
    """
    by_peers = read_peers()
    tasks = {key[1] for key in reported} | {task for by_task in by_peers.values() for task in by_task}
    beside = find_counterpart(task, tasks, common_origin(choice.score.run for choice in choices))

    def find(score: Score) -> Reported | None:
        return None if beside is None else reported.get((score.method, beside.task, *score.settings))

    def find_corl(score: Score) -> Reported | None:
        if beside is None or any(score.settings):
            return None
        return by_peers.get((CORL, score.method), {}).get(beside.task)

    return [Line(study, task, choice, beside, find(choice.score), find_corl(choice.score)) for choice in choices]


def other_peers(task: str) -> str:
    """A line of what others report on the task that stands beside `task` for methods that are not ours; "" for none."""
    by_peers = {key: by_task for key, by_task in read_peers().items() if key[1] not in METHODS}
    beside = find_counterpart(task, {task for by_task in by_peers.values() for task in by_task}, None)
    if beside is None:
        return ""
    told = [
        f"{method} {markdown.mean_and_std(*by_task[beside.task])} ({source})"
        for (source, method), by_task in by_peers.items()
        if beside.task in by_task
    ]
    return f"On D4RL's {beside.task} others report: {', '.join(told)}.\n"


def make_table(settings: Sequence[str], shown: Sequence[Line]) -> str:
    """One task's table."""
    beside = next((line.counterpart for line in shown if line.reported), None)
    head = ["method", *settings, "mean of last 3", "last"]
    head += [beside.heading(), "difference"] if beside else []
    has_corl = next((line.counterpart for line in shown if line.corl), None)
    head += [has_corl.heading(CORL)] if has_corl else []
    head += ["seeds x episodes", "updates", "variant"]
    rows = []
    for line in shown:
        score, digits = line.choice.score, 1 if line.choice.score.curve.is_raw else 2
        row = [score.method, *(value or markdown.NOTHING for value in score.settings)]
        row += [markdown.format_spread(score.last_three, digits), markdown.format_spread(score.last, digits)]
        if beside:
            row.append(markdown.mean_and_std(*line.reported) if line.reported else markdown.NOTHING)
            row.append(markdown.NOTHING if line.difference is None else markdown.difference(line.difference))
        if has_corl:
            row.append(markdown.mean_and_std(*line.corl) if line.corl else markdown.NOTHING)
        row += [
            f"{len(score.last)} x {score.run.episodes}",
            f"{score.curve.steps[-1]:,}",
            score.run.variant + (f" (best of {line.choice.num_candidates})" if line.choice.num_candidates > 1 else ""),
        ]
        rows.append(row)
    return markdown.table(head, rows)


def make_overview(settings: Sequence[str], by_task: Mapping[str, Sequence[Line]]) -> str:
    """Methods x tasks: ours, averaged over the last three evaluations; without `settings` a line per method."""
    cells = {
        (line.choice.score.method, line.choice.score.settings[: len(settings)], task): line.choice.score
        for task, shown in by_task.items()
        for line in shown
    }
    rows = []
    for method, values in dict.fromkeys(key[:2] for key in cells):
        found = [cells.get((method, values, task)) for task in by_task]
        texts = [
            markdown.NOTHING
            if score is None
            else markdown.format_spread(score.last_three, 1 if score.curve.is_raw else 2)
            for score in found
        ]
        rows.append([method, *(value or markdown.NOTHING for value in values), *texts])
    return markdown.table(["method", *settings, *by_task], rows)


def make_search_table(settings: Sequence[str], found: Sequence[Score]) -> str:
    """All variants of a search, the best of each method first."""
    ranked = sorted(found, key=lambda score: -float(score.last_three.mean()))
    order = {method: number for number, method in enumerate(dict.fromkeys(score.method for score in found))}
    rows = [
        [
            score.method,
            *(value or markdown.NOTHING for value in score.settings),
            score.run.variant,
            markdown.format_spread(score.last_three),
            markdown.format_spread(score.last),
            ", ".join(markdown.number(value) for value in score.last),
        ]
        for score in sorted(ranked, key=lambda score: order[score.method])
    ]
    return markdown.table(["method", *settings, "variant", "mean of last 3", "last", "last, by seed"], rows)
