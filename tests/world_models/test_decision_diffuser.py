"""Decision Diffuser on a linear system (linear_system.py)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.maths import diffusion
from dwm_jax.world_models.decision_diffuser import DecisionDiffuser
from tests.world_models.linear_system import BATCH, ROWS, SEGMENTS, T, alone, compiled_quickly, first, leaf_sums, train

SETTINGS = {
    "sequence_length": T,
    "num_diffusion_steps": 5,
    "num_sampling_steps": 3,
    "width": 16,
    "multipliers": (1,),
    "learning_rate": 3e-3,
    "ema_rate": 0.9,
    "ema_every": 5,
    "condition_dropout": 0.25,
    "activations": "float32",
    "prediction": "noise",
    "guidance_weight": 1.2,
    "temperature": 0.5,
    "observation_normalizer": "standard",
    "inverse_hidden": (64, 64),
    "inverse_dropout": 0.1,
}
PLANNER = DecisionDiffuser(**SETTINGS)
KEYS = jax.random.split(jax.random.key(0), BATCH)


@pytest.fixture(scope="module")
def start():
    return compiled_quickly(lambda key: PLANNER.init(key, ROWS))(jax.random.key(0))


@pytest.fixture(scope="module")
def training(start):
    return train(PLANNER, start, 1200)


@pytest.fixture(scope="module")
def model(training):
    return PLANNER.inference(training[0])


def test_the_diffusion_learns(training):
    losses = training[1]
    assert losses[-40:].mean() < 0.6 * losses[:20].mean()


def test_states_are_planned_without_actions_and_rewards(start):
    params = start.params.diffusion["params"]
    assert "return_embedding" in params
    assert "action_embedding" not in params
    assert params["Dense_0"]["bias"].shape == (2,)  # the noise of a row: two observation entries, no reward


@pytest.fixture
def act_on(model, monkeypatch):
    """The actions taken on given plans (B, T, 2), raw units."""

    def act(plans):
        def one(plan):
            plan = model.observation_normalizer.normalize(plan)
            monkeypatch.setattr(diffusion, "sample", lambda *arguments: plan)
            return PLANNER.act(model, jnp.zeros(2), jnp.array(0.5), jax.random.key(0))

        return compiled_quickly(jax.vmap(one))(plans)

    return act


def test_inverse_dynamics_recovers_the_recorded_action(act_on):
    # s' = 0.9 s + 0.3 a; actions are uniform in [-1, 1], of standard deviation 0.58.
    inside = (np.abs(ROWS.observations) < 2).all(axis=1)
    errors = (act_on(SEGMENTS.observations) - SEGMENTS.actions[:, 0])[inside]
    assert float(jnp.sqrt(jnp.mean(errors**2))) < 0.15


def test_only_the_next_state_of_a_plan_decides(act_on):
    plans = SEGMENTS.observations[:BATCH]
    np.testing.assert_array_equal(act_on(plans.at[:, 2:].set(0)), act_on(plans))
    assert np.abs(act_on(plans.at[:, 1].add(0.1)) - act_on(plans)).min() > 0


def test_a_plan_beyond_the_actuators_gets_full_throttle(act_on):
    # From 0 to 0.9 takes a = 3.
    plans = jnp.zeros((1, T, 2)).at[0, 1].set(jnp.array([0.9, -0.9]))
    np.testing.assert_array_equal(act_on(plans), [[1.0, -1.0]])


def test_acts_by_the_inverse_dynamics_of_a_plan_from_here(model, training, monkeypatch):
    calls = []
    sample = diffusion.sample

    def spy(*arguments):
        calls.append((arguments, sample(*arguments)))
        return calls[-1][1]

    monkeypatch.setattr(diffusion, "sample", spy)

    @compiled_quickly
    def act(observation):
        action = PLANNER.act(model, observation, jnp.array(0.2), jax.random.key(7))
        ((_, normalized, length, low, high, *_), plan) = calls.pop()
        assert length == T
        return action, plan, normalized, low, high

    observation = jnp.array([0.3, -0.4])
    action, plan, normalized, low, high = act(observation)
    normalizer = model.observation_normalizer
    np.testing.assert_array_equal([low, high], [normalizer.low, normalizer.high])
    np.testing.assert_allclose(normalized, normalizer.normalize(observation), rtol=1e-5)
    np.testing.assert_array_equal(plan[0], normalized)
    # The layers by hand: no dropout, the EMA parameters.
    layers = model.params.inverse_dynamics["params"]
    x = np.concatenate([plan[0], plan[1]])
    for name in ("Dense_0", "Dense_1", "action"):
        x = x @ layers[name]["kernel"] + layers[name]["bias"]
        x = x if name == "action" else np.maximum(x, 0)
    assert np.abs(x).min() < 1  # or the clip would hide every difference
    np.testing.assert_allclose(action, np.clip(x, -1, 1), rtol=1e-4, atol=1e-5)
    assert (leaf_sums(model.params) != leaf_sums(training[0].params)).any()


@pytest.fixture(scope="module")
def act_asked(model):
    """The actions from 256 recorded states for (return-to-go above the recorded one, root key)."""

    @compiled_quickly
    def act(more, key):
        segments = first(256)
        keys = jax.random.split(key, 256)
        return jax.vmap(lambda s, g, k: PLANNER.act(model, s, g + more, k))(
            segments.observations[:, 0], segments.return_to_go, keys
        )

    return act


def test_asked_for_more_it_acts_for_more(act_asked):
    # r = 2 s_0: only the first entry of the action pays.
    difference = (act_asked(0.2, jax.random.key(0)) - act_asked(-0.2, jax.random.key(0))).mean(axis=0)
    assert difference[0] > 0.3
    assert abs(difference[1]) < 0.3 * difference[0]


def test_actions_are_in_range_and_a_function_of_the_key(act_asked):
    actions = act_asked(0.5, jax.random.key(0))
    assert actions.shape == (256, 2)
    assert np.abs(actions).max() <= 1
    np.testing.assert_array_equal(actions, act_asked(0.5, jax.random.key(0)))
    assert (actions != act_asked(0.5, jax.random.key(1))).any()


def updated(start, **overrides):
    """batch -> parameters after one update on it."""
    planner = DecisionDiffuser(**SETTINGS | overrides)

    @compiled_quickly
    def update(batch):
        state, metrics = planner.update(start, batch, KEYS, jnp.array(0), alone)
        assert metrics.keys() == {"world_model/loss", "inverse_dynamics/loss"}
        return state.params

    return update


@pytest.fixture(scope="module")
def update(start):
    return updated(start)


def test_dropout_trains_the_inverse_dynamics_alone(update, start):
    dropped, kept = update(first(BATCH)), updated(start, inverse_dropout=0.0)(first(BATCH))
    assert (leaf_sums(dropped.inverse_dynamics) != leaf_sums(kept.inverse_dynamics)).any()
    np.testing.assert_allclose(leaf_sums(dropped.diffusion), leaf_sums(kept.diffusion), rtol=1e-5, atol=1e-4)


def test_the_last_step_before_a_truncation_teaches_the_inverse_dynamics(update, start):
    # There row 1 is masked - its reward is unknown - but the state in it was recorded.
    segments = first(BATCH)
    hidden = segments._replace(mask=segments.mask.at[:, 1:].set(0), rewards=segments.rewards.at[:, 1:].set(jnp.nan))
    params, whole = update(hidden), update(segments)
    np.testing.assert_array_equal(leaf_sums(params.inverse_dynamics), leaf_sums(whole.inverse_dynamics))
    assert (leaf_sums(whole.inverse_dynamics) != leaf_sums(start.params.inverse_dynamics)).any()
    assert np.isfinite(leaf_sums(params)).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sequence_length": 1}, "sequence_length=1 is not allowed: at least 2"),
        ({"num_sampling_steps": 6}, "num_sampling_steps"),
    ],
)
def test_refuses_what_cannot_plan(overrides, message):
    with pytest.raises(ValueError, match=message):
        DecisionDiffuser(**SETTINGS | overrides)
