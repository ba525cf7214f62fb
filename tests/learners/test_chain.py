"""On a chain whose values are known by hand every learner's critics reach them, whatever the expansion."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.data.dataset import flatten, segment_at
from dwm_jax.maths.normalizers import fit_min_max, fit_standard
from dwm_jax.maths.value_expansion import choose_expansion
from dwm_jax.registry import LEARNERS
from dwm_jax.types import Batch, Episode, NextPair, Trajectory
from dwm_jax.world_models import dwm

# States 0 .. 4, one step to the right whatever the action; reward 1 for the step from the last one. Then the episode
# terminates, or the clock truncates it while the last state would go on paying for ever.
NUM_STATES, GAMMA, NUM_UPDATES, B = 5, 0.8, 750, 64
SETTINGS = {
    "td3_bc": {"policy_noise": 0.2, "noise_clip": 0.5, "policy_delay": 2, "alpha": 2.5},
    "iql": {"expectile": 0.7, "beta": 3.0, "weight_clip": 100.0},
    "pql": {"beta": 3.0, "weight_clip": 100.0},
    "rebrac": {"policy_noise": 0.2, "noise_clip": 0.5, "policy_delay": 2, "critic_learning_rate": 3e-3},
}
# By hand: V(s) = 0.8^(4 - s) V(4), where V(4) is 1, or 1 + 0.8 + 0.64 + .. = 5.
TRUE_VALUES = {
    "terminated": np.array([0.4096, 0.512, 0.64, 0.8, 1.0]),
    "truncated": np.array([2.048, 2.56, 3.2, 4.0, 5.0]),
}


def one_hot(state):
    return jax.nn.one_hot(state, NUM_STATES)


def trajectory_from(state, horizon, terminates):
    states = jnp.minimum(state + jnp.arange(horizon + 1), NUM_STATES - 1)
    is_last = states[:-1] == NUM_STATES - 1
    discounts = jnp.where(is_last & terminates, 0.0, GAMMA)
    # What follows a termination is never looked at: rewards there would show.
    rewards = jnp.where(is_last, 1.0, 0.0)
    return Trajectory(one_hot(states[1:]), rewards, discounts)


def trajectory_through_rows(state, horizon):
    """The same trajectory as a diffusion world model would tell it: rows with a termination entry, normalised."""
    states = np.append(np.arange(NUM_STATES), NUM_STATES - 1)
    rewards = np.eye(NUM_STATES, dtype=np.float32)[-1]
    episode = Episode(
        np.eye(NUM_STATES, dtype=np.float32)[states], np.zeros((NUM_STATES, 1), np.float32), rewards, True
    )
    dataset = jax.tree.map(jnp.asarray, flatten([episode], GAMMA, None)[0])
    units = dwm.InferenceState(None, fit_standard(episode.observations), fit_min_max(rewards[:, None]))
    x_TD = dwm.rows_from_segment(units, segment_at(dataset, state, horizon + 1), terminations=True)
    return dwm.trajectory_from_rows(units, x_TD, horizon, GAMMA, 0.5)


# What a learner is told follows each state, and the values it must reach.
WORLDS = {
    "terminated": (partial(trajectory_from, terminates=True), TRUE_VALUES["terminated"]),
    "terminated, through rows": (trajectory_through_rows, TRUE_VALUES["terminated"]),
    "truncated": (partial(trajectory_from, terminates=False), TRUE_VALUES["truncated"]),
}


@cache
def trajectories(horizon):
    """From every state of every world: leading axes (worlds, states)."""
    states = jnp.arange(NUM_STATES)
    told = [jax.jit(jax.vmap(partial(follow, horizon=horizon)))(states) for follow, _ in WORLDS.values()]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *told)


def alone(tree):
    return tree


@pytest.mark.parametrize(("horizon", "lambda_"), [(1, 1.0), (3, 1.0), (3, 0.8)])
@pytest.mark.parametrize("name", LEARNERS)
def test_critics_reach_the_true_values(name, horizon, lambda_):
    learner = LEARNERS[name](
        observation_size=NUM_STATES,
        action_size=1,
        hidden=(32, 32),
        learning_rate=3e-3,
        target_rate=0.1,
        num_updates=10_000,
        **SETTINGS[name],
    )
    expand = choose_expansion(lambda_)

    def values_in(trajectories_of_states):
        def one(state, step):
            state_key, action_key, update_key = jax.random.split(jax.random.fold_in(jax.random.key(1), step), 3)
            states = jax.random.randint(state_key, (B,), 0, NUM_STATES)
            # Actions of every kind: what a policy may choose, the critics have seen.
            actions = jax.random.uniform(action_key, (B, 1), minval=-1, maxval=1)
            trajectories_B = jax.tree.map(lambda leaf: leaf[states], trajectories_of_states)
            # Nobody acted next: ReBRAC's penalty would lower the values.
            next_pair = NextPair(one_hot(states), actions, jnp.zeros(B, bool))
            batch = Batch(one_hot(states), actions, trajectories_B, next_pair)
            return learner.update(state, batch, expand, jax.random.split(update_key, B), step, alone)[0], ()

        trained = jax.lax.scan(one, learner.init(jax.random.key(0)), jnp.arange(NUM_UPDATES))[0]
        return jax.vmap(learner.value, in_axes=(None, 0))(trained, one_hot(jnp.arange(NUM_STATES)))

    # All worlds side by side: one program for each learner and expansion.
    values = jax.jit(jax.vmap(values_in))(trajectories(horizon))
    for (world, (_, expected)), reached in zip(WORLDS.items(), values, strict=True):
        # Expectile and minimum of two critics lean a little to one side; 2 % of the largest value covers both.
        np.testing.assert_allclose(reached, expected, atol=0.02 * expected.max(), err_msg=world)
