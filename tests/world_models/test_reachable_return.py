"""The reachable return on a problem whose quantiles are known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.maths.losses import pinball_loss
from dwm_jax.types import Start
from dwm_jax.world_models.one_step import OneStep
from dwm_jax.world_models.reachable_return import with_reachable_return
from tests.world_models.linear_system import BATCH, GAMMA, ROWS, SEGMENTS, T, alone, compiled_quickly, train

INNER = OneStep(hidden=(8,), learning_rate=1e-3)
LEVEL = 0.9
MODEL = with_reachable_return(INNER, LEVEL)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_pinball_loss_is_least_at_the_quantile(level):
    samples = np.random.default_rng(0).uniform(size=10_001)
    estimates = np.linspace(0, 1, 101)
    losses = [pinball_loss(samples - estimate, level).mean() for estimate in estimates]
    assert estimates[int(np.argmin(losses))] == pytest.approx(level, abs=0.02)
    # By hand: 0.2 too low costs level * 0.2, 0.2 too high (1 - level) * 0.2.
    np.testing.assert_allclose(pinball_loss(jnp.array([0.2, -0.2]), level), [0.2 * level, 0.2 * (1 - level)], rtol=1e-6)


def test_the_quantile_of_the_returns_is_found_as_a_function_of_state_and_action():
    # Of a pair (s, a) returns are uniform on [m, m + 1], m = s_0 / 2 + a_0: the 0.9 quantile is m + 0.9.
    states, actions = SEGMENTS.observations[:, 0], SEGMENTS.actions[:, 0]
    middle = states[:, 0] / 2 + actions[:, 0]
    noise = jax.random.uniform(jax.random.key(0), (20, len(middle)))
    segments = jax.tree.map(lambda leaf: jnp.tile(leaf, (20, *[1] * (leaf.ndim - 1))), SEGMENTS)
    segments = segments._replace(return_to_go=(middle + noise).reshape(-1))
    start = MODEL.init(jax.random.key(0), ROWS)
    state = MODEL.inference(train(MODEL, start, 8_000, segments=segments)[0])
    found = jax.vmap(partial(MODEL.reachable_return, state))(states, actions)
    inside = (np.abs(states) < 1.5).all(axis=1)
    np.testing.assert_allclose((found - middle)[inside].mean(), LEVEL, atol=0.05)
    assert np.std((found - middle)[inside]) < 0.1


def test_the_world_model_itself_is_trained_and_imagines_as_without():
    alone_state, state = (model.init(jax.random.key(1), ROWS) for model in (INNER, MODEL))
    batch, keys = jax.tree.map(lambda leaf: leaf[:BATCH], SEGMENTS), jax.random.split(jax.random.key(2), BATCH)
    trained_alone, _ = compiled_quickly(lambda s: INNER.update(s, batch, keys, jnp.array(0), alone))(alone_state)
    trained, metrics = compiled_quickly(lambda s: MODEL.update(s, batch, keys, jnp.array(0), alone))(state)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), trained.model, trained_alone)
    assert "world_model/reachable_return" in metrics
    start = Start(ROWS.observations[0], ROWS.actions[0], jnp.zeros(())), lambda *_: jnp.zeros(2), jax.random.key(3)
    imagined, expected = (
        compiled_quickly(lambda model=model, s=s: model.rollout(T - 1, GAMMA)(model.inference(s), *start))()
        for model, s in ((MODEL, trained), (INNER, trained_alone))
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4), imagined, expected)


def test_a_level_of_zero_leaves_the_model_as_it_is():
    assert with_reachable_return(INNER, 0.0) is INNER
    assert INNER.reachable_return is None


def test_its_shapes_can_be_asked_for_without_computing_it_as_a_resumed_run_does():
    shapes = jax.eval_shape(lambda: MODEL.init(jax.random.key(0), ROWS))
    state = MODEL.init(jax.random.key(0), ROWS)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, state)
