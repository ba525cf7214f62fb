"""Pools of imagined trajectories: what is in them, when they are drawn anew, and that a resumed run repeats them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.config import ConfigError, check
from dwm_jax.imagination.pool import copy_numbers, draw_kept
from dwm_jax.learners.policies import Policies, fit_units
from dwm_jax.learners.td3_bc import TD3BC
from dwm_jax.phases.policy_source import make_source
from dwm_jax.registry import METHODS
from dwm_jax.runtime.checkpoints import Checkpoints
from dwm_jax.train import train
from dwm_jax.types import Trajectory
from dwm_jax.workdir import load_recording
from dwm_jax.world_models.base import TrainedModel
from tests import tiny

METHOD = "OneStep-TD3BC"
SEEDS = [0, 1, 2]


class StoppedError(Exception):
    """Stands for a kill."""


class Constant(TD3BC):
    """A learner that explores with the action its state is."""

    def explore(self, state, observation_O, key):
        return jnp.full(2, state)


class Echo:
    """A world model whose only step ends at the action it is given, with noise as its reward."""

    sequence_length = 2
    reachable_return = None

    def __init__(self, needs_policy):
        self.needs_policy = needs_policy

    @staticmethod
    def inference(state):
        return state

    def rollout(self, horizon, gamma):
        def imagine(model, start, choose_action, key):
            observation, action, _ = start
            chosen = choose_action(jnp.array(0), observation, key) if self.needs_policy else action
            end = observation.at[:2].set(chosen)
            return Trajectory(end[None], jax.random.uniform(key, (1,)), jnp.full(1, gamma))

        return imagine


def pool_of(needs_policy, seeds=SEEDS, **overrides):
    """(source, policies): seed s of the policies always chooses the action (s / 10, s / 10)."""
    settings = {
        "policy__imagined_per_pair": 2,
        "policy__refresh_every": 10,
        "policy__horizon": 1,
        "policy__start_share": 0.0,
    }
    settings |= overrides
    config = tiny.config(methods=METHOD, seed=seeds[0], num_seeds=len(seeds), **settings)
    recording = load_recording(config)[1]
    learner = Constant(observation_size=4, action_size=2, num_updates=20)
    units = fit_units(learner, recording.dataset)
    models = {"one_step": TrainedModel(Echo(needs_policy), jnp.zeros(()), 0.0)}
    source = make_source(tiny.run_of(config, recording), METHOD, METHODS[METHOD], learner, units, models)
    states_S = np.array(seeds) / 10
    return source, Policies(states_S, units, source.init(states_S))


def test_a_pool_has_m_trajectories_of_every_pair():
    source, policies = pool_of(needs_policy=False)
    _, (pairs, pool) = source.make(policies, 0)
    assert source.draw is draw_kept
    assert not source.is_by_seed
    assert pool.rewards.shape == (len(pairs.rows), 2, 1) == (1_200, 2, 1)
    np.testing.assert_allclose(
        pool.next_observations[:, 0, 0],
        jax.vmap(
            lambda p: pairs.units.observation_normalizer.normalize(pairs.observation(p).at[:2].set(pairs.action(p)))
        )(jnp.arange(1_200)),
        rtol=1e-5,
        atol=1e-6,
    )
    assert len(np.unique(pool.rewards)) > 2_390


def test_starts_are_repeated_and_every_copy_has_a_trajectory_of_its_own():
    source, policies = pool_of(needs_policy=False, policy__start_share=0.25)
    _, (pairs, pool) = source.make(policies, 0)
    # Four episodes of 300 steps: 400 of 1,600 are the 80 starts five times over.
    assert len(pairs.rows) == 1_600
    rows, counts = np.unique(np.asarray(pairs.rows), return_counts=True)
    assert len(rows) == 1_200
    np.testing.assert_array_equal(np.sort(counts)[[-80, -81, -1]], [6, 1, 6])
    assert len(np.unique(pool.rewards)) > 3_180
    np.testing.assert_array_equal(copy_numbers(np.array([3, 5, 3, 3])), [0, 0, 1, 2])


def test_only_what_follows_the_policy_as_it_is_is_drawn_inside_its_update():
    fresh = {"policy__imagined_per_pair": 0, "policy__refresh_every": 0}
    assert pool_of(needs_policy=True, **fresh)[0].is_drawn_inside
    assert not pool_of(needs_policy=False, **fresh)[0].is_drawn_inside
    assert not pool_of(needs_policy=True)[0].is_drawn_inside


def test_a_pool_that_follows_policies_has_a_part_for_every_seed():
    source, policies = pool_of(needs_policy=True)
    policies, (pairs, pool) = source.make(policies, 0)
    assert source.is_by_seed
    assert pool.rewards.shape == (1_200, 3, 2, 1)
    normalize = pairs.units.observation_normalizer.normalize
    for s, seed in enumerate(SEEDS):
        followed = normalize(pairs.observation(7).at[:2].set(seed / 10))
        np.testing.assert_allclose(pool.next_observations[7, s, 1, 0], followed, rtol=1e-5, atol=1e-6)


def test_a_seed_alone_is_given_the_pool_it_has_among_others():
    together = pool_of(needs_policy=True)
    alone = pool_of(needs_policy=True, seeds=[2])
    pools = [source.make(policies, 0)[1][1] for source, policies in (together, alone)]
    np.testing.assert_array_equal(pools[0].rewards[:, 2], pools[1].rewards[:, 0])


def test_every_refresh_draws_another_pool_and_between_two_the_same_one_comes_back():
    source, policies = pool_of(needs_policy=True)
    at = {}
    for step in (0, 10, 15):
        # The learner has moved on at 10 and again at 15, when a run is resumed: the pool of 10 is drawn again.
        policies = policies._replace(states_S=np.array(SEEDS) / 10 + step / 100)
        policies, (_, at[step]) = source.make(policies, step)
    assert not np.array_equal(at[0].rewards, at[10].rewards)
    np.testing.assert_array_equal(at[10].rewards, at[15].rewards)
    np.testing.assert_array_equal(at[10].next_observations, at[15].next_observations)
    assert np.abs(at[0].next_observations - at[10].next_observations)[..., :2].min() > 1e-3


def test_a_pool_of_some_pairs_has_others_at_the_next_refresh_and_their_own_trajectories():
    source, policies = pool_of(needs_policy=False, policy__imagined_pairs=100)
    _, (everywhere, whole) = pool_of(needs_policy=False)[0].make(policies, 0)
    _, (first, pool) = source.make(policies, 0)
    _, (second, _) = source.make(policies, 10)
    assert len(first.rows) == len(set(np.asarray(first.rows))) == 100
    assert len(set(np.asarray(first.rows)) & set(np.asarray(second.rows))) < 30
    # The draws depend on the pair, not on where it stands in the pool.
    at = np.searchsorted(everywhere.rows, first.rows)
    np.testing.assert_array_equal(pool.rewards, whole.rewards[at])


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ({"policy__imagined_per_pair": 0, "policy__refresh_every": 10}, "policy.refresh_every=10"),
        ({"policy__imagined_pairs": 100}, "policy.imagined_pairs=100"),
        ({"policy__refresh_every": 7}, "policy.refresh_every=7"),
        ({"policy__refresh_every": -5}, "policy.refresh_every=-5"),
    ],
)
def test_pools_that_make_no_sense_are_refused(overrides, names):
    with pytest.raises(ConfigError, match=names):
        check(tiny.config(**overrides), 1)


@pytest.mark.end_to_end
def test_a_run_stopped_between_two_refreshes_ends_as_if_it_had_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = tiny.config(
        methods=METHOD, checkpoint_every=5, policy__refresh_every=10, policy__imagined_pairs=200, num_seeds=2
    )
    train(config, tmp_path / "undisturbed" / "run")
    folder, save = tmp_path / "disturbed", Checkpoints.save

    def save_then_stop(self: Checkpoints, step: int, state: object) -> None:
        save(self, step, state)
        raise StoppedError

    # Every start gets one checkpoint further: 5, 10, 15 and 20 updates of the world model, then of the policies.
    monkeypatch.setattr(Checkpoints, "save", save_then_stop)
    stops = 0
    while stops < 8:
        with pytest.raises(StoppedError):
            train(config, folder / "run")
        stops += 1
    monkeypatch.undo()
    train(config, folder / "run")

    assert tiny.files(folder) == tiny.files(tmp_path / "undisturbed")
    expected, arrays = tiny.final_arrays(tmp_path / "undisturbed"), tiny.final_arrays(folder)
    assert expected.keys() == arrays.keys()
    assert any("memory_S" in name for name in arrays)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
