"""Fitted Q evaluation: the value of a fixed policy, from recorded transitions alone (Le, Voloshin & Yue 2019).

Critics are fitted to

    y = r + d min_j Q'_j(s', pi(s')),   d = gamma, 0 where the step terminated,

on all recorded transitions, those the policy was trained on included, and a policy is worth the mean of
(Q_1 + Q_2)(s, pi(s)) / 2 over the recorded initial states. Of the two target critics the smaller counts: where a policy
leaves the data nothing holds them, and the doubt is held against it. Layer norm keeps them from running away there.

All policies start from the same critics and see the same batches, so that their differences are the policies'.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dwm_jax.data.dataset import Dataset, start_rows, state_normalizer, transition_rows
from dwm_jax.learners.critics import TwinCritics
from dwm_jax.runtime.keys import key_for, tagged
from dwm_jax.types import Array, Key, PyTree

UPDATES_PER_DISPATCH = 500


class Settings(NamedTuple):
    """Of the fit."""

    num_updates: int = 20_000
    batch_size: int = 256
    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 1e-3
    # One backup takes 1 / rate updates; there should be several times 1 / (1 - gamma) of them.
    target_rate: float = 0.02
    seed: int = 0


class Transitions(NamedTuple):
    """All recorded transitions and initial states: observations standardised, rewards in units of the return scale."""

    observation: Array  # (P, O)
    action: Array  # (P, A)
    reward: Array  # (P,)
    discount: Array  # (P,)
    next_observation: Array  # (P, O)
    start: Array  # (E, O)


class Actions(NamedTuple):
    """The policies' actions in those states, one each; in [-1, 1] as everywhere."""

    next_SPA: np.ndarray  # at next observations
    start_SEA: np.ndarray  # at initial states


class _State(NamedTuple):
    params: PyTree
    target: PyTree
    optimizer_state: PyTree


def transitions_of(dataset: Dataset, return_scale: float, gamma: float) -> Transitions:
    """Every recorded transition, in the units above. Host arrays go in, device arrays come out."""
    rows = transition_rows(dataset)
    normalize = state_normalizer(dataset).normalize
    ended = dataset.terminated[rows] & (rows + 1 == dataset.last[rows])
    return Transitions(
        observation=normalize(dataset.observations[rows]),
        action=jnp.asarray(dataset.actions[rows]),
        reward=jnp.asarray(dataset.rewards[rows] / return_scale),
        discount=jnp.asarray(np.where(ended, 0.0, gamma), jnp.float32),
        next_observation=normalize(dataset.observations[rows + 1]),
        start=normalize(dataset.observations[start_rows(dataset, 1)]),
    )


def actions_of(act: Callable[[np.ndarray], np.ndarray], dataset: Dataset, chunk: int = 4096) -> Actions:
    """What policies do in all recorded states.

    Args:
      act: raw observations (n, O) -> actions (S, n, A), of S policies.
    """
    next_rows = transition_rows(dataset) + 1
    parts = [act(dataset.observations[next_rows[first : first + chunk]]) for first in range(0, len(next_rows), chunk)]
    return Actions(np.concatenate(parts, axis=1), act(dataset.observations[start_rows(dataset, 1)]))


def make_fit(
    settings: Settings,
) -> Callable[[Transitions, Actions], Iterator[tuple[int, np.ndarray]]]:
    """A function that fits the critics of several policies side by side, compiled once per number of them.

    It yields (updates so far, worth of each policy (S,)) now and then; in units of the return scale, discounted.
    """
    critics, adam = TwinCritics(settings.hidden, layer_norm=True), optax.adam(settings.learning_rate)
    key = key_for(settings.seed, "fitted Q evaluation")

    def init(transitions: Transitions) -> _State:
        sizes = transitions.observation.shape[1], transitions.action.shape[1]
        params = critics.init(tagged(key, "critics"), *sizes)
        return _State(params, params, adam.init(params))

    def update(state: _State, data: Transitions, next_PA: Array, step: Array) -> _State:
        batch, next_action = draw_batch(data, next_PA, jax.random.fold_in(key, step), settings.batch_size)
        next_q = critics.values(state.target, batch.next_observation, next_action).min(axis=0)
        target_B = batch.reward + batch.discount * next_q
        params, optimizer_state, _ = critics.regress(
            state.params, adam, state.optimizer_state, batch.observation, batch.action, target_B, lambda tree: tree
        )
        target = optax.incremental_update(params, state.target, settings.target_rate)
        return _State(params, target, optimizer_state)

    def updates(state: _State, data: Transitions, next_PA: Array, start_EA: Array, steps_U: Array) -> PyTree:
        state, _ = jax.lax.scan(lambda state, step: (update(state, data, next_PA, step), None), state, steps_U)
        return state, critics.values(state.params, data.start, start_EA).mean()

    dispatch = jax.jit(jax.vmap(updates, in_axes=(0, None, 0, 0, None)), donate_argnums=0)

    def fit(transitions: Transitions, actions: Actions) -> Iterator[tuple[int, np.ndarray]]:
        next_SPA, start_SEA = map(jnp.asarray, actions)
        first_state, number = init(transitions), len(next_SPA)
        states_S = jax.tree.map(lambda leaf: jnp.array(jnp.broadcast_to(leaf, (number, *leaf.shape))), first_state)
        for first in range(0, settings.num_updates, UPDATES_PER_DISPATCH):
            last = min(first + UPDATES_PER_DISPATCH, settings.num_updates)
            states_S, worth_S = dispatch(states_S, transitions, next_SPA, start_SEA, jnp.arange(first, last))
            yield last, np.asarray(worth_S)

    return fit


def draw_batch(transitions: Transitions, next_PA: Array, key: Key, batch_size: int) -> tuple[Transitions, Array]:
    """Transitions at random, and what the policy does next in each; initial states are not drawn."""
    index_B = jax.random.randint(key, (batch_size,), 0, len(transitions.reward))
    drawn = jax.tree.map(lambda leaf: leaf[index_B], transitions._replace(start=transitions.observation))
    return drawn, next_PA[index_B]
