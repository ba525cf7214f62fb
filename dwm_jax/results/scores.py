"""From evaluation episodes to curves and numbers: mean and standard deviation over seeds, never the best."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dwm_jax.results.evaluator import Episodes, normalized_scores
from dwm_jax.runtime.row_files import Result


class Curve(NamedTuple):
    """Scores of one method at its evaluations; means over the episodes of each."""

    method: str
    steps: np.ndarray  # (evaluations,)
    scores: np.ndarray  # (evaluations, S), the 0-1 scale; raw returns where a task has no reference scores
    is_raw: bool


def evaluation_rows(
    method: str,
    task: str,
    reference_scores: tuple[float, float] | None,
    seeds: Sequence[int],
    step: int,
    episodes: Episodes,
    values_SE: np.ndarray | None = None,
) -> list[Result]:
    """One row per seed and episode of one evaluation.

    Args:
      values_SE: the critics' value of the episodes' initial states, raw units; None where a method has no critics.
    """
    scores_SE = normalized_scores(episodes.returns, reference_scores)
    values_SE = np.full_like(scores_SE, np.nan) if values_SE is None else values_SE
    return [
        Result(
            method=method,
            task=task,
            seed=seed,
            step=step,
            episode=episode,
            return_raw=episodes.returns[s, episode],
            score_0_1=score,
            score_0_100=100 * score,
            discounted_return=episodes.discounted_returns[s, episode],
            value_at_start=values_SE[s, episode],
        )
        for s, seed in enumerate(seeds)
        for episode, score in enumerate(scores_SE[s])
    ]


class CriticCheck(NamedTuple):
    """A method's critics against measured returns, by evaluation: means over seeds and episodes, raw units."""

    method: str
    steps: np.ndarray  # (evaluations,)
    values: np.ndarray  # (evaluations,) the critics' value of the initial states
    returns: np.ndarray  # (evaluations,) the discounted returns that followed

    @property
    def last(self) -> tuple[float, float]:
        """(value, return) over the last three evaluations."""
        return float(self.values[-3:].mean()), float(self.returns[-3:].mean())


def make_critic_checks(results: Sequence[Result]) -> dict[str, CriticCheck]:
    """One check per method that has critics."""
    pairs: dict[str, dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        if not math.isnan(result.value_at_start):
            pairs[result.method][result.step].append((result.value_at_start, result.discounted_return))
    return {
        method: CriticCheck(
            method, np.array(sorted(by_step)), *np.array([np.mean(by_step[step], axis=0) for step in sorted(by_step)]).T
        )
        for method, by_step in pairs.items()
    }


def make_curves(results: Sequence[Result]) -> list[Curve]:
    """One curve per method, in the order the methods appear."""
    cells: dict[str, dict[int, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    raw: dict[str, bool] = {}
    for result in results:
        raw[result.method] = math.isnan(result.score_0_1)
        score = result.return_raw if raw[result.method] else result.score_0_1
        cells[result.method][result.step][result.seed].append(score)
    return [
        Curve(
            method,
            np.array(sorted(by_step)),
            np.array([[np.mean(by_step[step][seed]) for seed in sorted(by_step[step])] for step in sorted(by_step)]),
            raw[method],
        )
        for method, by_step in cells.items()
    ]


def describe_evaluation(rows: Sequence[Result]) -> str:
    """What one evaluation of a method gave, in a few words: its score or, where a task has none, its return."""
    (curve,) = make_curves(rows)
    quantity, digits = ("return", 1) if curve.is_raw else ("score", 2)
    return f"{quantity} {format_spread(curve.scores[-1], digits)}"


def final_scores(curve: Curve, num_evaluations: int) -> np.ndarray:
    """Each seed's mean over the last evaluations, shape (S,)."""
    return np.asarray(curve.scores[-num_evaluations:].mean(axis=0))


def fall_of_loss(losses: np.ndarray) -> float:
    """The relative decrease of a loss from the second third of its rows to the last third.

    NaN where there are fewer than three rows or the loss is not positive, as a likelihood's may not be: shares of it
    say nothing then. (4, 4, 2) fell by 0.5.
    """
    if len(losses) < 3 or not (losses > 0).all():
        return float("nan")
    _, before, last = (part.mean() for part in np.array_split(losses, 3))
    return float(1 - last / before)


def remark_on_origin(origin: str) -> str:
    """The remark, in brackets, on an error on segments of that origin; "" where they were held out."""
    if origin == "held-out":
        return ""
    return " (no episode was held out: on others than it was trained on it may be larger)"


def format_spread(values: np.ndarray, digits: int) -> str:
    """Mean and standard deviation; NaN is what is not known."""
    return "-" if np.isnan(values).any() else f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"
