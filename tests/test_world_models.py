"""World models on a linear system: s' = s + 0.3 a - 0.1 s, r = 2 s_0."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax import diffusion
from dwm_jax.types import Segment
from dwm_jax.world_models.base import TrainingRows
from dwm_jax.world_models.diffusion import diffusion_world_model
from dwm_jax.world_models.one_step import one_step_world_model

T, BATCH = 4, 32
GAMMA = 0.9


def advance(observation, action):
    return 0.9 * observation + 0.3 * action, 2 * observation[..., 0]


def make_segments(count, seed=0):
    """Independent whole segments, leading axis `count`; observations and actions of size 2."""
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(count, 2))
    observations, actions, rewards = [], [], []
    for _ in range(T):
        action = rng.uniform(-1, 1, size=(count, 2))
        next_state, reward = advance(state, action)
        observations.append(state)
        actions.append(action)
        rewards.append(reward)
        state = next_state
    rows = [np.stack(column, axis=1).astype(np.float32) for column in (observations, rewards, actions)]
    g = sum(GAMMA**h * rows[1][:, h] for h in range(T))
    return Segment(*map(jnp.asarray, (*rows, g / np.abs(g).max(), np.ones((count, T), np.float32))))


SEGMENTS = make_segments(512)
ROWS = TrainingRows(
    np.asarray(SEGMENTS.observations[:, 0]),
    np.asarray(SEGMENTS.rewards[:, 0]),
    np.asarray(SEGMENTS.observations[:, 1]),
    np.asarray(SEGMENTS.actions[:, 0]),
    absorbing=False,
)


# For what runs briefly and compiles slowly.
compiled_quickly = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def alone(tree):
    return tree


def train(model, state, num_updates, watch=lambda state: ()):
    """(final state, loss of every update, what `watch` sees in the state after every update)."""

    @compiled_quickly
    def run(state):
        def one(state, step):
            index_key, noise_key = jax.random.split(jax.random.fold_in(jax.random.key(0), step))
            indices = jax.random.randint(index_key, (BATCH,), 0, len(SEGMENTS.rewards))
            batch = jax.tree.map(lambda leaf: leaf[indices], SEGMENTS)
            state, metrics = model.update(state, batch, jax.random.split(noise_key, BATCH), step, alone)
            return state, (metrics["world_model/loss"], watch(state))

        return jax.lax.scan(one, state, jnp.arange(num_updates))

    state, (losses, seen) = run(state)
    return state, losses, seen


def leaf_sums(params):
    return jnp.stack([leaf.sum() for leaf in jax.tree.leaves(params)])


def no_action(step, observation, key):
    raise AssertionError("asked for an action")


# -------------------------------------------------------------------------------- diffusion world model


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
        "guidance_weight": 1.2,
        "temperature": 0.5,
        "observation_normalizer": "cdf",
    }
    return diffusion_world_model(**settings | overrides)


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
            return rollout(state.ema, observation, action, return_to_go, no_action, key)

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
    for values, recorded in [(trajectory.next_observations, ROWS.observations), (trajectory.rewards, ROWS.rewards)]:
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
        state.ema, jnp.zeros(2), jnp.zeros(2), jnp.array(0.5), no_action, jax.random.key(0)
    )
    observations = state.ema.observation_normalizer.denormalize(rows[:, :2])
    rewards = state.ema.reward_normalizer.denormalize(rows[:, 2:])[:, 0]
    np.testing.assert_allclose(trajectory.next_observations, observations[1 : horizon + 1], rtol=1e-6)
    np.testing.assert_allclose(trajectory.rewards, rewards[:horizon], rtol=1e-6)


@pytest.mark.parametrize("horizon", [T, T + 3])
def test_dwm_cannot_reach_beyond_its_sequence(horizon):
    with pytest.raises(ValueError, match=f"horizon {horizon} must be below sequence_length {T}"):
        make_dwm().rollout(horizon, GAMMA)


def test_dwm_refuses_more_sampling_than_diffusion_steps():
    with pytest.raises(ValueError, match="num_sampling_steps"):
        make_dwm(num_sampling_steps=6)


def test_a_dropped_condition_teaches_the_return_embedding_nothing(dwm):
    state = dwm[1]
    segments = jax.tree.map(lambda leaf: leaf[:4], SEGMENTS)

    @compiled_quickly
    def embeddings_moved(condition_dropout):
        model = make_dwm(condition_dropout=condition_dropout)
        after, _ = model.update(state, segments, jax.random.split(jax.random.key(1), 4), jnp.array(0), alone)
        moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), after.params, state.params)["params"]
        names = ("return_embedding", "action_embedding")
        return jnp.stack([jnp.max(jnp.stack(jax.tree.leaves(moved[name]))) for name in names])

    (return_dropped, action_dropped), kept = embeddings_moved(1.0), embeddings_moved(0.0)
    assert return_dropped == 0
    assert min(action_dropped, *kept) > 1e-4


# -------------------------------------------------------------------------------------- one-step model

ONE_STEP = one_step_world_model(hidden=(48, 48), learning_rate=3e-3)


@pytest.fixture(scope="module")
def one_step_start():
    return compiled_quickly(lambda key: ONE_STEP.init(key, ROWS))(jax.random.key(0))


@pytest.fixture(scope="module")
def one_step_training(one_step_start):
    return train(ONE_STEP, one_step_start, num_updates=1500)


def recorded_actions(segment):
    return lambda step, observation, key: segment.actions[step]


def imagine(state, choose_action, count=BATCH, horizon=T - 1):
    rollout = ONE_STEP.rollout(horizon, GAMMA)

    def one(segment, key):
        arguments = segment.observations[0], segment.actions[0], segment.return_to_go
        return rollout(ONE_STEP.inference(state), *arguments, choose_action(segment), key)

    segments = jax.tree.map(lambda leaf: leaf[:count], SEGMENTS)
    return jax.jit(jax.vmap(one))(segments, jax.random.split(jax.random.key(0), count))


def test_one_step_model_learns(one_step_training):
    _, losses, _ = one_step_training
    assert losses[-50:].mean() < losses[:10].mean() - 1


def test_one_step_model_told_the_recorded_actions_imagines_what_was_recorded(one_step_training):
    trajectory = imagine(one_step_training[0], recorded_actions)
    # States have a standard deviation of about 1, rewards of about 2.
    errors = trajectory.next_observations - SEGMENTS.observations[:BATCH, 1:]
    assert float(jnp.sqrt(jnp.mean(errors**2))) < 0.1
    assert float(jnp.sqrt(jnp.mean((trajectory.rewards - SEGMENTS.rewards[:BATCH, :-1]) ** 2))) < 0.2


def test_one_step_model_follows_the_actions_it_is_given(one_step_training):
    state = one_step_training[0]
    up, down = (imagine(state, lambda _, a=a: lambda *_: jnp.full(2, a)).next_observations for a in (1.0, -1.0))
    # The first action is the pair's own; from then on each action adds 0.3 a, the earlier ones decayed by 0.9.
    np.testing.assert_array_equal(up[:, 0], down[:, 0])
    inside = (np.abs(SEGMENTS.observations[:BATCH, 0]) < 1).all(axis=1)  # away from the clipped range
    difference = (up - down)[inside].mean(axis=(0, 2))
    np.testing.assert_allclose(difference[1:], [0.6, 0.6 + 0.9 * 0.6], atol=0.1)


def test_the_chosen_action_is_a_function_of_the_imagined_state_and_its_step(one_step_training):
    # At step 1 a = -3 s: s' = 0.9 s - 0.9 s = 0, and it stays there without action. From any other state it would not.
    trajectory = imagine(one_step_training[0], lambda _: lambda step, s, key: jnp.where(step == 1, -s * 3, 0.0))
    reached = trajectory.next_observations[:, 0]
    inside = (np.abs(reached) < 0.3).all(axis=1)  # where -3 s is an action the data knows
    assert inside.sum() >= 2
    np.testing.assert_allclose(trajectory.next_observations[inside, 1:], 0, atol=0.15)


def test_imagined_states_stay_within_the_range_of_the_data(one_step_start):
    # Untrained, and pushed: what leaves the range is clipped to it.
    states = imagine(one_step_start, lambda _: lambda *_: jnp.full(2, 50.0)).next_observations
    low, high = ROWS.next_observations.min(axis=0), ROWS.next_observations.max(axis=0)
    assert ((states >= low) & (states <= high)).all()
    assert ((states == low) | (states == high)).any()


def test_the_last_transition_before_a_truncation_teaches_like_any_other(one_step_start):
    # There row 1 is masked - its reward is unknown - but the state in it was recorded.
    segments = jax.tree.map(lambda leaf: leaf[:BATCH], SEGMENTS)
    hidden = segments._replace(mask=segments.mask.at[:, 1].set(0.0))
    keys = jax.random.split(jax.random.key(0), BATCH)
    update = jax.jit(lambda batch: ONE_STEP.update(one_step_start, batch, keys, jnp.array(0), alone)[0].model.params)
    np.testing.assert_array_equal(leaf_sums(update(hidden)), leaf_sums(update(segments)))
    assert (leaf_sums(update(segments)) != leaf_sums(one_step_start.model.params)).any()


def test_who_needs_a_policy():
    assert (make_dwm().needs_policy, ONE_STEP.needs_policy) == (False, True)
