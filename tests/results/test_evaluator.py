"""Evaluation counts every reward once, in order, on fixed seeds."""

from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest

from dwm_jax.results.evaluator import Evaluator, normalized_scores


class Countdown(gym.Env[np.ndarray, np.ndarray]):
    """Pays the action every step; ends after 2, 3 or 4 steps, by termination when even, by truncation when odd."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.length = self.left = 2 + (seed or 0) % 3
        return np.array([float(seed or 0)]), {}

    def step(self, action: np.ndarray) -> Any:
        self.left -= 1
        ended = self.left == 0
        observation = np.array([float(self.left)])
        return observation, float(action[0]), ended and self.length % 2 == 0, ended and self.length % 2 == 1, {}


def countdown() -> gym.Env[np.ndarray, np.ndarray]:
    return gym.wrappers.TimeLimit(Countdown(), 10)


def test_whoever_waits_hears_of_every_step_while_an_episode_goes_on() -> None:
    # Episodes of 2, 3 and 4 steps: after the fourth all have ended.
    evaluator, heard = Evaluator(countdown, num_policies=1, num_episodes=3, seed=0), []
    assert evaluator.longest() == 10
    for _ in range(2):
        evaluator(np.zeros_like, on_step=heard.append)
    assert heard == [1, 2, 3] * 2


def test_an_environment_without_a_clock_is_refused_before_its_first_step() -> None:
    with pytest.raises(ValueError, match="no clock, and an evaluation in it might never end: register it with"):
        Evaluator(Countdown, num_policies=2, num_episodes=3, seed=0, gamma=0.5)(
            lambda observations: pytest.fail("acted")
        )


def test_returns_stop_at_the_end_of_each_episode() -> None:
    evaluator = Evaluator(countdown, num_policies=2, num_episodes=3, seed=0, gamma=0.5)
    # Policy 0 pays 0.5 a step, policy 1 pays 1; seeds 0, 1, 2 give lengths 2, 3, 4.
    pay = np.array([0.5, 1.0])[:, None, None]
    met = evaluator(lambda observations: np.broadcast_to(pay, observations.shape))
    np.testing.assert_allclose(met.returns, [[1.0, 1.5, 2.0], [2.0, 3.0, 4.0]])
    # 1 + 0.5, 1 + 0.5 + 0.25, .. of the pay
    np.testing.assert_allclose(met.discounted_returns, pay[..., 0] * [1.5, 1.75, 1.875])
    np.testing.assert_array_equal(met.starts[..., 0], [[0, 1, 2], [0, 1, 2]])
    again = evaluator(lambda observations: np.broadcast_to(pay, observations.shape))
    jax.tree.map(np.testing.assert_array_equal, met, again)
    evaluator.close()


def test_every_policy_meets_the_same_starts() -> None:
    seen = []

    def policy(observations: np.ndarray) -> np.ndarray:
        seen.append(observations.copy())
        return np.zeros((2, 3, 1))

    evaluator = Evaluator(countdown, num_policies=2, num_episodes=3, seed=5)
    evaluator(policy)
    np.testing.assert_array_equal(seen[0][..., 0], [[5, 6, 7], [5, 6, 7]])


def test_non_finite_action_is_named() -> None:
    def policy(observations: np.ndarray) -> np.ndarray:
        actions = np.zeros((2, 3, 1))
        actions[1, 2] = np.nan
        return actions

    with pytest.raises(FloatingPointError, match=r"seed index 1 .* episode 2, step 0"):
        Evaluator(countdown, num_policies=2, num_episodes=3, seed=0)(policy)


class Broken(Countdown):
    """As the other, until a step in which something goes wrong."""

    def __init__(self, observation: float = 0.0, reward: float = 0.0, error: Exception | None = None):
        self.observation, self.reward, self.error = observation, reward, error

    def step(self, action: np.ndarray) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        if self.left != 1:
            return observation, reward, terminated, truncated, info
        if self.error is not None:
            raise self.error
        return observation + self.observation, reward + self.reward, terminated, truncated, info


@pytest.mark.parametrize("error", [ValueError("unplugged"), AssertionError("unplugged"), KeyError("unplugged")])
def test_an_environment_that_fails_is_named_with_the_step(error: Exception) -> None:
    evaluator = Evaluator(lambda: gym.wrappers.TimeLimit(Broken(error=error), 10), 1, 1, seed=2)
    with pytest.raises(ValueError, match=rf"in step 2, fails: {type(error).__name__}: '?unplugged") as caught:
        evaluator(np.zeros_like)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"observation": np.nan},
            r"shows the observation \[nan\] to the policy of seed index 1 in .* episode 2, step 3",
        ),
        ({"reward": np.inf}, r"gives the reward inf to the policy of seed index 1 in .* episode 2, step 2"),
    ],
)
def test_what_an_environment_shows_must_be_finite(values: dict[str, float], said: str) -> None:
    made = []

    def make_env() -> gym.Env[np.ndarray, np.ndarray]:
        made.append(None)
        return gym.wrappers.TimeLimit(Broken(**values) if len(made) == 6 else Countdown(), 10)

    with pytest.raises(FloatingPointError, match=said):
        Evaluator(make_env, num_policies=2, num_episodes=3, seed=0)(np.zeros_like)


def test_the_observation_at_which_an_episode_ended_counts_for_nothing() -> None:
    class Fallen(Countdown):
        def step(self, action: np.ndarray) -> Any:
            observation, *rest = super().step(action)
            return observation * np.nan if self.left == 0 else observation, *rest

    met = Evaluator(lambda: gym.wrappers.TimeLimit(Fallen(), 10), num_policies=1, num_episodes=2, seed=0)(np.ones_like)
    np.testing.assert_array_equal(met.returns, [[2, 3]])


def test_scores_on_the_papers_scale() -> None:
    # (92.855 - 23.85) / (161.86 - 23.85) = 0.5
    np.testing.assert_allclose(normalized_scores(np.array([23.85, 92.855, 161.86]), (23.85, 161.86)), [0, 0.5, 1])
    assert np.isnan(normalized_scores(np.array([1.0]), None)).all()
