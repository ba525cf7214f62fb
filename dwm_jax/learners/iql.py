"""IQL, and PQL: a value is learnt beside two critics, and the policy imitates the actions whose advantage is high.

PQL is IQL with another loss of the value, so it is a subclass with one method of its own.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dwm_jax.learners.base import Learner
from dwm_jax.learners.critics import TwinCritics
from dwm_jax.maths.losses import advantage_weight, expectile_loss
from dwm_jax.networks.mlp import GaussianActor, Value
from dwm_jax.networks.optimization import apply_gradients
from dwm_jax.runtime.settings import require
from dwm_jax.types import Array, Average, Batch, Expand, Key, Metrics, PyTree


class Weights(NamedTuple):
    actor: PyTree
    critics: PyTree  # two critics, stacked on a leading axis
    value: PyTree


class State(NamedTuple):
    online: Weights
    target_critics: PyTree
    optimizer_states: Weights


@dataclass(frozen=True, kw_only=True)
class ImplicitQLearning(Learner):
    """What IQL and PQL share: all but the loss of the value.

    One update, each step seeing the results of the ones before it:
      1. value: one Adam step on mean regression_loss(min_j Q'_j(s, a) - V(s)), Q' the target critics;
      2. actor: one Adam step on -mean( w log pi(a | s) ), w = min(exp(beta A), clip),
         A = min_j Q'_j(s, a) - V(s) with the new V;
      3. critics: one Adam step on sum_j mean (Q_j(s, a) - y)^2, y = expand(trajectory, V) with the new V
         (r + discount V(s') for recorded data);
      4. target critics move by `target_rate` towards the new critics.
    Nothing is drawn at random. Every V(s') is the online value's; there is no target of it. The actor's learning
    rate falls along half a cosine, from its full value at the first of `num_updates` updates to 0 after the last.
    """

    scales_rewards = True

    hidden: tuple[int, ...] = (256, 256)  # widths of actor, critics and value
    layer_norm: bool = False  # of the hidden layers of critics and value (as published: not)
    learning_rate: float = 3e-4  # Adam's, for all networks; the actor's first
    target_rate: float = 0.005  # targets <- rate * online + (1 - rate) * targets
    beta: float = 3.0  # inverse temperature of the advantage weight
    weight_clip: float = 100.0  # the largest advantage weight

    @property
    def actor(self) -> Any:
        return GaussianActor(tuple(self.hidden), self.action_size)

    @property
    def critics(self) -> TwinCritics:
        return TwinCritics(tuple(self.hidden), self.layer_norm)

    @property
    def value_network(self) -> Any:
        return Value(tuple(self.hidden), self.layer_norm)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    @property
    def actor_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.num_updates))

    @abstractmethod
    def regression_loss(self, advantage_B: Array) -> Array:
        """The loss of V at Q'(s, a) - V(s), entry by entry."""

    def init(self, key: Key) -> State:
        actor_key, critic_key, value_key = jax.random.split(key, 3)
        online = Weights(
            actor=self.actor.init(actor_key, jnp.zeros(self.observation_size)),
            critics=self.critics.init(critic_key, self.observation_size, self.action_size),
            value=self.value_network.init(value_key, jnp.zeros(self.observation_size)),
        )
        optimizer_states = Weights(
            self.actor_optimizer.init(online.actor),
            self.optimizer.init(online.critics),
            self.optimizer.init(online.value),
        )
        return State(online, jax.tree.map(jnp.copy, online.critics), optimizer_states)

    def update(
        self, state: State, batch: Batch, expand: Expand, keys: Array, step: Array | int, average: Average
    ) -> tuple[State, Metrics]:
        del keys, step  # nothing is drawn, and every update is like any other
        online, optimizer_states = state.online, state.optimizer_states
        q_B = self.critics.values(state.target_critics, batch.observation, batch.action).min(axis=0)
        value, value_optimizer_state, value_metrics = apply_gradients(
            lambda params: self.value_loss(params, q_B, batch),
            self.optimizer,
            online.value,
            optimizer_states.value,
            average,
        )
        advantage_B = q_B - self.value_network.apply(value, batch.observation)
        actor, actor_optimizer_state, actor_metrics = apply_gradients(
            lambda params: self.actor_loss(params, advantage_B, batch),
            self.actor_optimizer,
            online.actor,
            optimizer_states.actor,
            average,
        )

        def bootstrap(observation_O: Array) -> Array:
            return self.value_network.apply(value, observation_O)

        y_B = jax.vmap(lambda trajectory: expand(trajectory, bootstrap))(batch.trajectory)
        critics, critic_optimizer_state, critic_metrics = self.critics.regress(
            online.critics,
            self.optimizer,
            optimizer_states.critics,
            batch.observation,
            batch.action,
            y_B,
            average,
        )
        return State(
            online=Weights(actor, critics, value),
            target_critics=optax.incremental_update(critics, state.target_critics, self.target_rate),
            optimizer_states=Weights(actor_optimizer_state, critic_optimizer_state, value_optimizer_state),
        ), critic_metrics | value_metrics | actor_metrics

    def value_loss(self, params: PyTree, q_B: Array, batch: Batch) -> tuple[Array, Metrics]:
        """mean regression_loss(Q'(s, a) - V(s))."""
        v_B = self.value_network.apply(params, batch.observation)
        loss = self.regression_loss(q_B - v_B).mean()
        return loss, {"value/loss": loss, "value/v": v_B.mean()}

    def actor_loss(self, params: PyTree, advantage_B: Array, batch: Batch) -> tuple[Array, Metrics]:
        """-mean( w log pi(a | s) ): imitation of the actions whose advantage is high."""
        weight_B = advantage_weight(advantage_B, self.beta, self.weight_clip)
        mean_BA, std_A = self.actor.apply(params, batch.observation)
        log_prob_B = jax.scipy.stats.norm.logpdf(batch.action, mean_BA, std_A).sum(axis=-1)
        loss = -(weight_B * log_prob_B).mean()
        return loss, {"actor/loss": loss, "actor/weight": weight_B.mean()}

    def explore(self, state: State, observation_O: Array, key: Key) -> Array:
        """A draw from the policy."""
        mean_A, std_A = self.actor.apply(state.online.actor, observation_O)
        return jnp.clip(mean_A + std_A * jax.random.normal(key, mean_A.shape), -1, 1)

    def inference(self, state: State) -> PyTree:
        return state.online.actor

    def act(self, inference: PyTree, observation_O: Array) -> Array:
        """The policy's mean."""
        return self.actor.apply(inference, observation_O)[0]

    def value(self, state: State, observation_O: Array) -> Array:
        """V(s)."""
        return self.value_network.apply(state.online.value, observation_O)


@dataclass(frozen=True, kw_only=True)
class IQL(ImplicitQLearning):
    """Implicit Q-learning (Kostrikov, Nair & Levine 2022), update for update as in its published JAX code.

    V is an expectile of Q', which prefers good actions: see `ImplicitQLearning` for the update.
    """

    title = "IQL"
    default_lambda = 0.95

    expectile: float = 0.7  # tau in (0, 1)

    def __post_init__(self) -> None:
        require(self, "expectile", 0 < self.expectile < 1, "in (0, 1)")

    def regression_loss(self, advantage_B: Array) -> Array:
        return expectile_loss(advantage_B, self.expectile)


@dataclass(frozen=True, kw_only=True)
class PQL(ImplicitQLearning):
    """Pessimistic Q-learning (DWM section 3.2): the squared error (Q' - V)^2 for the value, and pessimism.

    With the squared error V estimates the mean of Q' over the recorded actions, without IQL's preference for good
    ones. Imagined rewards are lowered where samples disagree (`losses.pessimistic_rewards`), before the trajectories
    reach this class; recorded rewards are unchanged.
    """

    title = "PQL"
    pessimistic = True

    def regression_loss(self, advantage_B: Array) -> Array:
        return jnp.square(advantage_B)
