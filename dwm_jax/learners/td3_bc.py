"""TD3+BC: twin delayed critics, and an actor that maximises them while staying close to the recorded actions."""

from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class TD3BC(Learner):
    """TD3+BC (Fujimoto & Gu 2021), update for update as published, with the critic's target left to `expand`.

    One update:
      1. targets: V(s') = min_j Q'_j(s', clip(pi'(s') + clip(noise))), y = expand(trajectory, V);
      2. critics: one Adam step on sum_j mean (Q_j(s, a) - y)^2;
      3. on every `policy_delay`-th update, counted from one: an actor step on `td3_bc_actor_loss` with the new
         first critic, then critic and actor targets move by `target_rate`.
    Noise is drawn once per update and data pair and shared by the states of its trajectory.
    """

    title = "TD3+BC"

    hidden: tuple[int, ...] = (256, 256)  # widths of actor and critics
    # Of the critics' hidden layers (as published: not); keeps their values from running away where nothing is recorded.
    layer_norm: bool = False
    learning_rate: float = 3e-4  # Adam's, for all networks
    target_rate: float = 0.005  # targets <- rate * online + (1 - rate) * targets
    policy_noise: float = 0.2  # standard deviation of the target policy's noise,
    noise_clip: float = 0.5  # and where it is clipped
    policy_delay: int = 2  # critic updates per actor update
    alpha: float = 2.5  # weight of the value term in the actor's loss

    @property
    def actor(self) -> Any:
        return TanhActor(tuple(self.hidden), self.action_size)

    @property
    def critics(self) -> TwinCritics:
        return TwinCritics(tuple(self.hidden), self.layer_norm)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    @property
    def critic_optimizer(self) -> optax.GradientTransformation:
        return self.optimizer

    @property
    def period(self) -> int:
        return self.policy_delay

    def init(self, key: Key) -> State:
        actor_key, critic_key = jax.random.split(key)
        online = Weights(
            actor=self.actor.init(actor_key, jnp.zeros(self.observation_size)),
            critics=self.critics.init(critic_key, self.observation_size, self.action_size),
        )
        optimizer_states = Weights(self.optimizer.init(online.actor), self.critic_optimizer.init(online.critics))
        return State(online, jax.tree.map(jnp.copy, online), optimizer_states)

    def update(
        self, state: State, batch: Batch, expand: Expand, keys: Array, step: Array | int, average: Average
    ) -> tuple[State, Metrics]:
        critics, critic_optimizer_state, metrics = self.critics.regress(
            state.online.critics,
            self.critic_optimizer,
            state.optimizer_states.critics,
            batch.observation,
            batch.action,
            self.critic_targets(state.target, batch, expand, keys),
            average,
        )

        def actor_step() -> tuple[Weights, PyTree, Weights]:
            actor_params, optimizer_state, _ = apply_gradients(
                lambda params: self.actor_loss(params, critics, batch, average),
                self.optimizer,
                state.online.actor,
                state.optimizer_states.actor,
                average,
            )
            online = Weights(actor_params, critics)
            followed = self.followed_by_targets(state.online, online)
            return online, optimizer_state, optax.incremental_update(followed, state.target, self.target_rate)

        def keep() -> tuple[Weights, PyTree, Weights]:
            return Weights(state.online.actor, critics), state.optimizer_states.actor, state.target

        # A branch also under `vmap`, since `step` is one number for all seeds; none where it is an int.
        online, actor_optimizer_state, moved = jax.lax.cond(self.steps_actor(step), actor_step, keep)
        return State(online, moved, Weights(actor_optimizer_state, critic_optimizer_state)), metrics

    def steps_actor(self, step: Array | int) -> Array | bool:
        """Whether actor and targets move in the update after `step` others: the last of each period."""
        return (step + 1) % self.policy_delay == 0

    def followed_by_targets(self, before: Weights, after: Weights) -> Weights:
        """What the targets move towards, of the online weights before and after the update."""
        return after

    def critic_targets(self, target: Weights, batch: Batch, expand: Expand, keys_B: Array) -> Array:
        """y of every pair, bootstrapped with the target networks and the smoothed target policy: (B,)."""

        def of_one(trajectory: Trajectory, key: Key) -> Array:
            noise_A = self.smoothing_noise(key)
            return expand(trajectory, lambda observation_O: self.target_value(target, observation_O, noise_A))

        return jax.vmap(of_one)(batch.trajectory, keys_B)

    def smoothing_noise(self, key: Key) -> Array:
        """The target policy's noise, clipped: (A,)."""
        noise_A = self.policy_noise * jax.random.normal(key, (self.action_size,))
        return jnp.clip(noise_A, -self.noise_clip, self.noise_clip)

    def smoothed_action(self, target: Weights, observation_O: Array, noise_A: Array) -> Array:
        """clip(pi'(s) + noise): (O,) -> (A,)."""
        return jnp.clip(self.actor.apply(target.actor, observation_O) + noise_A, -1, 1)

    def target_value(self, target: Weights, observation_O: Array, noise_A: Array) -> Array:
        """min_j Q'_j(s, clip(pi'(s) + noise)): (O,) -> ()."""
        action_A = self.smoothed_action(target, observation_O, noise_A)
        return self.critics.values(target.critics, observation_O, action_A).min(axis=0)

    def actor_loss(
        self, actor_params: PyTree, critics: PyTree, batch: Batch, average: Average
    ) -> tuple[Array, Metrics]:
        """`td3_bc_actor_loss` under the first of the new critics."""
        action_BA = self.actor.apply(actor_params, batch.observation)
        q_B = self.critics.first(critics, batch.observation, action_BA)
        return td3_bc_actor_loss(q_B, action_BA, batch.action, self.alpha, average), {}

    def explore(self, state: State, observation_O: Array, key: Key) -> Array:
        """The target policy, without noise."""
        del key
        return self.actor.apply(state.target.actor, observation_O)

    def inference(self, state: State) -> PyTree:
        return state.online.actor

    def act(self, inference: PyTree, observation_O: Array) -> Array:
        return self.actor.apply(inference, observation_O)

    def value(self, state: State, observation_O: Array) -> Array:
        """min_j Q'_j(s, pi'(s))."""
        action_A = self.actor.apply(state.target.actor, observation_O)
        return self.critics.values(state.target.critics, observation_O, action_A).min(axis=0)
