"""The Transformer world model on a linear system (linear_system.py) whose recorded behaviour is a = -s."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.networks.transformer import CausalTransformer
from dwm_jax.types import Start
from dwm_jax.world_models.transformer import TransformerWorldModel
from tests.world_models.linear_system import (
    BATCH,
    GAMMA,
    ROWS,
    T,
    alone,
    compiled_quickly,
    first,
    make_segments,
    no_action,
    train,
)

SETTINGS = {"sequence_length": T, "num_layers": 2, "num_heads": 2, "width": 16, "learning_rate": 3e-3}
MODEL = TransformerWorldModel(**SETTINGS)
# After a random first action the behaviour's: s' = 0.9 s - 0.3 s = 0.6 s.
SEGMENTS = make_segments(512, behave=lambda state: -state)
KEYS = jax.random.split(jax.random.key(0), BATCH)


@pytest.fixture(scope="module")
def start():
    return compiled_quickly(lambda key: MODEL.init(key, ROWS))(jax.random.key(0))


@pytest.fixture(scope="module")
def training(start):
    return train(MODEL, start, 1000, segments=SEGMENTS)


@compiled_quickly
def update(state, batch):
    """(parameters after one update, its loss)."""
    state, metrics = MODEL.update(state, batch, KEYS, jnp.array(0), alone)
    return state.model.params, metrics["world_model/loss"]


def assert_same(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def furthest(tree, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (tree, other)), strict=True))


def imagine(state, segments, horizon=T - 1, rollout=MODEL.rollout):
    def one(observation, action, return_to_go, key):
        return rollout(horizon, GAMMA)(state.model, Start(observation, action, return_to_go), no_action, key)

    arguments = segments.observations[:, 0], segments.actions[:, 0], segments.return_to_go
    return compiled_quickly(jax.vmap(one))(*arguments, jax.random.split(jax.random.key(1), len(segments.rewards)))


# ----------------------------------------------------------------------------------------- the network


@pytest.fixture(scope="module")
def network():
    """CausalTransformer over 5 rows of 3, with random parameters, as a function of what it is given."""
    network = CausalTransformer(num_layers=2, num_heads=2, width=8, max_length=5, target_size=4)
    arguments = jax.random.normal(jax.random.key(0), (5, 3)), jnp.ones(2), jnp.array(0.5)
    params = compiled_quickly(network.init)(jax.random.key(1), *arguments)
    return compiled_quickly(lambda *arguments: network.apply(params, *arguments)), arguments


@pytest.mark.parametrize("h", [0, 2, 4])
def test_a_row_changes_what_is_said_of_it_and_of_later_rows_only(network, h):
    apply, (rows, action, return_to_go) = network
    before, after = apply(rows, action, return_to_go), apply(rows.at[h].add(1.0), action, return_to_go)
    np.testing.assert_array_equal(after[:h], before[:h])
    assert (np.abs(after[h:] - before[h:]).max(axis=1) > 1e-3).all()


def test_the_first_action_and_the_return_are_heard_in_every_row(network):
    apply, (rows, action, return_to_go) = network
    before = apply(rows, action, return_to_go)
    for after in (apply(rows, action + 1, return_to_go), apply(rows, action, return_to_go + 1)):
        assert (np.abs(after - before).max(axis=1) > 1e-4).all()


def test_a_row_knows_its_position(network):
    # Of equal rows a network without positions could tell but the first, which holds the action, from the others.
    apply, (_, action, return_to_go) = network
    outputs = apply(jnp.ones((5, 3)), 0 * action, return_to_go)
    assert (np.abs(np.diff(outputs, axis=0)).max(axis=1) > 1e-4).all()


# ----------------------------------------------------------------------------------------- what is learnt


def test_transformer_learns(training):
    _, losses, _ = training
    assert losses[-50:].mean() < 0.05 * losses[:10].mean()


def test_transformer_imagines_what_the_recorded_behaviour_did(training):
    trajectory = imagine(training[0], first(BATCH, SEGMENTS))
    assert trajectory.next_observations.shape == (BATCH, T - 1, 2)
    np.testing.assert_array_equal(trajectory.discounts, np.full((BATCH, T - 1), np.float32(GAMMA)))
    # States have a standard deviation of about 1, rewards of about 2.
    errors = trajectory.next_observations - SEGMENTS.observations[:BATCH, 1:]
    assert float(jnp.sqrt(jnp.mean(errors**2))) < 0.1
    assert float(jnp.sqrt(jnp.mean((trajectory.rewards - SEGMENTS.rewards[:BATCH, :-1]) ** 2))) < 0.2


def test_the_first_action_decides_where_it_begins(training):
    pairs = first(BATCH, SEGMENTS)
    up, down = (
        imagine(training[0], pairs._replace(actions=jnp.full_like(pairs.actions, a))).next_observations
        for a in (0.5, -0.5)
    )
    inside = (np.abs(pairs.observations[:, 0]) < 1).all(axis=1)
    # 0.3 (a - a') at first, which the behaviour then lets decay: 0.3, 0.3 * 0.6, 0.3 * 0.36
    np.testing.assert_allclose((up - down)[inside].mean(axis=(0, 2)), [0.3, 0.18, 0.108], atol=0.04)


def test_actions_after_the_first_have_no_influence(start):
    batch = first(BATCH, SEGMENTS)
    assert_same(update(start, batch._replace(actions=batch.actions.at[:, 1:].set(jnp.nan))), update(start, batch))
    assert furthest(update(start, batch._replace(actions=-batch.actions)), update(start, batch)) > 1e-4


def truncated(segments, num_known):
    """Cut off after so many transitions: that state was still recorded, its reward and all later rows were not."""
    known = np.arange(T) < num_known
    return segments._replace(
        observations=jnp.where((np.arange(T) <= num_known)[:, None], segments.observations, jnp.nan),
        rewards=jnp.where(known, segments.rewards, jnp.nan),
        actions=jnp.where(known[:, None], segments.actions, 0.0),
        mask=jnp.broadcast_to(known.astype(np.float32), segments.mask.shape),
    )


@pytest.mark.parametrize("num_known", [1, 2])
def test_masked_rows_may_hold_anything(start, num_known):
    unknown = truncated(first(BATCH, SEGMENTS), num_known)
    params, loss = update(start, unknown)
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert_same(update(start, jax.tree.map(lambda leaf: jnp.nan_to_num(leaf, nan=7.0), unknown)), (params, loss))


@pytest.mark.parametrize("num_known", [1, 2])
def test_the_last_transition_before_a_truncation_is_learnt(start, num_known):
    # Though the row it leads to is masked.
    segments = truncated(first(BATCH, SEGMENTS), num_known)
    moved = segments._replace(observations=segments.observations.at[:, num_known].add(0.5))
    assert furthest(update(start, moved), update(start, segments)) > 1e-4


def standardised(values, data):
    return (values - data.mean(axis=0)) / data.std(axis=0)


CHANGES = np.concatenate([ROWS.next_observations - ROWS.observations, ROWS.rewards[:, None]], axis=1)


@compiled_quickly
def predict(state, observations_LO, action, return_to_go):
    """The network called by hand on L <= T - 1 raw rows."""
    network = CausalTransformer(num_layers=2, num_heads=2, width=16, max_length=T - 1, target_size=3)
    inputs = standardised(observations_LO, ROWS.states), standardised(action, ROWS.actions)
    return network.apply(state.model.params, *inputs, return_to_go)


def test_the_loss_is_the_mean_over_rows_whose_next_is_known(start):
    batch = first(BATCH, SEGMENTS)

    def expected_loss(segments, num_known):
        rows = segments.observations, segments.actions[:, 0], segments.return_to_go
        predictions = np.stack([predict(start, s[: T - 1], a, g) for s, a, g in zip(*rows, strict=True)])
        changes = np.concatenate([np.diff(segments.observations, axis=1), segments.rewards[:, :-1, None]], axis=2)
        errors = (standardised(changes, CHANGES) - predictions)[:, :num_known]
        return np.sum(errors**2) / (BATCH * (T - 1) * 3)

    def loss(segments):
        return update(start, segments)[1]

    np.testing.assert_allclose(loss(batch), expected_loss(batch, T - 1), rtol=1e-4)
    np.testing.assert_allclose(loss(truncated(batch, 2)), expected_loss(batch, 2), rtol=1e-4)
    # A termination at the first step: absorbing rows are known.
    observations = batch.observations.at[:, 2:].set(batch.observations[:, 1:2])
    ended = batch._replace(observations=observations, rewards=batch.rewards.at[:, 1:].set(0.0))
    np.testing.assert_allclose(loss(ended), expected_loss(ended, T - 1), rtol=1e-4)


# ----------------------------------------------------------------------------------------------- rollouts


@pytest.mark.parametrize("horizon", [1, T - 1])
def test_a_rollout_is_the_network_called_step_by_step(training, horizon):
    state, pairs = training[0], first(3, SEGMENTS)
    imagined = imagine(state, pairs, horizon)
    for pair in range(3):
        rows = [np.asarray(pairs.observations[pair, 0])]
        for h in range(horizon):
            prediction = predict(state, np.stack(rows), pairs.actions[pair, 0], pairs.return_to_go[pair])[-1]
            change_and_reward = prediction * CHANGES.std(axis=0) + CHANGES.mean(axis=0)
            rows.append(rows[-1] + change_and_reward[:2])
            np.testing.assert_allclose(imagined.next_observations[pair, h], rows[-1], atol=1e-4)
            np.testing.assert_allclose(imagined.rewards[pair, h], change_and_reward[2], atol=1e-4)


def test_imagined_states_stay_within_the_range_of_the_data(start):
    pairs = first(BATCH, SEGMENTS)
    states = imagine(start, pairs._replace(observations=pairs.observations * 50)).next_observations
    low, high = ROWS.states.min(axis=0), ROWS.states.max(axis=0)
    assert ((states >= low) & (states <= high)).all()
    assert ((states == low) | (states == high)).any()


def test_all_alternatives_agree(training):
    pairs = first(2, SEGMENTS)
    answers = imagine(training[0], pairs, rollout=lambda *arguments: MODEL.alternatives(*arguments, 3))
    assert answers.rewards.shape == (2, 3, T - 1)
    for leaf, followed in zip(answers, imagine(training[0], pairs), strict=True):
        np.testing.assert_allclose(leaf, np.repeat(followed[:, None], 3, axis=1), atol=1e-5)


def test_transformer_needs_no_policy():
    assert not MODEL.needs_policy
    assert MODEL.sequence_length == T


@pytest.mark.parametrize("horizon", [T, T + 3])
def test_transformer_cannot_reach_beyond_its_sequence(horizon):
    with pytest.raises(ValueError, match=f"horizon {horizon} is too long: this world model imagines at most {T - 1}"):
        MODEL.rollout(horizon, GAMMA)


def test_transformer_refuses_a_width_its_heads_cannot_share():
    with pytest.raises(ValueError, match="width=16 is not allowed: a multiple of num_heads = 3"):
        TransformerWorldModel(**SETTINGS | {"num_heads": 3})
    with pytest.raises(ValueError, match="num_heads=0 is not allowed: at least 1"):
        TransformerWorldModel(**SETTINGS | {"num_heads": 0})
