"""TD3+BC: twin delayed critics, and an actor that maximises them while staying close to the recorded actions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dwm_jax.learners.base import Learner
from dwm_jax.learners.critics import TwinCritics
from dwm_jax.maths.losses import td3_bc_actor_loss
from dwm_jax.networks.mlp import TanhActor
from dwm_jax.networks.optimization import apply_gradients
from dwm_jax.types import Array, Average, Batch, Expand, Key, Metrics, PyTree, Trajectory


class Weights(NamedTuple):
    actor: PyTree
    critics: PyTree  # two critics, stacked on a leading axis


class State(NamedTuple):
    online: Weights
    target: Weights
    optimizer_states: Weights


def td3_bc(
    *,
    observation_size: int,
    action_size: int,
    num_updates: int,
    hidden: Sequence[int],
    layer_norm: bool = False,
    learning_rate: float,
    target_rate: float,
    policy_noise: float,
    noise_clip: float,
    policy_delay: int,
    alpha: float,
) -> Learner:
    """TD3+BC (Fujimoto & Gu 2021), update for update as published, with the critic's target left to `expand`.

    One update:
      1. targets: V(s') = min_j Q'_j(s', clip(pi'(s') + clip(noise))), y = expand(trajectory, V);
      2. critics: one Adam step on sum_j mean (Q_j(s, a) - y)^2;
      3. on every `policy_delay`-th update, counted from one: an actor step on `td3_bc_actor_loss` with the new
         first critic, then critic and actor targets move by `target_rate`.
    Noise is drawn once per update and data pair and shared by the states of its trajectory.

    Args:
      observation_size, action_size: O and A; actions lie in [-1, 1].
      num_updates: of the whole training; every update here is like any other, whatever their number.
      hidden: widths of actor and critics.
      layer_norm: whether the critics' hidden layers are normalised (as published: not).
      learning_rate: Adam's, for all networks.
      target_rate: targets <- rate * online + (1 - rate) * targets.
      policy_noise, noise_clip: standard deviation and clip of the target policy's noise.
      policy_delay: critic updates per actor update.
      alpha: weight of the value term in the actor's loss.
    """
    del num_updates
    actor: Any = TanhActor(tuple(hidden), action_size)
    twin = TwinCritics(tuple(hidden), layer_norm)
    optimizer = optax.adam(learning_rate)

    def init(key: Key) -> State:
        actor_key, critic_key = jax.random.split(key)
        online = Weights(
            actor=actor.init(actor_key, jnp.zeros(observation_size)),
            critics=twin.init(critic_key, observation_size, action_size),
        )
        return State(online, jax.tree.map(jnp.copy, online), Weights(*map(optimizer.init, online)))

    def critic_targets(target: Weights, batch: Batch, expand: Expand, keys: Array) -> Array:
        def one_target(trajectory: Trajectory, key: Key) -> Array:
            noise_A = policy_noise * jax.random.normal(key, (action_size,))
            noise_A = jnp.clip(noise_A, -noise_clip, noise_clip)

            def bootstrap(observation_O: Array) -> Array:
                action_A = jnp.clip(actor.apply(target.actor, observation_O) + noise_A, -1, 1)
                return twin.values(target.critics, observation_O, action_A).min(axis=0)

            return expand(trajectory, bootstrap)

        return jax.vmap(one_target)(batch.trajectory, keys)

    def update(
        state: State, batch: Batch, expand: Expand, keys: Array, step: Array | int, average: Average
    ) -> tuple[State, Metrics]:
        y_B = critic_targets(state.target, batch, expand, keys)

        critics, critic_optimizer_state, metrics = twin.regress(
            state.online.critics, optimizer, state.optimizer_states.critics, batch, y_B, average
        )

        def actor_loss(actor_params: PyTree) -> tuple[Array, Metrics]:
            action_BA = actor.apply(actor_params, batch.observation)
            q_B = twin.first(critics, batch.observation, action_BA)
            return td3_bc_actor_loss(q_B, action_BA, batch.action, alpha, average), {}

        def update_actor_and_targets() -> tuple[Weights, PyTree, Weights]:
            actor_params, actor_optimizer_state, _ = apply_gradients(
                actor_loss, optimizer, state.online.actor, state.optimizer_states.actor, average
            )
            online = Weights(actor_params, critics)
            return online, actor_optimizer_state, optax.incremental_update(online, state.target, target_rate)

        def keep() -> tuple[Weights, PyTree, Weights]:
            return Weights(state.online.actor, critics), state.optimizer_states.actor, state.target

        # A branch also under `vmap`, since `step` is one number for all seeds; none where it is an int.
        online, actor_optimizer_state, target = jax.lax.cond(
            (step + 1) % policy_delay == 0, update_actor_and_targets, keep
        )
        return State(online, target, Weights(actor_optimizer_state, critic_optimizer_state)), metrics

    def value(state: State, observation_O: Array) -> Array:
        action_A = actor.apply(state.target.actor, observation_O)
        return twin.values(state.target.critics, observation_O, action_A).min(axis=0)

    return Learner(
        init=init,
        update=update,
        period=policy_delay,
        explore=lambda state, observation_O, key: actor.apply(state.target.actor, observation_O),
        inference=lambda state: state.online.actor,
        act=actor.apply,
        value=value,
        scales_rewards=False,
        pessimistic=False,
    )
