"""ReBRAC: its updates against the published algorithm written out, and what its penalty compares with."""

from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dwm_jax.config import default_config
from dwm_jax.data.dataset import flatten
from dwm_jax.learners.policies import fit_units
from dwm_jax.learners.rebrac import ReBRAC
from dwm_jax.maths.value_expansion import choose_expansion, expand_vanilla
from dwm_jax.recipes import RECIPES
from dwm_jax.types import Batch, Episode, NextPair, Trajectory

OBSERVATION, ACTION, B = 3, 2, 6
ACTOR_LR, CRITIC_LR, RATE, NOISE, CLIP, BETA_1, BETA_2 = 1e-2, 3e-3, 0.1, 0.6, 0.5, 0.4, 0.7
KEYS = jax.random.split(jax.random.key(5), B)
LEARNER = ReBRAC(
    num_updates=1,
    observation_size=OBSERVATION,
    action_size=ACTION,
    hidden=(8, 8, 8),
    learning_rate=ACTOR_LR,
    critic_learning_rate=CRITIC_LR,
    target_rate=RATE,
    policy_noise=NOISE,
    noise_clip=CLIP,
    actor_penalty=BETA_1,
    critic_penalty=BETA_2,
)


def alone(tree):
    return tree


@cache
def start():
    """Targets that differ from the online networks: nothing may be mixed up."""
    init = jax.jit(LEARNER.init, compiler_options={"xla_backend_optimization_level": 0})
    state = init(jax.random.key(0))
    rng = np.random.default_rng(1)
    target = jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32), state.target)
    return state._replace(target=target)


@cache
def batch():
    """Pair 0 terminated, pair 1 was truncated, the others go on."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    following = normal(B, OBSERVATION)
    return Batch(
        normal(B, OBSERVATION),
        jnp.tanh(normal(B, ACTION)),
        Trajectory(following[:, None], normal(B, 1), jnp.full((B, 1), 0.9).at[0].set(0.0)),
        NextPair(following, jnp.tanh(normal(B, ACTION)), jnp.arange(B) > 1),
    )


@cache
def update():
    return jax.jit(lambda state, batch, step: LEARNER.update(state, batch, expand_vanilla, KEYS, step, alone))


def mlp(params, x, normalises=False):
    """Four dense layers, between them a ReLU, before it layer norm where asked; `params` as flax names them."""
    for i in range(3):
        x = x @ params[f"Dense_{i}"]["kernel"] + params[f"Dense_{i}"]["bias"]
        if normalises:
            x = (x - x.mean(axis=1, keepdims=True)) / jnp.sqrt(x.var(axis=1, keepdims=True) + 1e-6)
            x = x * params[f"LayerNorm_{i}"]["scale"] + params[f"LayerNorm_{i}"]["bias"]
        x = jnp.maximum(x, 0)
    return x @ params["Dense_3"]["kernel"] + params["Dense_3"]["bias"]


def policy(actor, s):
    return jnp.tanh(mlp(actor["params"]["MLP_0"], s))


def q(critics, s, a):
    """Both critics: (2, B)."""
    of = [jax.tree.map(lambda leaf, j=j: leaf[j], critics)["params"]["MLP_0"] for j in (0, 1)]
    return jnp.stack([mlp(params, jnp.concatenate([s, a], axis=1), normalises=True)[:, 0] for params in of])


def smoothed_action(state, s):
    noise = jnp.clip(NOISE * jax.vmap(lambda key: jax.random.normal(key, (ACTION,)))(KEYS), -CLIP, CLIP)
    return jnp.clip(policy(state.target.actor, s) + noise, -1, 1)


def published_target(state, batch):
    s_next, r, d = (leaf[:, 0] for leaf in batch.trajectory)
    a_next = smoothed_action(state, s_next)
    penalty = jnp.sum((a_next - batch.next_pair.action) ** 2, axis=1) * batch.next_pair.is_known
    return r + d * (q(state.target.critics, s_next, a_next).min(axis=0) - BETA_2 * penalty)


@partial(jax.jit, static_argnames="is_delayed")
def published_update(state, batch, is_delayed):
    """Tarasov et al. 2023 as published: the delayed half on the first of two updates."""
    s, a, y = batch.observation, batch.action, published_target(state, batch)

    def descend(learning_rate, loss, params, optimizer_state):
        adam = optax.adam(learning_rate)
        steps, optimizer_state = adam.update(jax.grad(loss)(params), optimizer_state)
        return optax.apply_updates(params, steps), optimizer_state

    critics, critic_optimizer = descend(
        CRITIC_LR,
        lambda critics: jnp.sum(jnp.mean((q(critics, s, a) - y) ** 2, axis=1)),
        state.online.critics,
        state.optimizer_states.critics,
    )
    actor, actor_optimizer, target = state.online.actor, state.optimizer_states.actor, state.target
    if is_delayed:
        lambda_ = 1 / jnp.abs(q(critics, s, policy(actor, s)).min(axis=0)).mean()

        def actor_loss(actor):
            pi = policy(actor, s)
            return jnp.mean(BETA_1 * jnp.sum((pi - a) ** 2, axis=1) - lambda_ * q(critics, s, pi).min(axis=0))

        stepped, actor_optimizer = descend(ACTOR_LR, actor_loss, actor, actor_optimizer)
        # The targets follow the critics that have stepped and the actor that has not.
        followed = type(target)(actor, critics)
        target = jax.tree.map(lambda new, old: RATE * new + (1 - RATE) * old, followed, target)
        actor = stepped
    return type(state)(
        type(state.online)(actor, critics), target, type(state.online)(actor_optimizer, critic_optimizer)
    )


def test_three_updates_are_the_published_ones_parameter_for_parameter():
    # The delay is 2: updates 1 and 3 (steps 0 and 2) move everything, update 2 the critics alone.
    state = expected = start()
    for step in (0, 1, 2):
        state, _ = update()(state, batch(), step)
        expected = published_update(expected, batch(), is_delayed=step != 1)
        chex.assert_trees_all_close(state, expected, atol=2e-6, rtol=0)


def targets(batch, lambda_=1.0):
    return jax.jit(lambda: LEARNER.critic_targets(start().target, batch, choose_expansion(lambda_), KEYS))()


def test_no_penalty_after_a_termination_nor_where_nobody_acted():
    moved = batch().next_pair._replace(action=-batch().next_pair.action)
    usual, other = targets(batch()), targets(batch()._replace(next_pair=moved))
    # Pairs 0 (terminated) and 1 (truncated) do not see the recorded action; all others do.
    np.testing.assert_array_equal(usual[:2], other[:2])
    assert (np.abs(usual - other)[2:] > 1e-3).all()
    np.testing.assert_allclose(usual, published_target(start(), batch()), atol=1e-5)


@pytest.mark.parametrize("lambda_", [1.0, 0.5])
def test_over_several_steps_the_penalty_has_the_weight_of_what_is_bootstrapped(lambda_):
    # Three imagined steps; pair 0 is imagined to end at the second, so that all of its later bootstraps count nothing.
    rng = np.random.default_rng(2)
    states, rewards = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((B, 3, OBSERVATION), (B, 3)))
    discounts = jnp.full((B, 3), 0.9).at[0, 1:].set(0.0)
    recorded = batch().next_pair._replace(is_known=jnp.ones(B, bool))
    imagined = batch()._replace(trajectory=Trajectory(states, rewards, discounts), next_pair=recorded)
    free = imagined._replace(next_pair=recorded._replace(is_known=jnp.zeros(B, bool)))
    distance = np.sum((smoothed_action(start(), recorded.observation) - recorded.action) ** 2, axis=1)
    # Weights of the three bootstraps: (1 - lambda) 0.9, (1 - lambda) lambda 0.81, lambda^2 0.729; of pair 0 the first.
    first, second, third = (1 - lambda_) * 0.9, (1 - lambda_) * lambda_ * 0.81, lambda_**2 * 0.729
    weights = np.where(np.arange(B) == 0, first, first + second + third)
    lowered = targets(free, lambda_) - targets(imagined, lambda_)
    np.testing.assert_allclose(lowered, weights * BETA_2 * distance, atol=2e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_both_recipes_leave_it_its_layer_norm_and_decide_the_others(recipe):
    config = default_config()
    RECIPES[recipe](config)
    assert config.learners.rebrac.layer_norm
    assert config.learners.td3_bc.layer_norm == config.learners.iql.layer_norm == (recipe == "recommended")


def test_rewards_are_scaled_as_the_setting_says():
    episode = Episode(np.zeros((3, 1), np.float32), np.zeros((2, 1), np.float32), np.array([0.0, 1.0]), False)
    dataset, _ = flatten([episode], 0.9, 1.0)
    learner = ReBRAC(num_updates=1, observation_size=1, action_size=1, reward_scale=100.0)
    assert float(fit_units(learner, dataset).reward_scale) == 100.0
