"""The system that world models are tested on, s' = s + 0.3 a - 0.1 s, r = 2 s_0, and how they are trained on it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.types import Segment
from dwm_jax.world_models.base import TrainingRows

T, BATCH = 4, 32
GAMMA = 0.9


def advance(observation, action):
    return 0.9 * observation + 0.3 * action, 2 * observation[..., 0]


def make_segments(count, seed=0, behave=None):
    """Independent whole segments, leading axis `count`; observations and actions of size 2.

    Actions are random; those after the first are `behave(state)` where that is given.
    """
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(count, 2))
    observations, actions, rewards = [], [], []
    for h in range(T):
        action = rng.uniform(-1, 1, size=(count, 2)) if h == 0 or behave is None else behave(state)
        next_state, reward = advance(state, action)
        observations.append(state)
        actions.append(action)
        rewards.append(reward)
        state = next_state
    rows = [np.stack(column, axis=1).astype(np.float32) for column in (observations, rewards, actions)]
    g = sum(GAMMA**h * rows[1][:, h] for h in range(T))
    ones = np.ones((count, T), np.float32)
    return Segment(*map(jnp.asarray, (*rows, g / np.abs(g).max(), ones, np.zeros((count, T), bool))))


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


def train(model, state, num_updates, watch=lambda state: (), segments=SEGMENTS):
    """(final state, loss of every update, what `watch` sees in the state after every update)."""

    @compiled_quickly
    def run(state, segments):
        def one(state, step):
            index_key, noise_key = jax.random.split(jax.random.fold_in(jax.random.key(0), step))
            indices = jax.random.randint(index_key, (BATCH,), 0, len(segments.rewards))
            batch = jax.tree.map(lambda leaf: leaf[indices], segments)
            state, metrics = model.update(state, batch, jax.random.split(noise_key, BATCH), step, alone)
            return state, (metrics["world_model/loss"], watch(state))

        return jax.lax.scan(one, state, jnp.arange(num_updates))

    state, (losses, seen) = run(state, segments)
    return state, losses, seen


def first(count, segments=SEGMENTS):
    return jax.tree.map(lambda leaf: leaf[:count], segments)


def leaf_sums(params):
    return jnp.stack([leaf.sum() for leaf in jax.tree.leaves(params)])


def no_action(step, observation, key):
    raise AssertionError("asked for an action")
