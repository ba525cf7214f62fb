"""Generated transitions of a linear system (linear_system.py) that terminates where s'_0 > 1."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.world_models.base import TrainingRows
from dwm_jax.world_models.transition_diffusion import TransitionDiffusion
from tests.world_models.linear_system import (
    BATCH,
    advance,
    alone,
    compiled_quickly,
    first,
    leaf_sums,
    make_segments,
    train,
)

SETTINGS = {
    "num_diffusion_steps": 32,
    "num_sampling_steps": 32,
    "width": 64,
    "activations": "float32",
    "prediction": "noise",
    "multipliers": (1,),
    "learning_rate": 3e-3,
    "ema_rate": 0.9,
    "ema_every": 5,
    "temperature": 1.0,
    "normalizer": "standard",
}
GENERATOR = TransitionDiffusion(**SETTINGS)
COUNT = 2048


def with_terminations(segments):
    # Of a segment only its first transition is read.
    ended = segments.observations[:, 1, :1] > 1
    return segments._replace(terminated=jnp.broadcast_to(ended, segments.rewards.shape))


SEGMENTS = with_terminations(make_segments(COUNT))
DATA = TrainingRows(
    np.asarray(SEGMENTS.observations[:, 0]),
    np.asarray(SEGMENTS.rewards[:, 0]),
    np.asarray(SEGMENTS.observations[:, 1]),
    np.asarray(SEGMENTS.actions[:, 0]),
    absorbing=True,
)


def initial(rows, generator=GENERATOR):
    return compiled_quickly(lambda key: generator.init(key, rows))(jax.random.key(0))


@cache
def drawing(generator):
    return compiled_quickly(jax.vmap(generator.generate, in_axes=(None, 0)))


def generate(state, count=COUNT, generator=GENERATOR):
    keys = jax.random.split(jax.random.key(1), count)
    return jax.tree.map(np.asarray, drawing(generator)(generator.inference(state), keys))


@pytest.fixture(scope="module")
def start():
    return initial(DATA)


@pytest.fixture(scope="module")
def training(start):
    return train(GENERATOR, start, 1500, segments=SEGMENTS)


@pytest.fixture(scope="module")
def generated(training):
    return generate(training[0])


def rms(x):
    return float(np.sqrt(np.mean(x**2)))


def test_it_learns(training):
    losses = training[1]
    assert losses[-100:].mean() < 0.7 * losses[:20].mean()


def test_the_network_has_no_condition(start):
    assert not [name for name in start.params["params"] if name in ("return_embedding", "action_embedding")]


def test_generated_transitions_obey_the_system(generated):
    next_observation, reward = advance(generated.observation, generated.action)
    shuffled = np.random.default_rng(0).permutation(COUNT)
    # s' - s = 0.3 a - 0.1 s; an action of another transition is wrong by 0.3 * sqrt(2 / 3) = 0.24.
    other, _ = advance(generated.observation, generated.action[shuffled])
    error = rms(generated.next_observation - next_observation)
    assert error < 0.15 * rms(generated.next_observation - other)
    # r = 2 s_0, of standard deviation 2.
    assert rms(generated.reward - reward) < 0.3


def test_generated_transitions_have_the_means_and_spreads_of_the_data(generated):
    pairs = zip(generated[:4], (DATA.observations, DATA.actions, DATA.rewards, DATA.next_observations), strict=True)
    for drawn, recorded in pairs:
        assert drawn.shape == recorded.shape
        np.testing.assert_allclose(drawn.mean(axis=0), recorded.mean(axis=0), atol=0.2 * recorded.std())
        # At N = 32 the sampler narrows a Gaussian to 0.93.
        np.testing.assert_allclose(drawn.std(axis=0), 0.95 * recorded.std(axis=0), rtol=0.15)
    # Nor are they a few transitions over and over.
    assert len(np.unique(generated.observation.round(2), axis=0)) > 0.9 * COUNT


def test_they_terminate_as_often_as_the_data_and_where_it_does(generated):
    frequency = np.mean(SEGMENTS.terminated)
    assert 0.1 < frequency < 0.2
    assert generated.terminated.dtype == bool
    np.testing.assert_allclose(generated.terminated.mean(), frequency, rtol=0.3)
    reached = generated.next_observation[:, 0]
    assert generated.terminated[reached < 0.5].mean() < 0.03
    assert generated.terminated[reached > 1.5].mean() > 0.9


@pytest.mark.parametrize("normalizer", ["cdf", "min_max", "standard"])
def test_an_untrained_generator_keeps_to_the_range_of_the_data(normalizer):
    generator = TransitionDiffusion(**SETTINGS | {"normalizer": normalizer})
    # A constant entry has a range too: the second of the observation is 7, that of the action 0.
    rows = DATA._replace(
        observations=DATA.observations * [1, 0] + [0, 7],
        next_observations=DATA.next_observations * [1, 0] + [0, 7],
        actions=DATA.actions * [1, 0],
    )
    states = np.concatenate([rows.observations, rows.next_observations])
    for absorbing in (True, False):
        drawn = generate(initial(rows._replace(absorbing=absorbing), generator), 256, generator)
        assert drawn.terminated.any() == absorbing
        for values, recorded in [
            (drawn.observation, states),
            (drawn.next_observation, states),
            (drawn.reward, rows.rewards),
            (drawn.action, rows.actions),
        ]:
            assert (values >= recorded.min(axis=0) - 1e-5).all()
            assert (values <= recorded.max(axis=0) + 1e-5).all()
            assert np.ptp(values) > 0.5


def test_the_last_transition_before_a_truncation_teaches_like_any_other(start):
    # There row 1 is masked - its reward is unknown - but the state in it was recorded.
    segments = first(BATCH, SEGMENTS)
    hidden = segments._replace(mask=segments.mask.at[:, 1].set(0), rewards=segments.rewards.at[:, 1].set(jnp.nan))
    keys = jax.random.split(jax.random.key(0), BATCH)
    update = compiled_quickly(lambda batch: GENERATOR.update(start, batch, keys, jnp.array(0), alone)[0].params)
    np.testing.assert_array_equal(leaf_sums(update(hidden)), leaf_sums(update(segments)))
    assert (leaf_sums(update(segments)) != leaf_sums(start.params)).any()


@pytest.mark.parametrize(
    ("overrides", "message"), [({"width": 16}, "at least 32"), ({"num_sampling_steps": 33}, "num_sampling_steps")]
)
def test_refuses_what_cannot_generate(overrides, message):
    with pytest.raises(ValueError, match=message):
        TransitionDiffusion(**SETTINGS | overrides)
