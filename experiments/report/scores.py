"""Scores of the runs of one task, and of a search the best: which variant stands for a method."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dwm_jax.registry import METHODS
from dwm_jax.results import Curve, final_scores
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


def _horizon(config: dict[str, Any], method: str) -> str:
    return str(config["policy"]["horizon"]) if _imagines(method) else ""


def _sequence_length(config: dict[str, Any], method: str) -> str:
    model = METHODS[method].model
    return str(config["world_models"][model].get("sequence_length", "")) if _imagines(method) else ""


def _return_to_go(config: dict[str, Any], method: str) -> str:
    return "" if METHODS[method].model is None else f"{config['policy']['return_to_go']:g}"


def _lambda(config: dict[str, Any], method: str) -> str:
    return f"{config['policy']['lambda_'][METHODS[method].learner]:g}" if _imagines(method) else ""


def _imagines(method: str) -> bool:
    """Learns from imagined trajectories: neither from recorded or made-up transitions alone, nor by planning."""
    cell = METHODS[method]
    return cell.learner is not None and cell.model not in (None, "transition_diffusion")


# What a study may compare, read from a run's config; by the head of its column.
SETTINGS: dict[str, Callable[[dict[str, Any], str], str]] = {
    "H": _horizon,
    "T": _sequence_length,
    "return-to-go": _return_to_go,
    "lambda": _lambda,
}


def scores(runs: Sequence[Run], settings: Sequence[str]) -> list[Score]:
    """Every finished method of every run, methods in the registry's order, settings ascending."""
    found = [
        Score(method, tuple(SETTINGS[name](run.config, method) for name in settings), run, curve)
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
