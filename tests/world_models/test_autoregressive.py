"""Autoregressive diffusion on a linear system (linear_system.py): chained as it should be, learnt as DWM is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.types import Start, Trajectory
from dwm_jax.world_models.autoregressive import AutoregressiveDiffusion
from dwm_jax.world_models.dwm import DiffusionWorldModel
from tests.world_models.linear_system import BATCH, GAMMA, ROWS, SEGMENTS, advance, compiled_quickly, first, train

SETTINGS = {
    "num_diffusion_steps": 5,
    "num_sampling_steps": 3,
    "width": 16,
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
MODEL = AutoregressiveDiffusion(**SETTINGS)
SINGLE = DiffusionWorldModel(sequence_length=2, **SETTINGS)
H = 3
# What it trains on: the first two rows.
SHORT = SEGMENTS._replace(
    **{field: getattr(SEGMENTS, field)[:, :2] for field in ("observations", "rewards", "actions", "mask")}
)


@pytest.fixture(scope="module")
def training():
    state = compiled_quickly(lambda key: MODEL.init(key, ROWS))(jax.random.key(0))
    return train(MODEL, state, 400, segments=SHORT)


def noisy_policy(step, observation, key):
    return 0.1 * step - 0.3 * observation + 0.1 * jax.random.normal(key, (2,))


def test_autoregressive_diffusion_learns_like_the_denoiser_it_is(training):
    _, losses, _ = training
    assert losses[-40:].mean() < 0.6 * losses[:20].mean()
    assert MODEL.sequence_length == 2


def test_a_rollout_is_three_single_steps_chained(training):
    model = MODEL.inference(training[0])
    key, return_to_go = jax.random.key(7), jnp.array(0.3)
    start = SEGMENTS.observations[0, 0], SEGMENTS.actions[0, 0]
    rollout, step_once = MODEL.rollout(H, GAMMA), compiled_quickly(chained_by_hand)
    imagined = compiled_quickly(lambda key: rollout(model, Start(*start, return_to_go), noisy_policy, key))(key)
    assert imagined.next_observations.shape == (H, 2)

    observation, action = start
    for h, step_key in enumerate(jax.random.split(key, H)):
        noise_key, action_key = jax.random.split(step_key)
        single = step_once(model, observation, action, return_to_go, noise_key)
        for leaf, expected in zip(imagined, single, strict=True):
            np.testing.assert_allclose(leaf[h], expected[0], atol=1e-4)
        observation = single.next_observations[0]
        action = noisy_policy(h + 1, observation, action_key)


def chained_by_hand(model, observation, action, return_to_go, key):
    return SINGLE.rollout(1, GAMMA)(model, Start(observation, action, return_to_go), noisy_policy, key)


def test_told_the_recorded_actions_it_imagines_roughly_what_was_recorded(training):
    rollout, model = MODEL.rollout(H, GAMMA), MODEL.inference(training[0])

    def one(segment, key):
        start = Start(segment.observations[0], segment.actions[0], segment.return_to_go)
        return rollout(model, start, lambda step, observation, key: segment.actions[step], key)

    segments = first(BATCH)
    imagined = compiled_quickly(jax.vmap(one))(segments, jax.random.split(jax.random.key(0), BATCH))
    for values, recorded in [
        (imagined.next_observations, segments.observations[:, 1:]),
        (imagined.rewards, segments.rewards[:, :-1]),
    ]:
        assert np.corrcoef(values.ravel(), recorded.ravel())[0, 1] > 0.9


# ---------------------------------------------------------------- the chain itself, around an exact single step


@pytest.fixture
def exact():
    """The wrapper around a single step without error, whose reward is the return it was asked for."""

    class Exact(AutoregressiveDiffusion):
        def step(self, gamma):
            def imagine(model, start, choose_action, key):
                next_observation, _ = advance(start.observation, start.action)
                return Trajectory(next_observation[None], jnp.full(1, start.return_to_go), jnp.full(1, gamma))

            return imagine

    return Exact()


def run(model, choose_action):
    start = Start(jnp.array([1.0, -2.0]), jnp.array([0.5, 0.0]), jnp.array(0.25))
    return model.rollout(H, GAMMA)((), start, choose_action, jax.random.key(0))


def test_the_policy_acts_at_every_step_on_the_state_imagined_there(exact):
    # a_h = step h: s_1 = 0.9 s + 0.3 (.5, 0), s_2 = 0.9 s_1 + 0.3 * 1, s_3 = 0.9 s_2 + 0.3 * 2
    by_step = run(exact, lambda step, observation, key: jnp.full(2, 1.0) * step)
    np.testing.assert_allclose(by_step.next_observations, [[1.05, -1.8], [1.245, -1.32], [1.7205, -0.588]], rtol=1e-5)
    # a_h = -s_h: s_1 as before, then s' = 0.6 s
    by_state = run(exact, lambda step, observation, key: -observation)
    np.testing.assert_allclose(by_state.next_observations, [[1.05, -1.8], [0.63, -1.08], [0.378, -0.648]], rtol=1e-5)


def test_the_policys_noise_is_fresh_at_every_step(exact):
    noise = []

    def choose_action(step, observation, key):
        jax.debug.callback(lambda value: noise.append(float(value)), jax.random.normal(key))
        return jnp.zeros(2)

    jax.block_until_ready(run(exact, choose_action))
    jax.effects_barrier()
    assert len(set(noise)) == len(noise) == H


def test_every_step_asks_for_the_same_return(exact):
    trajectory = run(exact, lambda *_: jnp.zeros(2))
    np.testing.assert_array_equal(trajectory.rewards, [0.25] * H)
    np.testing.assert_array_equal(trajectory.discounts, np.full(H, np.float32(GAMMA)))


def test_alternatives_are_independent_draws(training):
    follow, model = MODEL.alternatives(2, GAMMA, 3), MODEL.inference(training[0])
    start = Start(SEGMENTS.observations[0, 0], SEGMENTS.actions[0, 0], jnp.array(0.3))
    answers = compiled_quickly(lambda key: follow(model, start, noisy_policy, key))(jax.random.key(0))
    assert answers.next_observations.shape == (3, 2, 2)
    assert (np.abs(np.diff(answers.rewards, axis=0)) > 1e-4).all()


def test_it_follows_a_policy_and_its_sequence_is_two_rows():
    assert MODEL.needs_policy
    with pytest.raises(TypeError, match="sequence_length"):
        AutoregressiveDiffusion(**SETTINGS, sequence_length=8)


def test_what_ended_stays_ended():
    class EndsOnce(AutoregressiveDiffusion):
        """A single step that ends the task below 1.02 and moves by 0.05."""

        def step(self, gamma):
            def imagine(model, start, choose_action, key):
                ends = start.observation[:1] < 1.02
                return Trajectory(start.observation[None] + 0.05, jnp.ones(1), jnp.where(ends, 0.0, gamma))

            return imagine

    # From s = 1, which ends; by themselves 1.05 and 1.1 go on.
    trajectory = run(EndsOnce(), lambda *_: jnp.zeros(2))
    np.testing.assert_array_equal(trajectory.discounts, [0.0, 0.0, 0.0])
