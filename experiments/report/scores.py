"""Scores of the runs of one task, and of a search the best: which variant stands for a method."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dwm_jax.registry import METHODS
from dwm_jax.results.scores import Curve, final_scores
from experiments.report.reading import Run


class Score(NamedTuple):
    """One finished method of one run."""

    method: str
    settings: tuple[str, ...]  # what the study compares beside the methods: a horizon, a return-to-go
    run: Run
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


def scores(runs: Sequence[Run], settings: Sequence[str]) -> list[Score]:
    """Every finished method of every run, methods in the registry's order, settings ascending."""
    found = [
        Score(method, tuple(run.settings[method][name] for name in settings), run, curve)
        for run in runs
        for method, curve in run.curves.items()
    ]
    order = {method: number for number, method in enumerate(METHODS)}
    return sorted(found, key=lambda score: (order[score.method], [as_number(value) for value in score.settings]))


def choose(found: Sequence[Score]) -> list[Choice]:
    """Of each method and setting the best variant."""
    groups: dict[tuple[str, tuple[str, ...]], list[Score]] = {}
    for score in found:
        groups.setdefault((score.method, score.settings), []).append(score)
    return [Choice(max(group, key=lambda score: score.last_three.mean()), len(group)) for group in groups.values()]


def as_number(text: str) -> float:
    """A setting's value; what is none stands first."""
    return float(text) if text else -np.inf
