"""All methods of all studies side by side: the best score of each on every task, and figures over tasks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dwm_jax.registry import LEARNERS, METHODS, learner_of

from . import drawing, markdown, scores, statistics
from .scores import Line
from .statistics import Interval

# By task and method; of several studies the better.
Best = dict[str, dict[str, Line]]


def compare_methods(
    returns: Sequence[Mapping[str, list[Line]]], others: Sequence[Mapping[str, list[Line]]], folder: Path
) -> str:
    """The section; "" for fewer than two methods.

    Args:
      returns: by task the lines of the studies that compare methods.
      others: of those that compare settings; what they have of methods that no other study has is taken from them.
      folder: pictures go to `folder`/figures.
    """
    best = choose_best(returns)
    known = {method for by_method in best.values() for method in by_method}
    for task, by_method in choose_best(others).items():
        best.setdefault(task, {}).update({method: line for method, line in by_method.items() if method not in known})
    best = {task: by_method for task, by_method in best.items() if by_method}
    if len({method for by_method in best.values() for method in by_method}) < 2:
        return ""
    lines = {task: list(by_method.values()) for task, by_method in best.items()}
    text = ["Mean of the last three evaluations; of several studies the better run.\n", scores.make_overview((), lines)]
    text += remark_on_budgets(best)
    seeds, tasks, left_out = find_comparable(best)
    if len(seeds) < 2:
        return "\n".join(text)
    text.append(
        f"Over {', '.join(map(markdown.escape, tasks))}: the interquartile mean of all seeds, with the "
        f"{statistics.CONFIDENCE:.0%} interval of a stratified bootstrap ({statistics.NUM_RESAMPLES:,} resamples)."
        + (f" Without {', '.join(left_out)}, for want of a score on all of these tasks." if left_out else "")
        + "\n"
    )
    means = {method: statistics.interquartile_mean(found) for method, found in seeds.items()}
    rows = [[method, *(markdown.number(float(bound)) for bound in mean)] for method, mean in means.items()]
    text.append(markdown.table(["method", "interquartile mean", "from", "to"], rows))
    text.append(markdown.figures(*draw_over_tasks(seeds, means, folder)))
    return "\n".join(text)


def choose_best(studies: Sequence[Mapping[str, list[Line]]]) -> Best:
    """Of every method on every task the line with the best mean of the last three evaluations."""
    best: Best = {}
    for lines in studies:
        for task, shown in lines.items():
            for line in shown:
                method, by_method = line.choice.score.method, best.setdefault(task, {})
                if method not in by_method or _primary(line) > _primary(by_method[method]):
                    by_method[method] = line
    return best


def remark_on_budgets(best: Best) -> list[str]:
    """A line that says so where policies learnt for different numbers of updates."""
    updates = {
        line.choice.score.run.num_updates
        for by_method in best.values()
        for method, line in by_method.items()
        if learner_of(METHODS[method])
    }
    return [f"Budgets differ: {min(updates):,} to {max(updates):,} updates of a policy.\n"] if len(updates) > 1 else []


def find_comparable(best: Best) -> tuple[dict[str, list[np.ndarray]], list[str], list[str]]:
    """Methods with normalised scores on the same tasks: as many cells of methods x tasks as a whole block can have.

    Returns:
      (each method's seeds by task, the tasks, the methods left out).
    """
    order = {method: number for number, method in enumerate(METHODS)}
    scored: dict[str, set[str]] = {}
    for task, by_method in best.items():
        for method, line in by_method.items():
            scored.setdefault(method, set())
            if not line.choice.score.curve.is_raw:
                scored[method].add(task)
    methods = sorted(scored, key=order.__getitem__)

    def having(tasks: set[str]) -> list[str]:
        return [method for method in methods if tasks and tasks <= scored[method]]

    chosen = max((scored[method] for method in methods), key=lambda tasks: len(tasks) * len(having(tasks)))
    tasks = [task for task in best if task in chosen]
    seeds = {method: [best[task][method].choice.score.last_three for task in tasks] for method in having(chosen)}
    return seeds, tasks, [method for method in methods if method not in seeds]


def draw_over_tasks(
    seeds: Mapping[str, list[np.ndarray]], means: Mapping[str, Interval], folder: Path
) -> list[tuple[str, str]]:
    """Interquartile means in one picture; performance profiles in one per learner, planners in each."""
    file = "figures/interquartile_means.svg"
    thresholds = thresholds_of(np.concatenate([values for found in seeds.values() for values in found]))
    made = [("Interquartile means with their intervals", file)]
    drawing.draw_once(drawing.draw_intervals, folder / file, means, "Interquartile mean")
    for learner in dict.fromkeys(learner for method in seeds if (learner := learner_of(METHODS[method]))):
        shown = {
            method: statistics.performance_profile(found, thresholds)
            for method, found in seeds.items()
            if learner_of(METHODS[method]) in (learner, None)
        }
        file = markdown.picture_file("profiles", learner)
        title = f"Performance profiles, {LEARNERS[learner].title}"
        drawing.draw_once(drawing.draw_profiles, folder / file, thresholds, shown, title)
        made.append((f"{title}: the fraction of seeds above each score", file))
    return made


def thresholds_of(scores_S: np.ndarray) -> np.ndarray:
    """From just below the least score, which all are above, to just above the largest, which none is."""
    least, largest = float(scores_S.min()), float(scores_S.max())
    margin = 0.03 * ((largest - least) or 1.0)
    return np.linspace(least - margin, largest + margin, 61)


def _primary(line: Line) -> float:
    return float(line.choice.score.last_three.mean())
