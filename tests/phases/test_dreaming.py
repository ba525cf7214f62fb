"""A dream goes on from what was dreamt, and of the recording it is told hints alone."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.data import dataset as data
from dwm_jax.data.recording import Recording
from dwm_jax.phases import dreaming
from dwm_jax.types import Episode, Trajectory
from dwm_jax.world_models.base import TrainedModel


class Walk:
    """Goes on by the action it is told, is paid the return it is asked for, and ends where its state says so."""

    def rollout(self, horizon, gamma):
        def imagine(end, start, choose_action, key):
            states = start.observation + jnp.arange(1, horizon + 1)[:, None] * start.action
            paid = jnp.full(horizon, start.return_to_go)
            return Trajectory(states, paid, jnp.where(states[:, 0] >= end, 0.0, gamma))

        return imagine

    def inference(self, state):
        return state


# Returns-to-go from the end, gamma = 1/2: 0, 1, 1/2, 1/4, 1 + 1/8.
RECORDED = Episode(
    observations=np.float32([[10], [50], [50], [50], [50], [50]]),
    actions=np.float32([[1], [9], [9], [2], [9]]),
    rewards=np.float32([1, 0, 0, 1, 0]),
    terminated=False,
)
SHORT = Episode(np.zeros((3, 1), np.float32), np.zeros((2, 1), np.float32), np.zeros(2, np.float32), True)
DATASET, _ = data.flatten([SHORT, RECORDED], gamma=0.5, return_scale=1.0)
RUN = SimpleNamespace(
    config=SimpleNamespace(gamma=0.5), recording=Recording(DATASET, 1.0, np.array([0]), np.array([1]), "")
)
ROWS = np.arange(3, 9)  # of the second episode, behind the three of the first


def dreamt(end):
    return dreaming.imagine(RUN, TrainedModel(Walk(), jnp.asarray(end), 0.0), ROWS, chunk=3, seed=0)


def test_every_chunk_begins_where_the_last_one_ended_with_the_hints_of_its_step():
    episode = dreamt(end=100.0)
    # From 10 by the action of step 0, three times; from 13 by the action of step 3, until the recording ends.
    np.testing.assert_array_equal(episode.observations[:, 0], [10, 11, 12, 13, 15, 17])
    np.testing.assert_array_equal(episode.rewards, [1.125, 1.125, 1.125, 1, 1])
    np.testing.assert_array_equal(episode.actions, RECORDED.actions)
    assert not episode.terminated


@pytest.mark.parametrize(("end", "states"), [(12.0, [10, 11, 12]), (15.0, [10, 11, 12, 13, 15])])
def test_a_dream_ends_where_the_model_says_that_the_task_has(end, states):
    episode = dreamt(end)
    np.testing.assert_array_equal(episode.observations[:, 0], states)
    assert len(episode.actions) == len(episode.rewards) == len(states) - 1
    assert episode.terminated


def test_an_end_behind_the_last_recorded_step_is_none():
    # The second chunk would reach 19 in a sixth step, which nobody recorded.
    assert not dreamt(end=19.0).terminated


def test_the_recorded_episode_is_the_longest():
    assert dreaming.longest_episode(DATASET, np.array([0, 1])) == 1
    assert dreaming.longest_episode(DATASET, np.array([0])) == 0
    shown = dreaming.recorded_episode(DATASET, ROWS)
    for name in ("observations", "actions", "rewards"):
        np.testing.assert_array_equal(getattr(shown, name), getattr(RECORDED, name))
    assert not shown.terminated
    assert dreaming.recorded_episode(DATASET, np.arange(3)).terminated
