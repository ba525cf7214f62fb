"""Inverse dynamics on a linear system (linear_system.py), where the action between two states is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.world_models.inverse_dynamics import InverseDynamicsModel
from tests.world_models.linear_system import ROWS, train

MODEL = InverseDynamicsModel(hidden=(32,), learning_rate=3e-3)


def test_the_action_between_two_states_is_recovered_and_stays_in_its_range():
    state, losses, _ = train(MODEL, MODEL.init(jax.random.key(0), ROWS), 1_500)
    infer = jax.jit(jax.vmap(partial(MODEL.infer, MODEL.inference(state))))
    # s' = 0.9 s + 0.3 a: of 256 new steps a = (s' - 0.9 s) / 0.3.
    rng = np.random.default_rng(1)
    s, a = rng.uniform(-1.5, 1.5, (256, 2)), rng.uniform(-1, 1, (256, 2))
    assert float(jnp.sqrt(jnp.mean((infer(s, 0.9 * s + 0.3 * a) - a) ** 2))) < 0.1
    # Before training f is about 0 and the loss the variance of the actions, 1/3.
    assert losses[0] > 0.2
    # A step that takes a = 3 is answered by full throttle.
    np.testing.assert_allclose(infer(np.zeros((1, 2)), np.array([[0.9, -0.9]])), [[1, -1]], atol=0.05)
    assert np.abs(infer(s, 100 * s)).max() <= 1
