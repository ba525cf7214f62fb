"""From evaluation episodes to a table: mean and standard deviation over seeds, never the best."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dwm_jax.results.diagnostics import PredictionError
from dwm_jax.results.evaluator import normalized_scores
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
    returns_SE: np.ndarray,
) -> list[Result]:
    """One row per seed and episode of one evaluation."""
    scores_SE = normalized_scores(returns_SE, reference_scores)
    return [
        Result(method, task, seed, step, episode, returns_SE[s, episode], score, 100 * score)
        for s, seed in enumerate(seeds)
        for episode, score in enumerate(scores_SE[s])
    ]


def curves(results: Sequence[Result]) -> list[Curve]:
    """One curve per method, in the order the methods appear."""
    cells: dict[str, dict[int, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    raw: dict[str, bool] = {}
    for result in results:
        raw[result.method] = bool(np.isnan(result.score_0_1))
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


def final_scores(curve: Curve, num_evaluations: int) -> np.ndarray:
    """Each seed's mean over the last evaluations, shape (S,)."""
    return np.asarray(curve.scores[-num_evaluations:].mean(axis=0))


def summary(
    curves: Sequence[Curve],
    pretraining: Mapping[str, float],
    learning: Mapping[str, float],
    acting: Mapping[str, float],
) -> str:
    """The table of the methods as Markdown.

    Args:
      curves: the scores of every method.
      pretraining, learning: wall seconds by method: of its model (shared by the methods that use it), and of
        imagining, learning and evaluating.
      acting: wall seconds of one decision, by method.
    """
    lines = [
        "Score: mean and standard deviation over seeds (each seed's mean over its evaluation episodes), at the last "
        "evaluation and averaged over the last three. 0-100 is D4RL's scale, 0-1 the paper's. Pretraining is that of "
        "the method's model, which methods share; learning is imagination, updates and evaluation of all seeds.",
        "",
        "| method | seeds | updates | last (0-100) | last (0-1) | mean of last 3 (0-1) | pretraining (s) "
        "| learning (s) | one decision (ms) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for curve in curves:
        last, three = final_scores(curve, 1), final_scores(curve, 3)
        hundred = "raw return" if curve.is_raw else _spread(100 * last, 1)
        lines.append(
            f"| {curve.method} | {curve.scores.shape[1]} | {curve.steps[-1]} | {hundred} | {_spread(last, 2)} "
            f"| {_spread(three, 2)} | {pretraining[curve.method]:.0f} | {learning[curve.method]:.0f} "
            f"| {1000 * acting[curve.method]:.2f} |"
        )
    return "\n".join(lines) + "\n"


def model_summary(errors: Mapping[str, PredictionError], pretraining: Mapping[str, float]) -> str:
    """The table of the world models as Markdown.

    Args:
      errors: by world model and who acted in it, as "model, following ...".
      pretraining: wall seconds by model.
    """
    horizon = len(next(iter(errors.values())).reward)
    lines = [
        "Mean squared error on held-out segments at the first and the last imagined step; states in units of the "
        "data's standard deviation, averaged over dimensions.",
        "",
        f"| world model | state, step 1 | state, step {horizon} | reward, step 1 | reward, step {horizon} "
        "| pretraining (s) |",
        "|---|---|---|---|---|---|",
    ]
    for label, error in errors.items():
        cells = [f"{value:.3g}" for values in (error.observation, error.reward) for value in (values[0], values[-1])]
        lines.append(f"| {label} | {' | '.join(cells)} | {pretraining[label.split(',')[0]]:.0f} |")
    return "\n".join(lines) + "\n"


def _spread(values: np.ndarray, digits: int) -> str:
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"
