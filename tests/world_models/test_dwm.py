"""The diffusion world model on a linear system (linear_system.py)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwm_jax.data.dataset import flatten, recorded_steps, segment_at, transition_rows
from dwm_jax.maths import diffusion
from dwm_jax.maths.normalizers import fit_min_max, fit_standard
from dwm_jax.types import Episode, Start
from dwm_jax.world_models.dwm import DiffusionWorldModel, InferenceState, rows_from_segment, trajectory_from_rows
from tests.world_models.linear_system import (
    BATCH,
    GAMMA,
    ROWS,
    SEGMENTS,
    T,
    alone,
    compiled_quickly,
    first,
    leaf_sums,
    no_action,
    train,
)


def make_dwm(**overrides):
    settings = {
        "sequence_length": T,
        "num_diffusion_steps": 5,
        "num_sampling_steps": 3,
        "width": 8,
        "multipliers": (1,),
        "learning_rate": 3e-3,
        "ema_rate": 0.5,
        "ema_every": 10,
        "condition_dropout": 0.25,
        "activations": "float32",
        "prediction": "noise",
        "guidance_weight": 1.2,
        "temperature": 0.5,
        "observation_normalizer": "cdf",
    }
    return DiffusionWorldModel(**settings | overrides)


@pytest.fixture(scope="module")
def dwm():
    model = make_dwm()
    return model, compiled_quickly(lambda key: model.init(key, ROWS))(jax.random.key(0))


@pytest.fixture(scope="module")
def dwm_training(dwm):
    model, state = dwm
    return train(model, state, 200, lambda state: (leaf_sums(state.params), leaf_sums(state.ema.params)))


def test_dwm_learns(dwm_training):
    _, losses, _ = dwm_training
    assert losses[-40:].mean() < 0.6 * losses[:20].mean()


def test_ema_moves_only_on_every_tenth_update_by_its_rate(dwm, dwm_training):
    # ema <- 0.5 ema + 0.5 params, seen through the sum of each leaf
    params, ema = map(np.asarray, dwm_training[2])
    np.testing.assert_allclose(ema[0], leaf_sums(dwm[1].ema.params), rtol=1e-4, atol=1e-4)
    before, after, online = ema[:-1], ema[1:], params[1:]
    due = np.arange(2, len(ema) + 1) % 10 == 0  # numbers of the updates behind `after`
    np.testing.assert_array_equal(after[~due], before[~due])
    np.testing.assert_allclose(after[due], 0.5 * before[due] + 0.5 * online[due], rtol=1e-3, atol=1e-3)
    assert (after[due] != before[due]).any(axis=1).all()


def test_dwm_rolls_out_its_ema_parameters(dwm, dwm_training):
    model, state = dwm[0], dwm_training[0]
    assert model.inference(state) is state.ema
    assert (leaf_sums(state.params) != leaf_sums(state.ema.params)).any()


@pytest.fixture(scope="module")
def imagined(dwm, dwm_training):
    """Three steps from every pair, (return-to-go asked for) -> trajectories with leading axis BATCH."""
    model, state = dwm[0], dwm_training[0]
    rollout = model.rollout(T - 1, GAMMA)

    @compiled_quickly
    def imagine(return_to_go):
        def one(observation, action, key):
            return rollout(state.ema, Start(observation, action, return_to_go), no_action, key)

        keys = jax.random.split(jax.random.key(0), BATCH)
        return jax.vmap(one)(SEGMENTS.observations[:BATCH, 0], SEGMENTS.actions[:BATCH, 0], keys)

    return imagine


def test_dwm_imagines_every_step_at_once_without_asking_for_an_action(imagined):
    trajectory = imagined(0.2)
    assert trajectory.next_observations.shape == (BATCH, T - 1, 2)
    assert trajectory.rewards.shape == (BATCH, T - 1)
    np.testing.assert_array_equal(trajectory.discounts, np.full((BATCH, T - 1), np.float32(GAMMA)))


def test_dwm_imagines_raw_units_within_the_range_of_the_data(imagined):
    trajectory = imagined(0.2)
    for values, recorded in [(trajectory.next_observations, ROWS.states), (trajectory.rewards, ROWS.rewards)]:
        assert (values >= recorded.min(axis=0) - 1e-4).all()
        assert (values <= recorded.max(axis=0) + 1e-4).all()
        assert np.ptp(values) > 1  # not the normalised range of 2, but nor a point


def test_the_return_asked_for_decides_what_dwm_imagines(imagined):
    assert np.abs(imagined(0.8).rewards - imagined(-0.8).rewards).max() > 0.05


@pytest.mark.parametrize("horizon", [1, 3])
def test_reward_h_belongs_to_row_h_and_state_h_to_the_row_after(dwm, monkeypatch, horizon):
    # Normalised row h is (0.1 h, -0.1 h, 0.2 h); row 0 holds s_t and r_t.
    rows = jnp.arange(T)[:, None] * jnp.array([0.1, -0.1, 0.2])
    monkeypatch.setattr(diffusion, "sample", lambda *arguments: rows)
    model, state = dwm
    trajectory = model.rollout(horizon, GAMMA)(
        state.ema, Start(jnp.zeros(2), jnp.zeros(2), jnp.array(0.5)), no_action, jax.random.key(0)
    )
    observations = state.ema.observation_normalizer.denormalize(rows[:, :2])
    rewards = state.ema.reward_normalizer.denormalize(rows[:, 2:])[:, 0]
    np.testing.assert_allclose(trajectory.next_observations, observations[1 : horizon + 1], rtol=1e-6)
    np.testing.assert_allclose(trajectory.rewards, rewards[:horizon], rtol=1e-6)


@pytest.mark.parametrize("horizon", [T, T + 3])
def test_dwm_cannot_reach_beyond_its_sequence(horizon):
    with pytest.raises(ValueError, match=f"horizon {horizon} is too long: this world model imagines at most {T - 1}"):
        make_dwm().rollout(horizon, GAMMA)


def test_dwm_refuses_more_sampling_than_diffusion_steps():
    with pytest.raises(ValueError, match="num_sampling_steps"):
        make_dwm(num_sampling_steps=6)


def test_a_dropped_condition_teaches_the_return_embedding_nothing(dwm):
    state = dwm[1]
    segments = jax.tree.map(lambda leaf: leaf[:4], SEGMENTS)

    @partial(compiled_quickly, static_argnums=0)
    def embeddings_moved(condition_dropout):
        model = make_dwm(condition_dropout=condition_dropout)
        after, _ = model.update(state, segments, jax.random.split(jax.random.key(1), 4), jnp.array(0), alone)
        moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), after.params, state.params)["params"]
        names = ("return_embedding", "action_embedding")
        return jnp.stack([jnp.max(jnp.stack(jax.tree.leaves(moved[name]))) for name in names])

    (return_dropped, action_dropped), kept = embeddings_moved(1.0), embeddings_moved(0.0)
    assert return_dropped == 0
    assert min(action_dropped, *kept) > 1e-4


def test_dwm_needs_no_policy():
    assert not make_dwm().needs_policy


# ---------------------------------------------------------------------------------------- terminations


@given(st.lists(st.tuples(st.integers(2, 6), st.booleans()), min_size=1, max_size=4), st.integers(1, 4))
@settings(deadline=None, max_examples=20)
def test_rows_tell_the_trajectory_that_was_recorded(episodes, horizon):
    rng = np.random.default_rng(0)
    dataset, _ = flatten(
        [
            Episode(
                rng.normal(size=(length + 1, 2)).astype(np.float32),
                rng.normal(size=(length, 1)).astype(np.float32),
                rng.normal(size=length).astype(np.float32),
                terminated,
            )
            for length, terminated in episodes
        ],
        GAMMA,
        None,
    )
    units = InferenceState(
        None, fit_standard(dataset.observations), fit_min_max(np.append(dataset.rewards, 0)[:, None])
    )
    dataset = jax.tree.map(jnp.asarray, dataset)
    for row in transition_rows(dataset):
        if dataset.terminated[row] or row + horizon <= dataset.last[row]:  # all of it is known
            x_TD = rows_from_segment(units, segment_at(dataset, row, horizon + 1), terminations=True)
            told = trajectory_from_rows(units, x_TD, horizon, GAMMA, 0.0)
            recorded = recorded_steps(dataset, row, horizon, GAMMA)
            jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), told, recorded)


def test_without_terminations_nothing_imagined_ends():
    units = InferenceState(None, fit_standard(ROWS.states), fit_min_max(ROWS.rewards[:, None]))
    x_TD = rows_from_segment(units, jax.tree.map(lambda leaf: leaf[0], SEGMENTS), terminations=False)
    assert x_TD.shape == (T, 3)
    np.testing.assert_allclose(trajectory_from_rows(units, x_TD, 2, GAMMA, 0.5).discounts, [GAMMA, GAMMA])


@pytest.mark.parametrize(("threshold", "discounts"), [(-0.3, [GAMMA, GAMMA]), (0.0, [GAMMA, 0]), (0.5, [0, 0])])
def test_an_imagined_step_ends_the_task_where_its_entry_is_below_the_threshold(threshold, discounts):
    units = InferenceState(None, fit_standard(ROWS.states), fit_min_max(ROWS.rewards[:, None]))
    # c = 0.4 on the first step and -0.2 on the second.
    x_TD = jnp.zeros((3, 4)).at[:, 3].set(jnp.array([0.4, -0.2, -0.2]))
    np.testing.assert_allclose(trajectory_from_rows(units, x_TD, 2, GAMMA, threshold).discounts, discounts)


def test_a_threshold_outside_the_range_of_the_entry_is_refused():
    with pytest.raises(ValueError, match="termination_threshold"):
        make_dwm(termination_threshold=1.0)


@pytest.mark.parametrize("normalizer", ["cdf", "min_max", "standard"])
def test_a_state_that_ended_an_episode_comes_back_from_the_normaliser_unchanged(normalizer):
    # It lies three times as far out as any state a step started from.
    ends = ROWS.next_observations.copy()
    ends[7] = 3 * ROWS.observations.max(axis=0)
    rows = ROWS._replace(next_observations=ends)
    fitted = make_dwm(observation_normalizer=normalizer).init(jax.random.key(0), rows).ema.observation_normalizer
    there = jnp.clip(fitted.normalize(jnp.asarray(ends[7])), fitted.low, fitted.high)
    np.testing.assert_allclose(fitted.denormalize(there), ends[7], atol=1e-4)


def with_ends(segments):
    """The segments of a task that ends where s'_0 > 0.5: from there on the state stays and nothing is paid."""
    states, rewards = (np.array(leaf) for leaf in (segments.observations, segments.rewards))
    ended = np.zeros(rewards.shape, bool)
    for n, h in zip(*np.nonzero(states[:, 1:, 0] > 0.5), strict=True):
        if not ended[n, h]:
            ended[n, h:] = True
            states[n, h + 1 :] = states[n, h + 1]
            rewards[n, h + 1 :] = 0
    return segments._replace(
        observations=jnp.asarray(states), rewards=jnp.asarray(rewards), terminated=jnp.asarray(ended)
    )


def test_a_fall_is_imagined_as_a_fall_and_what_goes_on_goes_on():
    segments = with_ends(SEGMENTS)
    model = make_dwm(terminations=True, prediction="velocity", observation_normalizer="standard", width=16)
    start = compiled_quickly(lambda key: model.init(key, ROWS))(jax.random.key(0))
    state = train(model, start, 1_500, segments=segments)[0]

    def one(segment, key):
        start = Start(segment.observations[0], segment.actions[0], segment.return_to_go)
        return model.rollout(1, GAMMA)(state.ema, start, no_action, key).discounts[0]

    pairs = first(200, segments)
    discounts = compiled_quickly(jax.vmap(one))(pairs, jax.random.split(jax.random.key(1), 200))
    ended = np.asarray(pairs.terminated[:, 0])
    assert 40 < ended.sum() < 160
    assert (discounts[ended] == 0).mean() > 0.9
    assert (discounts[~ended] == 0).mean() < 0.1
