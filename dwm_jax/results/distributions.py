"""How well the distribution of imagined states matches that of the recorded ones: by several draws, or many segments.

The error of single draws (`diagnostics.prediction_error`) rewards a model that imagines conditional means; these do
not.
"""

from collections.abc import Sequence
from itertools import combinations

import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import pdist

from dwm_jax.maths.normalizers import AffineNormalizer
from dwm_jax.results.diagnostics import Comparison, mean_over, steps_taken
from dwm_jax.types import Segment, Trajectory


def spread_over_error(
    recorded: Segment, imagined_M: Sequence[Trajectory], observation_normalizer: AffineNormalizer
) -> np.ndarray:
    """How spread imagined states are, over how spread they should be, by step h = 1 .. H: shape (H,), 1 is right.

    With draws x_i and the recorded state y, both given the same pair and label,

        spread = mean_i Var(x_i),   unexplained = mean_i |x_i - y|^2 - spread,

    the second being the squared distance of y from the mean of all draws. Of draws from the true conditional
    distribution the two are equal; a model that imagines conditional means has a ratio near 0. NaN at a step that no
    segment took.

    Args:
      recorded: leading axis n.
      imagined_M: M >= 2 independent draws for each segment, asked for its own label.
      observation_normalizer: standardises states before they are compared.
    """
    draws_MnHO = np.stack([observation_normalizer.normalize(drawn.next_observations) for drawn in imagined_M])
    errors_MnHO = draws_MnHO - np.asarray(observation_normalizer.normalize(recorded.observations[:, 1:]))
    taken_nH = steps_taken(recorded)
    spread_H = mean_over(draws_MnHO.var(axis=0, ddof=1).mean(axis=-1), taken_nH)
    error_H = mean_over((errors_MnHO**2).mean(axis=(0, 3)), taken_nH)
    return np.asarray(spread_H / np.maximum(error_H - spread_H, np.finfo(np.float32).tiny))


def energy_score(
    recorded: Segment, imagined_M: Sequence[Trajectory], observation_normalizer: AffineNormalizer
) -> np.ndarray:
    """How far imagined states are from what the recorded ones were drawn from, by step h = 1 .. H: shape (H,).

    With draws x_i and the recorded state y, both given the same pair and label, and other recorded states y' at the
    same step,

        (mean |x_i - y| - mean_{i != j} |x_i - x_j| / 2) / (mean |y - y'| / 2),

    the energy score over that of states drawn from the recording without a look at the pair: 0 is right about
    everything, 1 knows nothing. No other distribution has a lower expectation than the true one (Gneiting and Raftery
    2007, section 4.3), so that a lack of spread costs as errors do; the squared error of one draw rewards it instead.
    NaN at a step that fewer than two segments took.

    Args:
      recorded, imagined_M, observation_normalizer: as for `spread_over_error`.
    """
    draws_MnHO = np.stack([observation_normalizer.normalize(drawn.next_observations) for drawn in imagined_M])
    states_nHO = np.asarray(observation_normalizer.normalize(recorded.observations[:, 1:]))
    taken_nH = steps_taken(recorded)

    def at_step(step: int) -> float:
        taken_n = taken_nH[:, step]
        draws_MnO, states_nO = draws_MnHO[:, taken_n, step], states_nHO[taken_n, step]
        if len(states_nO) < 2:
            return np.nan
        to_recorded = np.linalg.norm(draws_MnO - states_nO, axis=-1).mean()
        between = np.mean([np.linalg.norm(one - other, axis=-1) for one, other in combinations(draws_MnO, 2)])
        return float((to_recorded - between / 2) / max(pdist(states_nO).mean() / 2, np.finfo(np.float32).tiny))

    return np.array([at_step(step) for step in range(taken_nH.shape[1])])


def variance_by_label(
    comparison: Comparison, observation_normalizer: AffineNormalizer, num_bins: int = 10
) -> np.ndarray:
    """Variance of imagined s_{t+H} over that of recorded ones, within bins of segments ordered by label: (bins,).

    Of the segments of which all H steps were taken; NaN in a bin that has fewer than two. 1 is right. Where the future
    is hardest to foretell, which is often where little is earned, a model that imagines conditional means has lost most
    of it: the mean of many ways to thrash about is to lie still, whatever the action, and critics learn from it that
    actions do not matter there. Over all segments together this does not show.

    Args:
      comparison: imagined for the segments' own labels.
      observation_normalizer: standardises states, so that dimensions can be averaged.
    """
    taken_n = steps_taken(comparison.recorded)[:, -1]
    order = np.argsort(np.asarray(comparison.recorded.return_to_go), kind="stable")
    order = order[taken_n[order]]
    states = comparison.imagined.next_observations[:, -1], comparison.recorded.observations[:, -1]
    imagined_nO, recorded_nO = (np.asarray(observation_normalizer.normalize(jnp.asarray(s))) for s in states)
    bins = np.array_split(order, min(num_bins, max(1, len(order) // 2)))
    with np.errstate(divide="ignore", invalid="ignore"):  # by 0 where recorded states do not differ: not known
        return np.array(
            [
                imagined_nO[index].var(axis=0).mean() / recorded_nO[index].var(axis=0).mean()
                if len(index) > 1
                else np.nan
                for index in bins
            ]
        )
