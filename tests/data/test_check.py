"""The verdicts on a data set: what is wrong is called wrong, and named."""

import re

import gymnasium as gym
import numpy as np
import pytest

from dwm_jax.data import environments
from dwm_jax.data.check import check_all, check_environment
from dwm_jax.data.tasks import Task
from tests.data.d4rl_files import arrays_of, make_episodes, read, write


def verdicts(episodes, provenance=None):
    return {verdict.question: verdict for verdict in check_all(episodes, provenance or {})}


def converted(tmp_path, arrays, step_limit=None):
    """What `prepare` would keep of a file, and its episodes."""
    conversion = read(write(tmp_path / "data.hdf5", arrays), step_limit)
    provenance = {
        "step_limit": step_limit,
        "sources": [{"file": "data.hdf5"}],
        "findings": [conversion.findings._asdict()],
    }
    return verdicts(conversion.episodes, provenance)


def test_good_data_passes_every_question(tmp_path):
    arrays = arrays_of(make_episodes([(8, False), (5, True), (8, False)]))
    found = converted(tmp_path, arrays, step_limit=8)
    assert {verdict.mark for verdict in found.values()} == {"ok"}
    assert found["finite, shapes"].answer == "21 steps in 3 episodes, 3 observations, 2 actions"
    assert found["episode boundaries"].answer == "1 terminated, 2 truncated; none longer than the clock's 8 steps"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e[1].observations.__setitem__((2, 1), np.nan), r"episode 1: observations\[2, 1\] is nan"),
        (lambda e: e.clear(), "holds no episode"),
        (lambda e: e.append(e[0]._replace(rewards=np.ones(3))), "episode 2: rewards have shape"),
    ],
)
def test_data_that_cannot_be_trained_on_is_wrong_and_nothing_else_is_asked(change, message):
    episodes = make_episodes([(4, True), (5, False)])
    change(episodes)
    (verdict,) = check_all(episodes, {})
    assert verdict.mark == "wrong"
    assert re.search(message, verdict.answer)


def test_actions_beyond_their_bounds_are_wrong():
    episodes = make_episodes([(4, True), (5, False)])
    episodes[1].actions[3, 0] = -1.25
    verdict = verdicts(episodes)["action bounds"]
    assert verdict.mark == "wrong"
    assert "reaches 1.25 in episode 1" in verdict.answer


def test_an_episode_longer_than_the_clock_allows_is_wrong():
    verdict = verdicts(make_episodes([(4, True), (9, False)]), {"step_limit": 8})["episode boundaries"]
    assert verdict.mark == "wrong"
    assert "episode 1 has 9 steps, the environment's clock allows 8" in verdict.answer


def test_time_outs_that_were_kept_as_terminals_are_wrong(tmp_path):
    arrays = arrays_of(make_episodes([(8, True), (3, True), (8, True)]))
    verdict = converted(tmp_path, arrays, step_limit=8)["episode boundaries"]
    assert verdict.mark == "wrong"
    assert "2 episodes of exactly 8 steps are terminated" in verdict.answer


def test_next_observations_that_contradict_the_next_row_are_wrong_and_placed(tmp_path):
    arrays = arrays_of(make_episodes([(8, True), (7, True)]))
    arrays["next_observations"][10] += 1
    verdict = converted(tmp_path, arrays)["continuity"]
    assert verdict.mark == "wrong"
    assert "data.hdf5: at 1 row(s), first row 10" in verdict.answer


def test_continuity_that_cannot_be_compared_is_a_note(tmp_path):
    arrays = arrays_of(make_episodes([(8, True), (7, True)])) | {"next_observations": None}
    verdict = converted(tmp_path, arrays)["continuity"]
    assert verdict.mark == "note"
    assert "truncated episodes lost their last transition" in verdict.answer


def test_ends_that_next_observations_show_in_a_file_without_timeouts_are_in_order(tmp_path):
    arrays = arrays_of(make_episodes([(8, False), (7, True)])) | {"timeouts": None}
    verdict = converted(tmp_path, arrays, step_limit=8)["continuity"]
    assert verdict.mark == "ok"
    assert "1 ends were shown by next_observations alone" in verdict.answer


def test_an_episode_that_is_there_twice_is_wrong():
    episodes = make_episodes([(4, True), (5, False), (6, True)])
    verdict = verdicts([*episodes, episodes[1]])["duplicates"]
    assert verdict.mark == "wrong"
    assert verdict.answer == "1 episode(s) are there twice; episode 3 is episode 1 again"


@pytest.mark.parametrize(("repeats", "mark"), [(1, "note"), (5, "wrong")])
def test_repeated_transitions_are_counted(repeats, mark):
    (episode,) = make_episodes([(200, False)])
    for array in (episode.actions, episode.rewards):
        array[100 : 100 + repeats] = array[50 : 50 + repeats]
    episode.observations[100 : 101 + repeats] = episode.observations[50 : 51 + repeats]
    verdict = verdicts([episode])["duplicates"]
    assert verdict.mark == mark
    assert verdict.answer.startswith(f"{repeats} transitions ({repeats / 200:.2%})")


@pytest.mark.parametrize("stretches", [1, 6])
def test_a_robot_that_idles_is_worth_a_note(stretches):
    episodes = make_episodes([(60, False)] * 6)
    for episode in episodes[:stretches]:  # at the same place in every episode
        episode.observations[10:31] = 0.5
        episode.actions[10:31], episode.rewards[10:31] = 0, 0.1
    verdict = verdicts(episodes)["duplicates"]
    assert verdict.mark == "note"
    assert "of them stand still" in verdict.answer


def test_episodes_wholly_at_rest_are_not_one_episode_twice():
    episodes = make_episodes([(9, False)] * 4)
    for episode in episodes[:2]:
        for array in (episode.observations, episode.actions, episode.rewards):
            array[:] = 0.5
    assert verdicts(episodes)["duplicates"].mark == "note"


def test_the_same_transitions_in_another_order_are_another_episode():
    (episode,) = make_episodes([(4, False)])
    order = [1, 0, 2, 3]
    other = episode._replace(
        observations=np.concatenate([episode.observations[order], episode.observations[-1:]]),
        actions=episode.actions[order],
        rewards=episode.rewards[order],
    )
    assert "twice" not in verdicts([episode, other])["duplicates"].answer


def test_constant_dimensions_are_named():
    episodes = make_episodes([(4, True), (5, False)])
    for episode in episodes:
        episode.observations[:, 1] = 0.5
    verdict = verdicts(episodes)["constant dimensions"]
    assert (verdict.mark, verdict.answer) == ("note", "observations[1] = 0.5")
    for episode in episodes:
        episode.actions[:, 0] = 0
    verdict = verdicts(episodes)["constant dimensions"]
    assert verdict.mark == "wrong"
    assert "actions[0] = 0" in verdict.answer


def test_a_state_that_never_changes_is_wrong():
    episodes = [e._replace(observations=np.ones_like(e.observations)) for e in make_episodes([(4, True), (5, False)])]
    verdict = verdicts(episodes)["constant dimensions"]
    assert verdict.mark == "wrong"
    assert "a state that never changes leaves nothing to predict" in verdict.answer


def test_a_single_episode_leaves_none_to_be_held_out():
    episodes = make_episodes([(4, True), (5, False)])
    assert verdicts(episodes)["held-out episodes"].mark == "ok"
    assert verdicts(episodes[:1])["held-out episodes"].mark == "note"


def test_rewards_that_never_change_are_wrong():
    episodes = [e._replace(rewards=np.zeros_like(e.rewards)) for e in make_episodes([(4, True)])]
    assert verdicts(episodes)["rewards"].mark == "wrong"


def task_in(make_env, has_environment=True):
    return Task("mine", list, make_env, None, None, has_environment=has_environment)


class Broken(gym.Env):
    """Of good sizes, made without a word, and failing when it runs."""

    observation_space = gym.spaces.Box(-1, 1, (3,))
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, failing=""):
        self.failing = failing

    def reset(self, *, seed=None, options=None):
        if self.failing == "reset":
            raise RuntimeError("no display")
        return np.zeros(3), {}

    def step(self, action):
        if self.failing == "step":
            raise RuntimeError("no licence")
        if self.failing == "value":
            return np.zeros(3), np.array([1.0, 2.0]), False, False, {}
        return np.zeros(3), np.nan if self.failing == "reward" else 0.0, False, False, {}


class OnlySeeded(Broken):
    """Cannot be reset as evaluations do when some episodes have ended and others not."""

    def reset(self, *, seed):
        return super().reset(seed=seed)


@pytest.mark.parametrize(
    ("env", "mark", "message"),
    [
        (lambda: gym.wrappers.TimeLimit(Broken(), 9), "ok", "fits the data's sizes and has a clock"),
        (
            lambda: gym.wrappers.TimeLimit(Broken("reset"), 9),
            "wrong",
            "its environment fails: RuntimeError: no display",
        ),
        (lambda: gym.wrappers.TimeLimit(Broken("step"), 9), "wrong", "its environment fails: RuntimeError: no licence"),
        (
            lambda: gym.wrappers.TimeLimit(Broken("value"), 9),
            "wrong",
            "mine: its environment fails: ValueError: setting",
        ),
        (lambda: gym.wrappers.TimeLimit(Broken("reward"), 9), "wrong", "rewards that are not finite"),
        (lambda: gym.wrappers.TimeLimit(OnlySeeded(), 9), "wrong", "its environment fails: TypeError"),
        (Broken, "wrong", "no clock, and an evaluation in it might never end: register it with max_episode_steps, or"),
        (lambda: gym.make("Hopper-v5"), "wrong", "has 11 observations and 3 actions, the data 3 and 2"),
        (lambda: environments.make("Gone-v0"), "wrong", "'Gone-v0' cannot be made here"),
    ],
)
def test_the_environment_is_tried_before_anything_is_computed(env, mark, message):
    verdict = check_environment(task_in(env), make_episodes([(4, True)]))
    assert verdict.mark == mark
    assert message in verdict.answer


def test_data_without_an_environment_is_worth_a_note():
    verdict = check_environment(task_in(None, has_environment=False), make_episodes([(4, True)]))
    assert (verdict.mark, verdict.answer[:13]) == ("note", "none is named")
