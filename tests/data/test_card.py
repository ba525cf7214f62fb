"""What a data set's card says beyond counting."""

import numpy as np
import pytest

from dwm_jax.data import card
from dwm_jax.data.dataset import flatten
from dwm_jax.types import Episode


def paid_once(reward: float, after: int, length: int = 301) -> Episode:
    rewards = np.zeros(length, np.float32)
    rewards[after] = reward
    return Episode(np.zeros((length + 1, 2), np.float32), np.zeros((length, 1), np.float32), rewards, False)


def test_a_short_sight_takes_the_better_episode_for_the_worse() -> None:
    # 1 at once, or 2 after 200 steps: 2 * 0.99^200 = 0.27, 2 * 0.997^200 = 1.10, 2 * 0.999^200 = 1.64.
    flat, _ = flatten([paid_once(1, 0), paid_once(2, 200)], 0.99, None)
    assert card.describe_foresight(flat).endswith(
        ": -1.00 at gamma = 0.99, 1.00 at gamma = 0.997, 1.00 at gamma = 0.999"
    )


def test_episodes_of_one_return_have_no_correlation() -> None:
    flat, _ = flatten([paid_once(1, 0), paid_once(1, 200)], 0.99, None)
    assert card.describe_foresight(flat).endswith(": nan at gamma = 0.99, nan at gamma = 0.997, nan at gamma = 0.999")
    assert card.correlation(np.array([1.0, 2, 3]), np.array([1.0, 3, 2])) == pytest.approx(0.5)
