"""Figures over several tasks and seeds: interquartile mean and performance profile, with stratified bootstrap
intervals (Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice").

Stratified: seeds are drawn with replacement inside each task, which is how scipy's bootstrap treats several samples.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

NUM_RESAMPLES = 2_000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A figure and its confidence interval; NaN bounds where a task has one seed alone."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def interquartile_mean(scores: Sequence[np.ndarray]) -> Interval:
    """The mean of the middle half of all seeds of all tasks.

    Args:
      scores: one array of seeds, shape (S,), per task.
    """

    def statistic(*by_task: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(stats.trim_mean(np.concatenate(by_task, axis=axis), 0.25, axis=axis))

    return _interval(scores, statistic)


def performance_profile(scores: Sequence[np.ndarray], thresholds: np.ndarray) -> Interval:
    """The fraction of all seeds of all tasks that score above each threshold, shape of `thresholds`."""

    def statistic(*by_task: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(np.concatenate(by_task, axis=axis).mean(axis=axis))

    # A row per threshold; the bootstrap draws the same seeds for all of them.
    return _interval([(seeds > thresholds[:, None]).astype(float) for seeds in scores], statistic)


def _interval(samples: Sequence[np.ndarray], statistic: Callable[..., np.ndarray]) -> Interval:
    value = statistic(*samples, axis=-1)
    if min(sample.shape[-1] for sample in samples) < 2:
        return Interval(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    found = stats.bootstrap(
        samples,
        statistic,
        n_resamples=NUM_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        axis=-1,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(value, np.asarray(found.low), np.asarray(found.high))
