"""IQL, and PQL: a value is learnt beside two critics, and the policy imitates the actions whose advantage is high.

PQL is IQL with another loss of the value, so the two share everything below the constructors.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dwm_jax.learners.base import Learner
from dwm_jax.learners.critics import TwinCritics
from dwm_jax.maths.losses import advantage_weight, expectile_loss
from dwm_jax.networks.mlp import GaussianActor, Value
from dwm_jax.networks.optimization import apply_gradients
from dwm_jax.types import Array, Average, Batch, Expand, Key, Metrics, PyTree


class Weights(NamedTuple):
    actor: PyTree
    critics: PyTree  # two critics, stacked on a leading axis
    value: PyTree


class State(NamedTuple):
    online: Weights
    target_critics: PyTree
    optimizer_states: Weights


def iql(*, expectile: float, **settings: Any) -> Learner:
    """Implicit Q-learning (Kostrikov, Nair & Levine 2022), update for update as in its published JAX code.

    One update, each step seeing the results of the ones before it:
      1. value: one Adam step on mean expectile_loss(min_j Q'_j(s, a) - V(s)), Q' the target critics;
      2. actor: one Adam step on -mean( w log pi(a | s) ), w = min(exp(beta A), clip),
         A = min_j Q'_j(s, a) - V(s) with the new V;
      3. critics: one Adam step on sum_j mean (Q_j(s, a) - y)^2, y = expand(trajectory, V) with the new V
         (r + discount V(s') for recorded data);
      4. target critics move by `target_rate` towards the new critics.
    Nothing is drawn at random. Every V(s') is the online value's; there is no target of it. The actor's learning
    rate falls along half a cosine, from its full value at the first of `num_updates` updates to 0 after the last.

    Args:
      expectile: tau in (0, 1).
      **settings: as in `pql`.
    """
    return _implicit_q_learning(value_loss=partial(expectile_loss, expectile=expectile), pessimistic=False, **settings)


def pql(**settings: Any) -> Learner:
    """Pessimistic Q-learning (DWM section 3.2): `iql` with the squared error (Q' - V)^2 for the value, and pessimism.

    Nothing in V prefers good actions any more, so its optimism must not come from imagination: imagined rewards
    are lowered where imaginations disagree (`losses.pessimistic_rewards`). That happens to the trajectories before
    they get here; recorded rewards are taken as they are.

    Args (keywords):
      observation_size, action_size: O and A; actions lie in [-1, 1].
      num_updates: of the whole training, over which the actor's learning rate falls.
      hidden: widths of actor, critics and value.
      layer_norm: whether the hidden layers of critics and value are normalised (as published: not).
      learning_rate: Adam's, for all networks; the actor's first.
      target_rate: targets <- rate * online + (1 - rate) * targets.
      beta: inverse temperature of the advantage weight.
      weight_clip: the largest advantage weight.
    """
    return _implicit_q_learning(value_loss=jnp.square, pessimistic=True, **settings)


def _implicit_q_learning(
    *,
    value_loss: Callable[[Array], Array],
    pessimistic: bool,
    observation_size: int,
    action_size: int,
    num_updates: int,
    hidden: Sequence[int],
    learning_rate: float,
    target_rate: float,
    beta: float,
    weight_clip: float,
    layer_norm: bool = False,
) -> Learner:
    actor: Any = GaussianActor(tuple(hidden), action_size)
    value: Any = Value(tuple(hidden), layer_norm)
    twin = TwinCritics(tuple(hidden), layer_norm)
    optimizer = optax.adam(learning_rate)
    actor_optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_updates))

    def init(key: Key) -> State:
        actor_key, critic_key, value_key = jax.random.split(key, 3)
        online = Weights(
            actor=actor.init(actor_key, jnp.zeros(observation_size)),
            critics=twin.init(critic_key, observation_size, action_size),
            value=value.init(value_key, jnp.zeros(observation_size)),
        )
        optimizer_states = Weights(
            actor_optimizer.init(online.actor), optimizer.init(online.critics), optimizer.init(online.value)
        )
        return State(online, jax.tree.map(jnp.copy, online.critics), optimizer_states)

    def log_prob(actor_params: PyTree, observation_BO: Array, action_BA: Array) -> Array:
        mean_BA, std_A = actor.apply(actor_params, observation_BO)
        return jax.scipy.stats.norm.logpdf(action_BA, mean_BA, std_A).sum(axis=-1)

    def update(
        state: State, batch: Batch, expand: Expand, keys: Array, step: Array | int, average: Average
    ) -> tuple[State, Metrics]:
        del keys, step  # nothing is drawn, and every update is like any other
        online, optimizer_states = state.online, state.optimizer_states
        q_B = twin.values(state.target_critics, batch.observation, batch.action).min(axis=0)

        def loss_of_value(params: PyTree) -> tuple[Array, Metrics]:
            v_B = value.apply(params, batch.observation)
            loss = value_loss(q_B - v_B).mean()
            return loss, {"value/loss": loss, "value/v": v_B.mean()}

        value_params, value_optimizer_state, value_metrics = apply_gradients(
            loss_of_value, optimizer, online.value, optimizer_states.value, average
        )
        weight_B = advantage_weight(q_B - value.apply(value_params, batch.observation), beta, weight_clip)

        def actor_loss(params: PyTree) -> tuple[Array, Metrics]:
            loss = -(weight_B * log_prob(params, batch.observation, batch.action)).mean()
            return loss, {"actor/loss": loss, "actor/weight": weight_B.mean()}

        actor_params, actor_optimizer_state, actor_metrics = apply_gradients(
            actor_loss, actor_optimizer, online.actor, optimizer_states.actor, average
        )

        def bootstrap(observation_O: Array) -> Array:
            return value.apply(value_params, observation_O)

        y_B = jax.vmap(lambda trajectory: expand(trajectory, bootstrap))(batch.trajectory)
        critics, critic_optimizer_state, critic_metrics = twin.regress(
            online.critics, optimizer, optimizer_states.critics, batch, y_B, average
        )
        return State(
            online=Weights(actor_params, critics, value_params),
            target_critics=optax.incremental_update(critics, state.target_critics, target_rate),
            optimizer_states=Weights(actor_optimizer_state, critic_optimizer_state, value_optimizer_state),
        ), critic_metrics | value_metrics | actor_metrics

    def explore(state: State, observation_O: Array, key: Key) -> Array:
        mean_A, std_A = actor.apply(state.online.actor, observation_O)
        return jnp.clip(mean_A + std_A * jax.random.normal(key, mean_A.shape), -1, 1)

    return Learner(
        init=init,
        update=update,
        period=1,
        explore=explore,
        inference=lambda state: state.online.actor,
        act=lambda actor_params, observation_O: actor.apply(actor_params, observation_O)[0],
        value=lambda state, observation_O: value.apply(state.online.value, observation_O),
        scales_rewards=True,
        pessimistic=pessimistic,
    )
