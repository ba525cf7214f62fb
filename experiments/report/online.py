"""A method's score against the number of evaluation episodes that were allowed for choosing its variant.

The best variant of a search is known only after all of them were evaluated, for ten episodes a seed and more, and a
table that shows it flatters whoever searched most. Here the choice is made by a bandit that pays for every episode, as
in "A Clean Slate for Offline Reinforcement Learning" (Jackson et al. 2025, arXiv 2504.11453):

    pull the arm with the largest  mean + sqrt(ALPHA log(n) / pulls),   n pulls so far, arms never pulled first,

and after every pull the arm with the best mean so far is what one would take home; its mean over all recorded episodes
is the score that counts. An arm is a variant, a pull one of the episodes that results.csv has of its last three
evaluations, all seeds, drawn with replacement. Ties are broken at random. Means over trials with other draws.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import drawing, markdown
from .found import FoundRun
from .scores import Score, collect_scores

ALPHA, NUM_TRIALS, NUM_PULLS = 2.0, 1_000, 100
# Numbers of episodes that the table shows.
SHOWN = (1, 3, 10, 30, 100)


class Trials(NamedTuple):
    """The score of the variant chosen after n = 1 .. N episodes, over trials."""

    mean: np.ndarray  # (N,)
    low: np.ndarray  # (N,) of the middle half of the trials
    high: np.ndarray  # (N,)


class Arms(NamedTuple):
    """A method's variants on a task."""

    method: str
    episodes: list[np.ndarray]  # of each variant, the scores of its recorded episodes
    is_raw: bool  # returns, where the task has no reference scores

    @property
    def means(self) -> np.ndarray:
        """The score of each variant: (A,)."""
        return np.array([scores.mean() for scores in self.episodes])


def make_section(study: str, task: str, runs: Sequence[FoundRun], folder: Path) -> str:
    """Table and picture of the methods that have at least two variants on a task; "" where none has."""
    found = arms_of(runs)
    if not found:
        return ""
    trials = {arms.method: run_trials(arms.episodes) for arms in found}
    head = ["method", "variants", *(f"{n} episode{'s' * (n > 1)}" for n in SHOWN), "best variant", "any variant"]
    rows = []
    for arms in found:
        digits = 1 if arms.is_raw else 2
        scores = [*(trials[arms.method].mean[n - 1] for n in SHOWN), arms.means.max(), arms.means.mean()]
        cells = [markdown.number(float(score), digits) for score in scores]
        rows.append([arms.method, str(len(arms.episodes)), *cells])
    file = markdown.picture_file(study or "runs", task, "online")
    lines = [
        drawing.Band(arms.method, *trials[arms.method], best=float(arms.means.max()), every=float(arms.means.mean()))
        for arms in found
    ]
    drawing.draw_once(drawing.draw_bands, folder / file, lines, task, "evaluation episodes allowed", unit_of(found))
    caption = f"Score on {task} by the evaluation episodes that choosing a variant may cost"
    return (
        "The score that choosing among a method's variants gets, by the evaluation episodes that it may cost: a UCB "
        "bandit over variants that draws from the recorded episodes of the last three evaluations "
        f"({NUM_TRIALS:,} trials). Without any it is that of any variant.\n\n"
        + markdown.table(head, rows)
        + "\n"
        + markdown.figures((caption, file))
    )


def unit_of(found: Sequence[Arms]) -> str:
    """For the axis."""
    return "return" if any(arms.is_raw for arms in found) else "score (0-1)"


def arms_of(runs: Sequence[FoundRun]) -> list[Arms]:
    """The methods with at least two variants, in the registry's order."""
    by_method: dict[str, list[Score]] = {}
    for score in collect_scores(runs, ()):
        by_method.setdefault(score.method, []).append(score)
    return [
        Arms(method, [episodes_of(score) for score in found], found[0].curve.is_raw)
        for method, found in by_method.items()
        if len(found) > 1
    ]


def episodes_of(score: Score) -> np.ndarray:
    """The episodes of a method's last three evaluations, all seeds."""
    last_three = set(score.curve.steps[-3:].tolist())
    rows = [row for row in score.run.results if row.method == score.method and row.step in last_three]
    return np.array([row.return_raw if score.curve.is_raw else row.score_0_1 for row in rows])


def run_trials(
    episodes: Sequence[np.ndarray], num_trials: int = NUM_TRIALS, num_pulls: int = NUM_PULLS, seed: int = 0
) -> Trials:
    """The bandit above, `num_trials` times.

    Args:
      episodes: of each of A >= 2 arms its recorded scores. For the bandit they are brought to [0, 1] by the lowest and
        the highest of all, which is where the width of its bound belongs.
    """
    rng = np.random.default_rng(seed)
    every = np.concatenate(episodes)
    low, width = every.min(), np.ptp(every) or 1.0
    means = np.array([scores.mean() for scores in episodes])
    trial = np.arange(num_trials)
    counts, sums = np.zeros((2, num_trials, len(episodes)))
    taken = np.empty((num_pulls, num_trials))
    for pulls in range(num_pulls):
        arm = _argmax(upper_bounds(counts, sums, pulls), rng)
        # One draw for every arm, of which the one that was pulled counts.
        drawn = np.stack([rng.choice(scores, num_trials) for scores in episodes], axis=1)
        counts[trial, arm] += 1
        sums[trial, arm] += (drawn[trial, arm] - low) / width
        known = np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)
        taken[pulls] = means[_argmax(known, rng)]
    return Trials(taken.mean(axis=1), *np.quantile(taken, [0.25, 0.75], axis=1))


def upper_bounds(counts: np.ndarray, sums: np.ndarray, pulls: int) -> np.ndarray:
    """mean + sqrt(ALPHA log(pulls) / count), elementwise; infinite where an arm was never pulled."""
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = sums / counts + np.sqrt(ALPHA * np.log(max(pulls, 1)) / counts)
    return np.where(counts == 0, np.inf, bound)


def _argmax(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The index of the largest of each row; among equals one at random."""
    is_largest = values == values.max(axis=1, keepdims=True)
    return np.asarray(np.argmax(is_largest * rng.uniform(0.5, 1, values.shape), axis=1))
