"""TD3+BC: its updates against the published algorithm written out."""

from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dwm_jax.learners.td3_bc import TD3BC
from dwm_jax.maths.value_expansion import expand_vanilla
from dwm_jax.types import Batch, NextPair, Trajectory

OBSERVATION, ACTION, B = 3, 2, 6
HIDDEN, LR, RATE, NOISE, CLIP, ALPHA = (8, 8), 1e-2, 0.1, 0.6, 0.5, 2.5


def learner(policy_delay=2):
    return TD3BC(
        num_updates=1,
        observation_size=OBSERVATION,
        action_size=ACTION,
        hidden=HIDDEN,
        learning_rate=LR,
        target_rate=RATE,
        policy_noise=NOISE,
        noise_clip=CLIP,
        policy_delay=policy_delay,
        alpha=ALPHA,
    )


@cache
def initial_state():
    # Initialisers run once and compile slowly.
    init = jax.jit(learner().init, compiler_options={"xla_backend_optimization_level": 0})
    return init(jax.random.key(0))


def alone(tree):
    return tree


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    discounts = jnp.full((B, 1), 0.9).at[0].set(0.0)  # the first pair terminated
    return Batch(
        normal(B, OBSERVATION),
        jnp.tanh(normal(B, ACTION)),
        Trajectory(normal(B, 1, OBSERVATION), normal(B, 1), discounts),
        NextPair(normal(B, OBSERVATION), jnp.tanh(normal(B, ACTION)), jnp.ones(B, bool)),
    )


@pytest.fixture(scope="module")
def start():
    """Targets that differ from the online networks: nothing may be mixed up."""
    state = initial_state()
    rng = np.random.default_rng(1)
    target = jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32), state.target)
    return state._replace(target=target)


@pytest.fixture(scope="module")
def update():
    step_once = learner().update
    return jax.jit(lambda state, batch, step: step_once(state, batch, expand_vanilla, KEYS, step, alone))


KEYS = jax.random.split(jax.random.key(5), B)


def mlp(params, x):
    """Three dense layers, ReLU between; `params` as flax names them."""
    layers = [params[f"Dense_{i}"] for i in range(3)]
    for layer in layers[:-1]:
        x = jnp.maximum(x @ layer["kernel"] + layer["bias"], 0)
    return x @ layers[-1]["kernel"] + layers[-1]["bias"]


def policy(actor, s):
    return jnp.tanh(mlp(actor["params"]["MLP_0"], s))


def q(critics, j, s, a):
    params = jax.tree.map(lambda leaf: leaf[j], critics)["params"]["MLP_0"]
    return mlp(params, jnp.concatenate([s, a], axis=1))[:, 0]


@partial(jax.jit, static_argnames="updates_actor")
def published_update(state, batch, updates_actor):
    """Fujimoto & Gu 2021, line by line."""
    s, a = batch.observation, batch.action
    s_next, r, d = (leaf[:, 0] for leaf in batch.trajectory)

    noise = jnp.clip(NOISE * jax.vmap(lambda key: jax.random.normal(key, (ACTION,)))(KEYS), -CLIP, CLIP)
    a_next = jnp.clip(policy(state.target.actor, s_next) + noise, -1, 1)
    q_next = jnp.minimum(q(state.target.critics, 0, s_next, a_next), q(state.target.critics, 1, s_next, a_next))
    y = r + d * q_next

    def critic_loss(critics):
        return jnp.mean((q(critics, 0, s, a) - y) ** 2) + jnp.mean((q(critics, 1, s, a) - y) ** 2)

    adam = optax.adam(LR)

    def descend(loss, params, optimizer_state):
        steps, optimizer_state = adam.update(jax.grad(loss)(params), optimizer_state)
        return optax.apply_updates(params, steps), optimizer_state

    critics, critic_optimizer = descend(critic_loss, state.online.critics, state.optimizer_states.critics)
    actor, actor_optimizer, target = state.online.actor, state.optimizer_states.actor, state.target
    if updates_actor:
        lambda_ = ALPHA / jnp.abs(q(critics, 0, s, policy(actor, s))).mean()

        def actor_loss(actor):
            pi = policy(actor, s)
            return -lambda_ * jnp.mean(q(critics, 0, s, pi)) + jnp.mean((pi - a) ** 2)

        actor, actor_optimizer = descend(actor_loss, actor, actor_optimizer)
        online = type(state.online)(actor, critics)
        target = jax.tree.map(lambda new, old: RATE * new + (1 - RATE) * old, online, state.target)
    return type(state)(
        type(state.online)(actor, critics), target, type(state.online)(actor_optimizer, critic_optimizer)
    )


def test_two_updates_are_the_published_ones_parameter_for_parameter(update, start, batch):
    # The delay is 2: update 1 (step 0) moves the critics alone, update 2 (step 1) everything.
    state = expected = start
    for step in (0, 1):
        state, _ = update(state, batch, step)
        expected = published_update(expected, batch, updates_actor=step == 1)
        chex.assert_trees_all_close(state, expected, atol=1e-6, rtol=0)


def test_metrics_are_those_of_the_critics(update, start, batch):
    _, metrics = update(start, batch, 0)
    q_2 = [q(start.online.critics, j, batch.observation, batch.action) for j in (0, 1)]
    assert float(metrics["critic/q"]) == pytest.approx(float(np.mean(q_2)), abs=1e-5)
    assert set(metrics) == {"critic/loss", "critic/q", "critic/target"}


def test_actor_and_targets_move_on_every_delayed_update_only(start, batch):
    step_once = learner(policy_delay=3).update

    @jax.jit
    def six_updates(state):
        def one(state, step):
            state, _ = step_once(state, batch, expand_vanilla, KEYS, step, alone)
            return state, state

        return jax.lax.scan(one, state, jnp.arange(6))[1]

    states = jax.tree.map(lambda first, rest: np.concatenate([first[None], rest]), start, six_updates(start))

    def moved(tree):
        differences = [np.abs(np.diff(leaf, axis=0)).reshape(6, -1).max(axis=1) for leaf in jax.tree.leaves(tree)]
        return list(np.max(differences, axis=0) > 0)

    due = [False, False, True] * 2
    assert moved(states.online.critics) == [True] * 6
    assert moved(states.online.actor) == due
    assert moved(states.target.actor) == due
    assert moved(states.target.critics) == due
    assert moved(states.optimizer_states.actor) == due


def test_a_terminated_pair_takes_nothing_from_the_next_state(update, start, batch):
    def with_next_state(pair, value):
        changed = batch.trajectory.next_observations.at[pair].set(value)
        return batch._replace(trajectory=batch.trajectory._replace(next_observations=changed))

    same, _ = update(start, with_next_state(0, 5.0), 0)  # pair 0 terminated
    other, _ = update(start, with_next_state(1, 5.0), 0)
    usual, _ = update(start, batch, 0)
    chex.assert_trees_all_equal(same, usual)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(other, usual)


def test_the_policy_that_is_evaluated_is_online_and_the_one_that_imagines_is_the_target(start):
    observation = jnp.array([0.1, -0.2, 0.3])
    agent = learner()
    np.testing.assert_allclose(
        agent.act(agent.inference(start), observation), policy(start.online.actor, observation), atol=1e-6
    )
    explored = agent.explore(start, observation, jax.random.key(0))
    np.testing.assert_allclose(explored, policy(start.target.actor, observation), atol=1e-6)


def test_both_critics_start_differently_and_targets_start_as_copies():
    state = initial_state()
    chex.assert_trees_all_equal(state.online, state.target)
    kernel = state.online.critics["params"]["MLP_0"]["Dense_0"]["kernel"]
    assert np.abs(kernel[0] - kernel[1]).max() > 0.01
