"""IQL and PQL: their updates against the published algorithm written out."""

from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dwm_jax.learners.iql import IQL, PQL
from dwm_jax.maths.value_expansion import expand_vanilla
from dwm_jax.types import Batch, NextPair, Trajectory

OBSERVATION, ACTION, B = 3, 2, 6
NUM_UPDATES = 3
LR, RATE, EXPECTILE, BETA, CLIP = 1e-2, 0.1, 0.8, 3.0, 1.6
SETTINGS = {
    "observation_size": OBSERVATION,
    "action_size": ACTION,
    "num_updates": NUM_UPDATES,
    "hidden": (8, 8),
    "learning_rate": LR,
    "target_rate": RATE,
    "beta": BETA,
    "weight_clip": CLIP,
}
LEARNERS = {"iql": IQL(expectile=EXPECTILE, **SETTINGS), "pql": PQL(**SETTINGS)}


def alone(tree):
    return tree


@cache
def start():
    """Targets that differ from the online networks: nothing may be mixed up."""
    init = jax.jit(LEARNERS["iql"].init, compiler_options={"xla_backend_optimization_level": 0})
    state = init(jax.random.key(0))
    rng = np.random.default_rng(1)
    noisy = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), state.target_critics)
    return state._replace(target_critics=noisy)


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


@pytest.fixture(scope="module", params=LEARNERS)
def name(request):
    return request.param


@cache
def compiled_update(name):
    keys = jax.random.split(jax.random.key(5), B)
    return jax.jit(lambda state, batch: LEARNERS[name].update(state, batch, expand_vanilla, keys, jnp.array(0), alone))


def mlp(params, x):
    """Three dense layers, ReLU between; `params` as flax names them."""
    layers = [params[f"Dense_{i}"] for i in range(3)]
    for layer in layers[:-1]:
        x = jnp.maximum(x @ layer["kernel"] + layer["bias"], 0)
    return x @ layers[-1]["kernel"] + layers[-1]["bias"]


def q(critics, j, s, a):
    params = jax.tree.map(lambda leaf: leaf[j], critics)["params"]["MLP_0"]
    return mlp(params, jnp.concatenate([s, a], axis=1))[:, 0]


def v(value, s):
    return mlp(value["params"]["MLP_0"], s)[:, 0]


def log_pi(actor, s, a):
    mean = jnp.tanh(mlp(actor["params"]["MLP_0"], s))
    log_std = actor["params"]["log_std"]
    return jnp.sum(-0.5 * ((a - mean) / jnp.exp(log_std)) ** 2 - log_std - 0.5 * jnp.log(2 * jnp.pi), axis=1)


@partial(jax.jit, static_argnames="name")
def published_update(state, batch, name, actor_rate):
    """Kostrikov et al. 2022 as coded by its authors: value, actor, critics, targets; Adam's rates are LR and, for the
    actor, what half a cosine has left of it."""
    s, a = batch.observation, batch.action
    s_next, r, d = (leaf[:, 0] for leaf in batch.trajectory)
    adam = optax.scale_by_adam()

    def descend(loss, params, optimizer_state, rate=LR):
        steps, moments = adam.update(jax.grad(loss)(params), optimizer_state[0])
        return jax.tree.map(lambda p, step: p - rate * step, params, steps), (moments, *optimizer_state[1:])

    q_sa = jnp.minimum(q(state.target_critics, 0, s, a), q(state.target_critics, 1, s, a))

    def value_loss(value):
        u = q_sa - v(value, s)
        weight = jnp.where(u > 0, EXPECTILE, 1 - EXPECTILE) if name == "iql" else 1.0
        return jnp.mean(weight * u**2)

    value, value_optimizer = descend(value_loss, state.online.value, state.optimizer_states.value)
    weight = jnp.minimum(jnp.exp(BETA * (q_sa - v(value, s))), CLIP)

    def actor_loss(actor):
        return -jnp.mean(weight * log_pi(actor, s, a))

    actor, actor_optimizer = descend(actor_loss, state.online.actor, state.optimizer_states.actor, actor_rate)
    actor_optimizer = (actor_optimizer[0], actor_optimizer[1]._replace(count=actor_optimizer[1].count + 1))
    y = r + d * v(value, s_next)

    def critic_loss(critics):
        return jnp.mean((q(critics, 0, s, a) - y) ** 2 + (q(critics, 1, s, a) - y) ** 2)

    critics, critic_optimizer = descend(critic_loss, state.online.critics, state.optimizer_states.critics)
    weights = type(state.online)
    return type(state)(
        weights(actor, critics, value),
        jax.tree.map(lambda new, old: RATE * new + (1 - RATE) * old, critics, state.target_critics),
        weights(actor_optimizer, critic_optimizer, value_optimizer),
    )


def test_three_updates_are_the_published_ones_parameter_for_parameter(name, batch):
    state = expected = start()
    # (1 + cos(pi n / 3)) / 2 at n = 0, 1, 2, 3: the rate after the last of three updates would be 0.
    for share in (1.0, 0.75, 0.25, 0.0)[:NUM_UPDATES]:
        state, _ = compiled_update(name)(state, batch)
        expected = published_update(expected, batch, name, share * LR)
        chex.assert_trees_all_close(state, expected, atol=2e-6, rtol=0)


def test_this_batch_has_advantages_on_both_sides_of_the_clip(batch):
    # Else the comparison above would not notice a missing clip.
    s, a = batch.observation, batch.action
    q_sa = jnp.minimum(q(start().target_critics, 0, s, a), q(start().target_critics, 1, s, a))
    clipped = jnp.exp(BETA * (q_sa - v(start().online.value, s))) > CLIP
    assert 0 < int(clipped.sum()) < B


def test_metrics_are_finite_and_named_after_their_network(name, batch):
    _, metrics = compiled_update(name)(start(), batch)
    assert {key.split("/")[0] for key in metrics} == {"critic", "value", "actor"}
    assert all(np.isfinite(value) for value in metrics.values())


def test_a_terminated_pair_takes_nothing_from_the_next_state(name, batch):
    def with_next_state(pair, value):
        changed = batch.trajectory.next_observations.at[pair].set(value)
        return batch._replace(trajectory=batch.trajectory._replace(next_observations=changed))

    usual, _ = compiled_update(name)(start(), batch)
    same, _ = compiled_update(name)(start(), with_next_state(0, 5.0))  # pair 0 terminated
    other, _ = compiled_update(name)(start(), with_next_state(1, 5.0))
    chex.assert_trees_all_equal(same, usual)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(other, usual)


def test_the_policy_is_evaluated_at_its_mean_and_explores_around_it(name):
    observation, agent = jnp.array([0.1, -0.2, 0.3]), LEARNERS[name]
    mean = jnp.tanh(mlp(start().online.actor["params"]["MLP_0"], observation))
    np.testing.assert_allclose(agent.act(agent.inference(start()), observation), mean, atol=1e-6)
    # A narrow policy, log_std = -3 (0.0498), so that clipping to [-1, 1] is out of reach.
    narrow = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full_like(leaf, -3.0) if "log_std" in jax.tree_util.keystr(path) else leaf, start()
    )
    keys = jax.random.split(jax.random.key(0), 2000)
    drawn = jax.jit(jax.vmap(lambda key: agent.explore(narrow, observation, key)))(keys)
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.005)
    np.testing.assert_allclose(drawn.std(axis=0), np.full(ACTION, np.exp(-3)), rtol=0.06)
    wide = jax.jit(jax.vmap(lambda key: agent.explore(start(), observation, key)))(keys)
    assert float(jnp.abs(wide).max()) == 1.0  # clipped to the range of actions


@pytest.mark.parametrize(("log_std", "expected"), [(-50.0, np.exp(-5)), (0.5, np.exp(0.5)), (50.0, np.exp(2))])
def test_the_standard_deviation_stays_within_its_bounds(log_std, expected):
    actor = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full_like(leaf, log_std) if "log_std" in jax.tree_util.keystr(path) else leaf,
        start().online.actor,
    )
    _, std = LEARNERS["iql"].actor.apply(actor, jnp.zeros(OBSERVATION))
    np.testing.assert_allclose(std, np.full(ACTION, expected), rtol=1e-6)


def test_only_iql_prefers_high_targets(batch):
    # The same error weighs 0.8 above and 0.2 below for IQL, 1 and 1 for PQL: V moves differently.
    moved = {}
    for name in LEARNERS:
        state, _ = compiled_update(name)(start(), batch)
        moved[name] = state.optimizer_states.value[0].mu
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(
            *(jax.tree.map(lambda m: m / np.abs(m).max(), tree) for tree in moved.values()), rtol=1e-3, atol=1e-5
        )


def test_value_is_the_one_that_bootstraps():
    observation = jnp.array([0.1, -0.2, 0.3])
    expected = v(start().online.value, observation[None])[0]
    np.testing.assert_allclose(LEARNERS["iql"].value(start(), observation), expected, rtol=1e-5)
    assert (LEARNERS["iql"].pessimistic, LEARNERS["pql"].pessimistic) == (False, True)
