"""From evaluation episodes to a table: mean and standard deviation over seeds, never the best."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dwm_jax.results.diagnostics import Diagnosis
from dwm_jax.results.evaluator import Episodes, normalized_scores
from dwm_jax.results.labels import model_of_label
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


def make_method_table(
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
        hundred = "raw return" if curve.is_raw else format_spread(100 * last, 1)
        lines.append(
            f"| {curve.method} | {curve.scores.shape[1]} | {curve.steps[-1]} | {hundred} | {format_spread(last, 2)} "
            f"| {format_spread(three, 2)} | {pretraining[curve.method]:.0f} | {learning[curve.method]:.0f} "
            f"| {1000 * acting[curve.method]:.2f} |"
        )
    return "\n".join(lines) + "\n"


def make_critic_table(checks: Mapping[str, CriticCheck], mean_q: Mapping[str, float], mean_label: float) -> str:
    """The table of the critics as Markdown.

    Args:
      checks, mean_q: by method; raw units.
      mean_label: the data's mean return-to-go.
    """
    lines = [
        "Critic values against measured discounted returns, raw units: the critics' value of the initial states of "
        "the last three evaluations, the discounted return that followed, and the mean Q over the last batches; the "
        f"data's mean return-to-go is {mean_label:.4g}.",
        "",
        "| method | critic value at initial states | discounted return | ratio | mean Q over the last batches |",
        "|---|---|---|---|---|",
    ]
    for name, check in checks.items():
        value, measured = check.last
        ratio = f"{value / measured:.2f}" if measured else "-"
        lines.append(f"| {name} | {value:.4g} | {measured:.4g} | {ratio} | {_cell(mean_q[name], 4)} |")
    return "\n".join(lines) + "\n"


def make_value_table(found: Mapping[str, Diagnosis], horizons: Mapping[str, int], gamma: float) -> str:
    """What critics think of imagined states, as Markdown; "" where no critics learn from imagination.

    A target bootstraps at s_{t+H}. Where V(imagined) = (1 + shift) V(recorded) there, a value whose targets see a
    return R in H steps, and no end, settles at

        V = R + gamma^H (1 + shift) V = R / (1 - gamma^H (1 + shift))    instead of    R / (1 - gamma^H),

    so that a shift that takes about as much as the discount, 1 - gamma^H, halves it.

    Args:
      found: by label (`results.labels`), distilled models marked or not.
      horizons: H by model.
      gamma: the discount.
    """
    rows = []
    for label, one in found.items():
        horizon = horizons[model_of_label(label)]
        for name, agreement in one.values.items():
            shifts = " | ".join(_share(agreement.shift[step - 1]) for step in (1, horizon))
            rows.append(f"| {label} | {name} | {horizon} | {shifts} | {_share(gamma**horizon - 1)} |")
    if not rows:
        return ""
    lines = [
        "The mean value of imagined states over that of recorded ones by the same critics, less 1, at the first step "
        "and at the last that policies use, H. Targets bootstrap there: what imagination takes from the value is lost "
        "in every target anew, beside what discounting over H steps takes.",
        "",
        "| world model | critics of | H | imagined states, step 1 | imagined states, step H | discount, H steps |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def fall_of_loss(losses: np.ndarray) -> float:
    """The relative decrease of a loss from the second third of its rows to the last third.

    NaN where there are fewer than three rows or the loss is not positive, as a likelihood's may not be: shares of it
    say nothing then. (4, 4, 2) fell by 0.5.
    """
    if len(losses) < 3 or not (losses > 0).all():
        return float("nan")
    _, before, last = (part.mean() for part in np.array_split(losses, 3))
    return float(1 - last / before)


def make_model_table(
    found: Mapping[str, Diagnosis],
    pretraining: Mapping[str, float],
    falls: Mapping[str, float],
    horizons: Mapping[str, int],
    origin: str,
    start_steps: int,
) -> str:
    """The table of the world models as Markdown.

    Args:
      found: by label (`results.labels`), distilled models marked or not.
      pretraining: wall seconds by model.
      falls: `fall_of_loss` by model.
      horizons: by model, how many of the steps policies used.
      origin, start_steps: of the segments ("held-out" or "training"), and within how many steps of an episode those at
        starts begin.
    """
    horizon = len(next(iter(found.values())).error.reward)
    lines = [
        f"World models on {origin} segments at the first and the last imagined step{remark_on_origin(origin)}. State: "
        "mean squared error in units of the data's variance, averaged over dimensions; at starts: of segments that "
        f"begin within the first {start_steps} steps of an episode. Spread: variance between draws over the variance "
        "that is unexplained, and, narrowest, the least variance of imagined over recorded states in any tenth of the "
        "segments by label; 1 is right. Energy score: of the distribution of the draws, over that of recorded states "
        "drawn blindly; 0 is right about everything, 1 knows nothing, and a lack of spread costs as errors do. "
        "Terminations: found is the share of recorded terminations that the model had predicted by that step; invented "
        "is the share of segments still running at the last step for which the model had predicted a termination. "
        "Loss fell: by how much the training loss of the last third of the updates lies below that of the third "
        "before; one that fell by more than a few percent was not trained to its end. Steps used by policies: how "
        "many of these steps policies learn from (policy.largest_error).",
        "",
        f"| world model | state, step 1 | state, step {horizon} | at starts, step {horizon} | reward, step 1 "
        f"| reward, step {horizon} "
        f"| spread, step 1 | spread, step {horizon} | narrowest | energy score, step 1 | energy score, step {horizon} "
        f"| terminations found | terminations invented by step {horizon} "
        "| loss fell | steps used by policies | pretraining (s) |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for label, one in found.items():
        name = model_of_label(label)
        fall = f"{falls[name]:.1%}" if np.isfinite(falls[name]) else "-"
        cells = " | ".join(map(_cell, _measurements(one)))
        lines.append(f"| {label} | {cells} | {fall} | {horizons[name]} | {pretraining[name]:.0f} |")
    return "\n".join(lines) + "\n"


def _measurements(one: Diagnosis) -> list[float]:
    """What the table of the world models shows of one, in the order of its columns."""
    state, reward, spread, energy = one.error.observation, one.error.reward, one.spread_over_error, one.energy_score
    spreads = one.variance_by_label[np.isfinite(one.variance_by_label)]
    found = one.terminations.found[np.isfinite(one.terminations.found)]
    return [
        state[0],
        state[-1],
        one.error_at_starts.observation[-1],
        reward[0],
        reward[-1],
        spread[0],
        spread[-1],
        spreads.min() if len(spreads) else np.nan,
        energy[0],
        energy[-1],
        found.mean() if len(found) else np.nan,
        one.terminations.invented[-1],
    ]


def remark_on_origin(origin: str) -> str:
    """The remark, in brackets, on an error on segments of that origin; "" where they were held out."""
    if origin == "held-out":
        return ""
    return " (no episode was held out: on others than it was trained on it may be larger)"


def _cell(number: float, digits: int = 3) -> str:
    """A number in a table; NaN is one that is not known."""
    return "-" if np.isnan(number) else f"{number:.{digits}g}"


def _share(number: float) -> str:
    """A signed share in a table; NaN is one that is not known."""
    return "-" if np.isnan(number) else f"{number:+.2%}"


def format_spread(values: np.ndarray, digits: int) -> str:
    """Mean and standard deviation; NaN is what is not known."""
    return "-" if np.isnan(values).any() else f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"
