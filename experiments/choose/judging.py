"""All estimates of all policies of one group, beside their measured returns."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dwm_jax.data.dataset import start_rows
from dwm_jax.runtime.progress import say, show_progress

from . import candidates, fitted_q, imagined, rankings
from .candidates import FinishedPolicies, Group

# The estimates, in the order of the table, with what they are.
ESTIMATES = {
    "fitted Q": "fitted Q evaluation on all recorded transitions: discounted return from the recorded initial states",
    "imagined": "the diffusion world model's return after the policy's first action there",
    "own critic": "what the method's own critics predicted for the initial states of its last evaluation",
}
KEPT = (1, 3)  # k of the regrets


class Judged(NamedTuple):
    """One policy. Estimates are discounted returns, raw; NaN where there is none."""

    task: str
    run: str
    method: str
    seed: int
    estimates: tuple[float, ...]  # as in ESTIMATES
    discounted_return: float  # measured: mean of its last evaluation
    score: float  # on the 0-1 scale; raw returns where the task has none

    def as_row(self) -> dict[str, Any]:
        """For the file."""
        row = {"task": self.task, "run": self.run, "method": self.method, "seed": self.seed}
        estimates = {name.replace(" ", "_"): value for name, value in zip(ESTIMATES, self.estimates, strict=True)}
        return row | estimates | {"discounted_return": self.discounted_return, "score": self.score}


class Quality(NamedTuple):
    """How good one ranking was, in scores."""

    estimate: str  # a key of ESTIMATES
    number: int  # of policies that have the estimate and were evaluated
    spearman: float
    regrets: tuple[float, ...]  # at KEPT

    def as_row(self, task: str) -> dict[str, Any]:
        """For the file."""
        regrets = {f"regret_at_{k}": value for k, value in zip(KEPT, self.regrets, strict=True)}
        return {"task": task, "estimate": self.estimate, "policies": self.number, "spearman": self.spearman} | regrets


def judge(group: Group, runs_folder: Path, settings: fitted_q.Settings) -> list[Judged]:
    """Every policy of the group, best by fitted Q evaluation first.

    Raises:
      ValueError: the group's data is not there, or another than its runs'.
    """
    config, recording = candidates.load_run(group.folders[0])
    transitions = fitted_q.transitions_of(recording.dataset, recording.return_scale, config.gamma)
    found = candidates.find_judge(group, recording, runs_folder)
    starts_EO = recording.dataset.observations[start_rows(recording.dataset, 1)]
    imagined_returns, fit = None, fitted_q.make_fit(settings)
    if found is None:
        say(f"{group.task}: no diffusion world model is kept beside these runs; nothing is imagined")
    else:
        run, trained = found
        say(f"{group.task}: imagining {imagined.horizon_of(trained, run)} steps with the world model of {run.workdir}")
        imagined_returns = imagined.make_imagine_returns(run, trained)
    judged: list[Judged] = []
    for policies in group.policies:
        actions = fitted_q.actions_of(make_act(policies), recording.dataset)
        by_fit = recording.return_scale * fit_worth(policies, fit(transitions, actions), settings.num_updates)
        by_dwm = np.full(len(by_fit), np.nan)
        if imagined_returns is not None:
            by_dwm = imagined_returns(starts_EO, actions.start_SEA)
        judged += make_judged(group.task, policies, by_fit, by_dwm)
    return sorted(judged, key=lambda one: -one.estimates[0])


def make_act(policies: FinishedPolicies) -> Callable[[np.ndarray], np.ndarray]:
    """Raw observations (n, O) -> actions (S, n, A)."""
    number = len(policies.exported.seeds)

    def act(observation_nO: np.ndarray) -> np.ndarray:
        everyone = np.broadcast_to(observation_nO, (number, *observation_nO.shape))
        return np.asarray(policies.exported.act(everyone, 0))

    return act


def fit_worth(policies: FinishedPolicies, fit: Iterator[tuple[int, np.ndarray]], num_updates: int) -> np.ndarray:
    """Of each seed, in units of the return scale; shows progress."""
    label = f"fitted Q of {policies.exported.method} in {policies.place}"
    worth_S = np.zeros(len(policies.exported.seeds))
    with show_progress(label, num_updates) as progress:
        for update, worth_S in fit:
            progress.advance(update, f"mean {worth_S.mean():.4g}")
        return worth_S


def make_judged(task: str, policies: FinishedPolicies, by_fit: np.ndarray, by_dwm: np.ndarray) -> list[Judged]:
    """One line per seed."""
    scores = policies.mean_by_seed("score_0_1")
    scores = np.where(np.isnan(scores), policies.mean_by_seed("return_raw"), scores)
    columns = zip(
        policies.exported.seeds,
        zip(by_fit, by_dwm, policies.mean_by_seed("value_at_start"), strict=True),
        policies.mean_by_seed("discounted_return"),
        scores,
        strict=True,
    )
    method = policies.exported.method
    return [Judged(task, policies.place, method, seed, tuple(said), true, score) for seed, said, true, score in columns]


def rate_rankings(judged: list[Judged]) -> list[Quality]:
    """How good every ranking was, of the policies that were evaluated; nothing where fewer than two were."""
    found = []
    scores = np.array([one.score for one in judged])
    for index, name in enumerate(ESTIMATES):
        estimates = np.array([one.estimates[index] for one in judged])
        known = ~np.isnan(estimates) & ~np.isnan(scores)
        if known.sum() >= 2:
            pair = estimates[known], scores[known]
            regrets = tuple(rankings.regret(*pair, k) for k in KEPT)
            found.append(Quality(name, int(known.sum()), rankings.spearman(*pair), regrets))
    return found
