"""Policies in their environment: vectorised Gymnasium, one batched policy call per step, fixed seeds."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dwm_jax.data.environments import clock_of, name_failures, require_clock
from dwm_jax.runtime import interruption

# Observations of all seeds and episodes (S, E, O) -> actions (S, E, A), both raw.
BatchPolicy = Callable[[np.ndarray], np.ndarray]


class Episodes(NamedTuple):
    """What S policies met in E episodes each; raw units."""

    returns: np.ndarray  # (S, E) undiscounted
    discounted_returns: np.ndarray  # (S, E) from the start: what the start was worth to the policy
    starts: np.ndarray  # (S, E, O) first observations


class Evaluator:
    """Runs S policies for E episodes each, side by side.

    Episode e starts from environment seed `seed + e` for every policy at every evaluation, so that policies,
    methods and moments are compared on the same starts. The environments are made for the first evaluation.
    """

    def __init__(
        self,
        make_env: Callable[[], gym.Env[Any, Any]],
        num_policies: int,
        num_episodes: int,
        seed: int,
        gamma: float = 1.0,
    ):
        self._gamma = gamma
        self._shape = (num_policies, num_episodes)
        self._make_env = make_env
        self._envs: SyncVectorEnv | None = None
        self._seeds: list[int | None] = [seed + episode for _ in range(num_policies) for episode in range(num_episodes)]

    def longest(self) -> int:
        """The steps of the longest possible episode.

        Raises:
          ValueError: an environment without a clock, in which an episode might never end.
        """
        return clock_of(self._opened().envs[0]) or 0

    def __call__(self, policy: BatchPolicy, on_step: Callable[[int], None] | None = None) -> Episodes:
        """All episodes to their ends.

        Args:
          on_step: hears how many steps were taken, as long as an episode goes on.

        Raises:
          ValueError: an environment without a clock, in which an episode might never end, or one that fails.
          Interrupted: a signal asked.
          FloatingPointError: a policy acts with a value that is not finite, or the environment shows one before an
            episode has ended; the message names whose and when.
        """
        envs = self._opened()
        with name_failures("the environment of the evaluation, at its reset,"):
            observations, _ = envs.reset(seed=self._seeds)
        starts = np.array(observations).reshape(*self._shape, -1)
        returns, discounted = np.zeros(len(self._seeds)), np.zeros(len(self._seeds))
        running = np.ones(len(self._seeds), bool)
        step = 0
        while running.any():
            interruption.raise_if_requested()
            self._refuse_non_finite(
                observations, "the environment shows the observation {value} to {policy}", step, running
            )
            actions = np.asarray(policy(observations.reshape(*self._shape, -1))).reshape(len(self._seeds), -1)
            self._refuse_non_finite(actions, "{policy} gave the action {value}", step)
            with name_failures(f"the environment of the evaluation, in step {step},"):
                observations, rewards, terminated, truncated, _ = envs.step(actions)
            self._refuse_non_finite(rewards, "the environment gives the reward {value} to {policy}", step, running)
            returns += np.where(running, rewards, 0.0)
            discounted += np.where(running, self._gamma**step * rewards, 0.0)
            ended = terminated | truncated
            running &= ~ended
            step += 1
            if ended.any() and running.any():
                # The others go on; an environment that has ended must be reset to be stepped along with them.
                with name_failures("the environment of the evaluation, at its reset,"):
                    observations, _ = envs.reset(options={"reset_mask": ended})
            if on_step is not None and running.any():
                on_step(step)
        return Episodes(returns.reshape(self._shape), discounted.reshape(self._shape), starts)

    def _opened(self) -> SyncVectorEnv:
        if self._envs is None:
            # Automatic resets are off: they would add a step that is not one to every episode after the first.
            make_envs = [self._make_env] * len(self._seeds)
            self._envs = SyncVectorEnv(make_envs, autoreset_mode=AutoresetMode.DISABLED)
            require_clock(self._envs.envs[0], "the environment of the evaluation")
        return self._envs

    def close(self) -> None:
        if self._envs is not None:
            self._envs.close()

    def _refuse_non_finite(
        self, values: np.ndarray, what: str, step: int, among: np.ndarray | Literal[True] = True
    ) -> None:
        """Refuses what is not finite among `values`, (S * E, ...), of the episodes `among`.

        Args:
          what: who gave it to whom, with places for {value} and {policy}.
        """
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1) & among
        if bad.any():
            policy, episode = divmod(int(np.argmax(bad)), self._shape[1])
            said = what.format(value=values[bad][0], policy=f"the policy of seed index {policy}")
            raise FloatingPointError(f"{said} in evaluation episode {episode}, step {step}")


def normalized_scores(returns: np.ndarray, reference_scores: tuple[float, float] | None) -> np.ndarray:
    """(return - min) / (max - min), 1 at the reference's maximum; NaN where a task has no reference scores."""
    if reference_scores is None:
        return np.full_like(returns, np.nan)
    low, high = reference_scores
    return (returns - low) / (high - low)
