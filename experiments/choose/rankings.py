"""How good a ranking was, compared with the measured scores of the policies."""

from math import comb

import numpy as np
from scipy import stats


def spearman(estimates_n: np.ndarray, truth_n: np.ndarray) -> float:
    """Spearman's rank correlation, ties by their mean rank; NaN where all of either are alike, or fewer than two."""
    if len(estimates_n) < 2 or np.ptp(estimates_n) == 0 or np.ptp(truth_n) == 0:
        return float("nan")
    return float(stats.spearmanr(estimates_n, truth_n).statistic)


def regret(estimates_n: np.ndarray, truth_n: np.ndarray, k: int) -> float:
    """What is lost by keeping the best of the k policies that are ranked first, instead of the best of all.

        regret@k = max_i truth_i - E[ max_{i in first k} truth_i ]

    Where policies are estimated alike across the k-th place, it is open which of them are kept: the expectation is over
    all ways to choose, each as likely as any other.
    """
    k = min(k, len(estimates_n))
    border = np.sort(estimates_n)[::-1][k - 1]
    certain = truth_n[estimates_n > border]
    tied = np.sort(truth_n[estimates_n == border])[::-1]
    num_chosen, least = k - len(certain), certain.max(initial=-np.inf)
    # The best of the chosen is the i-th of the tied where all others chosen come from the ones behind it.
    ways = [comb(len(tied) - 1 - i, num_chosen - 1) for i in range(len(tied))]
    kept = np.average(np.maximum(tied, least), weights=ways)
    return float(truth_n.max() - kept)
