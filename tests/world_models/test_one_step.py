"""The one-step model and its ensemble, on a linear system (linear_system.py)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dwm_jax.maths.losses import pessimistic_rewards
from dwm_jax.types import Start
from dwm_jax.world_models.dynamics_units import fit_dynamics_units
from dwm_jax.world_models.one_step import Ensemble, GaussianDynamics, OneStep
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
    train,
)

HIDDEN, LEARNING_RATE = (48, 48), 1e-3
ONE_STEP = OneStep(hidden=HIDDEN, learning_rate=LEARNING_RATE)
M = 4
ENSEMBLE = Ensemble(hidden=(16,), learning_rate=LEARNING_RATE, num_members=M)


@pytest.fixture(scope="module")
def one_step_start():
    return compiled_quickly(lambda key: ONE_STEP.init(key, ROWS))(jax.random.key(0))


@pytest.fixture(scope="module")
def one_step_training(one_step_start):
    return train(ONE_STEP, one_step_start, num_updates=3000)


def recorded_actions(segment):
    return lambda step, observation, key: segment.actions[step]


def imagine(state, choose_action, count=BATCH, horizon=T - 1):
    rollout = ONE_STEP.rollout(horizon, GAMMA)

    def one(segment, key):
        start = Start(segment.observations[0], segment.actions[0], segment.return_to_go)
        return rollout(ONE_STEP.inference(state), start, choose_action(segment), key)

    return jax.jit(jax.vmap(one))(first(count), jax.random.split(jax.random.key(0), count))


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
    low, high = ROWS.states.min(axis=0), ROWS.states.max(axis=0)
    assert ((states >= low) & (states <= high)).all()
    assert ((states == low) | (states == high)).any()


def test_the_last_transition_before_a_truncation_teaches_like_any_other(one_step_start):
    # There row 1 is masked - its reward is unknown - but the state in it was recorded.
    segments = first(BATCH)
    hidden = segments._replace(mask=segments.mask.at[:, 1].set(0.0))
    keys = jax.random.split(jax.random.key(0), BATCH)
    update = jax.jit(lambda batch: ONE_STEP.update(one_step_start, batch, keys, jnp.array(0), alone)[0].model.params)
    np.testing.assert_array_equal(leaf_sums(update(hidden)), leaf_sums(update(segments)))
    assert (leaf_sums(update(segments)) != leaf_sums(one_step_start.model.params)).any()


def test_the_one_step_model_follows_a_policy():
    assert ONE_STEP.needs_policy
    assert ENSEMBLE.needs_policy


# ------------------------------------------------------------------------------------- the ensemble


@pytest.fixture(scope="module")
def ensemble_start():
    return compiled_quickly(lambda key: ENSEMBLE.init(key, ROWS))(jax.random.key(0))


@pytest.fixture(scope="module")
def ensemble_training(ensemble_start):
    return train(ENSEMBLE, ensemble_start, num_updates=1500)


def standardised(values, data):
    return (values - data.mean(axis=0)) / data.std(axis=0)


@pytest.mark.parametrize("num_members", [1, 2])
def test_every_member_is_trained_as_it_would_be_alone(num_members):
    """Against the members one by one: one starts from the key itself, several from its parts and weigh samples."""
    model = Ensemble(hidden=(8,), learning_rate=LEARNING_RATE, num_members=num_members)
    network, optimizer = GaussianDynamics((8,), 3, terminations=False), optax.adam(LEARNING_RATE)
    key, sample_keys = jax.random.key(3), jax.random.split(jax.random.key(4), BATCH)
    batch = first(BATCH)
    changes = ROWS.next_observations - ROWS.observations
    states, actions = batch.observations[:, 0], batch.actions[:, 0]
    inputs = np.concatenate([standardised(states, ROWS.states), standardised(actions, ROWS.actions)], axis=1)
    targets = standardised(
        np.concatenate([batch.observations[:, 1] - batch.observations[:, 0], batch.rewards[:, :1]], axis=1),
        np.concatenate([changes, ROWS.rewards[:, None]], axis=1),
    )
    weights = np.ones((BATCH, 1))
    if num_members > 1:
        weights = np.stack([jax.random.exponential(key, (num_members,)) for key in sample_keys])

    @compiled_quickly
    def members_alone(member_keys):
        def train_alone(member_key, weights):
            def loss(params):
                mean, std, _ = network.apply(params, jnp.asarray(inputs))
                return jnp.mean(weights[:, None] * (jnp.log(std) + ((targets - mean) / std) ** 2 / 2))

            params = network.init(member_key, jnp.zeros(4))
            optimizer_state = optimizer.init(params)
            for _ in range(2):
                updates, optimizer_state = optimizer.update(jax.grad(loss)(params), optimizer_state)
                params = optax.apply_updates(params, updates)
            return params

        alone = [train_alone(member_key, jnp.asarray(weights[:, m])) for m, member_key in enumerate(member_keys)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)

    @compiled_quickly
    def together(key):
        state = model.init(key, ROWS)
        for step in range(2):
            state, _ = model.update(state, batch, sample_keys, jnp.array(step), alone)
        return state.model.params

    expected = members_alone(jax.random.split(key, num_members) if num_members > 1 else [key])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), together(key), expected)


def test_every_member_learns_and_no_two_are_alike(ensemble_training):
    state, losses, _ = ensemble_training
    assert losses[-50:].mean() < losses[:10].mean() - 1
    answers = ask(state.model, SEGMENTS.observations[:BATCH, 0], SEGMENTS.actions[:BATCH, 0])
    errors = answers.next_observations[:, :, 0] - SEGMENTS.observations[:BATCH, None, 1]
    assert (jnp.sqrt(jnp.mean(errors**2, axis=(0, 2))) < 0.15).all()
    kernels = state.model.params["params"]["mean"]["Dense_0"]["kernel"]
    assert all(np.abs(kernels[i] - kernels[j]).max() > 0.1 for i in range(M) for j in range(i))


def test_members_that_start_alike_are_parted_by_their_batches(ensemble_start):
    alike = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), ensemble_start.model.params)
    state = ensemble_start._replace(model=ensemble_start.model._replace(params=alike))
    keys = jax.random.split(jax.random.key(0), BATCH)
    updated = compiled_quickly(lambda state: ENSEMBLE.update(state, first(BATCH), keys, jnp.array(0), alone)[0])(state)
    kernels = updated.model.params["params"]["mean"]["Dense_0"]["kernel"]
    assert all(np.abs(kernels[i] - kernels[j]).max() > 1e-4 for i in range(M) for j in range(i))


def ask(model, observations, actions, horizon=1, count=M, seed=0):
    """Alternatives to every pair without action, leading axes (pairs, count)."""
    follow = ENSEMBLE.alternatives(horizon, GAMMA, count)

    def one(observation, action, key):
        return follow(model, Start(observation, action, jnp.array(0.0)), lambda *_: jnp.zeros(2), key)

    keys = jax.random.split(jax.random.key(seed), len(observations))
    return compiled_quickly(jax.vmap(one))(observations, actions, keys)


@pytest.mark.parametrize(("absorbing", "lowest"), [(False, 1.0), (True, 0.0)])
def test_rewards_range_to_the_zero_that_follows_an_end(absorbing, lowest):
    rows = ROWS._replace(rewards=np.linspace(1, 3, len(ROWS.rewards), dtype=np.float32), absorbing=absorbing)
    units = fit_dynamics_units(rows)
    assert (float(units.reward_low), float(units.reward_high)) == (lowest, 3.0)


def opinionated(state, means, spread):
    """The ensemble whose member m, whatever it is asked, says y = means[m] with standard deviation spread."""
    params = jax.tree.map(jnp.zeros_like, state.model.params)
    params["params"]["mean"]["Dense_1"]["bias"] = jnp.broadcast_to(jnp.asarray(means)[:, None], (M, 3))
    # softplus(log(e^x - 1)) = x
    bias = -30.0 if spread == 0 else jnp.log(jnp.expm1(spread))
    params["params"]["std"]["Dense_1"]["bias"] = jnp.full((M, 3), bias)
    # Units in which a target is itself, and no clipping.
    one, far = jnp.ones(3), jnp.full(2, 1e6)
    target_normalizer = state.model.units.target_normalizer._replace(offset=0 * one, scale=one)
    bounds = {"observation_low": -far, "observation_high": far, "reward_low": -far[0], "reward_high": far[0]}
    units = state.model.units._replace(target_normalizer=target_normalizer, **bounds)
    return state.model._replace(params=params, units=units)


def test_a_trajectory_follows_one_member_drawn_at_random(ensemble_start):
    model = opinionated(ensemble_start, [10.0, 20.0, 30.0, 40.0], spread=0)
    rollout = ENSEMBLE.rollout(3, GAMMA)

    def one(key):
        return rollout(model, Start(jnp.zeros(2), jnp.zeros(2), jnp.array(0.0)), lambda *_: jnp.zeros(2), key)

    trajectories = compiled_quickly(jax.vmap(one))(jax.random.split(jax.random.key(0), 40))
    # Noise of 1e-3 remains. The reward names the member; states are reached by adding its change 1, 2, 3 times.
    who = np.round(trajectories.rewards, 1)
    assert set(who[:, 0].tolist()) == {10.0, 20.0, 30.0, 40.0}
    assert (who == who[:, :1]).all()
    reached = who[:, :1, None] * np.arange(1, 4)[None, :, None]
    np.testing.assert_allclose(trajectories.next_observations, np.broadcast_to(reached, (40, 3, 2)), atol=0.05)


def test_alternatives_are_distinct_members_answering_from_the_states_of_the_first(ensemble_start):
    model = opinionated(ensemble_start, [10.0, 20.0, 30.0, 40.0], spread=0)
    origin = jnp.zeros((BATCH, 2))
    trajectories = ask(model, origin, origin, horizon=3, count=3)
    assert trajectories.next_observations.shape == (BATCH, 3, 3, 2)
    assert trajectories.discounts.shape == trajectories.rewards.shape == (BATCH, 3, 3)
    who = np.round(trajectories.rewards, 1)
    assert (who == who[:, :, :1]).all()  # the same member at every step
    assert all(len(set(members)) == 3 for members in who[:, :, 0].tolist())
    assert len({tuple(members) for members in who[:, :, 0].tolist()}) > 4
    # s^i_h = s^0_{h-1} + change of member i
    before = np.concatenate([np.zeros((BATCH, 1, 2)), trajectories.next_observations[:, 0, :-1]], axis=1)
    expected = before[:, None] + who[..., None]
    np.testing.assert_allclose(trajectories.next_observations, expected, atol=0.05)


def test_the_first_alternative_is_the_trajectory_of_the_rollout(ensemble_training):
    model = ensemble_training[0].model
    start = Start(SEGMENTS.observations[0, 0], SEGMENTS.actions[0, 0], jnp.array(0.0))

    def choose_action(step, observation, key):
        return 0.3 * observation + jax.random.normal(key, (2,))

    def run(rollout):
        return compiled_quickly(lambda key: rollout(model, start, choose_action, key))(jax.random.key(5))

    followed, answers = run(ENSEMBLE.rollout(3, GAMMA)), run(ENSEMBLE.alternatives(3, GAMMA, M))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[0], atol=1e-5), followed, answers)


def test_noise_is_no_disagreement(ensemble_start):
    # Members that agree, each as uncertain as can be: one answer, which differs from the mean.
    model = opinionated(ensemble_start, [1.0] * M, spread=5.0)
    answers = ask(model, jnp.zeros((BATCH, 2)), jnp.zeros((BATCH, 2)), horizon=3)
    assert answers.rewards.std() > 2
    penalised = jax.vmap(lambda a: pessimistic_rewards(a.rewards, a.next_observations, kappa=1.0))(answers)
    np.testing.assert_allclose(penalised, answers.rewards[:, 0], atol=1e-4)


def test_disagreement_grows_outside_the_data(ensemble_training):
    def penalty(scale):
        # Actions of the data lie in [-1, 1]. Rewards and states at 0, far from where states are clipped.
        actions = scale * SEGMENTS.actions[:BATCH, 0]
        answers = ask(ensemble_training[0].model, jnp.zeros((BATCH, 2)), actions)
        penalised = jax.vmap(lambda a: pessimistic_rewards(a.rewards, a.next_observations, kappa=1.0))(answers)
        return float(jnp.mean(answers.rewards.mean(axis=1) - penalised))

    assert penalty(1.0) > 0
    assert penalty(6.0) > 5 * penalty(1.0)


def test_an_ensemble_has_no_more_alternatives_than_members():
    with pytest.raises(ValueError, match="5 alternatives need as many members; num_members is 4"):
        ENSEMBLE.alternatives(3, GAMMA, M + 1)


def test_alternatives_of_a_single_model_are_independent_draws(one_step_start):
    follow = ONE_STEP.alternatives(2, GAMMA, 3)
    arguments = Start(jnp.zeros(2), jnp.zeros(2), jnp.array(0.0)), lambda *_: jnp.zeros(2)
    answers = compiled_quickly(lambda key: follow(one_step_start.model, *arguments, key))(jax.random.key(0))
    assert answers.next_observations.shape == (3, 2, 2)
    assert (np.abs(np.diff(answers.rewards, axis=0)) > 1e-3).all()
