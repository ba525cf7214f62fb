"""What notes say of scores, and of numbers that are not known."""

from collections.abc import Sequence

import numpy as np
import pytest

from dwm_jax.results.scores import describe_evaluation, format_spread
from dwm_jax.runtime.row_files import Result


def rows(*scores: Sequence[float]) -> list[Result]:
    """One evaluation: by seed, the scores of its episodes; the returns are 300, 600, ...."""
    return [
        Result("TD3+BC", "some-task", seed, 10, episode, 300 * (seed + 1), score, 100 * score)
        for seed, of_seed in enumerate(scores)
        for episode, score in enumerate(of_seed)
    ]


def test_an_evaluation_is_told_by_its_score_over_seeds() -> None:
    # Means of the seeds 0.2 and 0.4: 0.30 and 0.10.
    assert describe_evaluation(rows([0.1, 0.3], [0.4, 0.4])) == "score 0.30 ± 0.10"


def test_without_reference_scores_it_is_told_by_its_return() -> None:
    # Returns 300 and 600: 450 and 150.
    assert describe_evaluation(rows([np.nan], [np.nan])) == "return 450.0 ± 150.0"


@pytest.mark.parametrize(("values", "text"), [([1.0, 3.0], "2.0 ± 1.0"), ([np.nan, 3.0], "-")])
def test_what_is_not_known_is_a_dash(values: list[float], text: str) -> None:
    assert format_spread(np.array(values), 1) == text
