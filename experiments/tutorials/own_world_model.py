"""Your own world model: linear dynamics, trained by least squares and rolled out with a policy.

    python -m experiments.tutorials.own_world_model --workdir runs/tutorials/own_world_model

You learn: the contract of `world_models/base.py`. A world model sees raw units on the outside and keeps its own
normalisers; `init` makes its state, an immutable pytree; `update` learns from a batch of recorded segments;
`inference` is what it keeps of its state once it is trained; `rollout` imagines H steps after one pair. How it is
trained, saved, shared between runs, measured and asked by learners is there already.

Takes: 40 s of processor time, most of it compilation. It trains a policy inside that world model, and measures
the model: a network has to beat it. `own_learner.py` shows the other commands.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dwm_jax.config_files import load
from dwm_jax.networks.optimization import apply_gradients
from dwm_jax.registry import add_model
from dwm_jax.train import main
from dwm_jax.types import Array, Average, ChooseAction, Key, Metrics, PyTree, Segment, Start, Trajectory
from dwm_jax.world_models.base import Rollout, Training, TrainingRows, WorldModel
from dwm_jax.world_models.dynamics_units import DynamicsUnits, fit_dynamics_units


class State(NamedTuple):
    weights: Array  # (O + A, O + 1)
    units: DynamicsUnits  # standardised states, actions, and changes of the state with the reward
    optimizer_state: PyTree


@dataclass(frozen=True, kw_only=True)
class Linear(WorldModel):
    """(s' - s, r) = W (s, a), all standardised;  loss = mean of the squared error."""

    title = "Linear"  # its cells of the grid: Linear-TD3BC, Linear-IQL, Linear-PQL; and Linear alone
    training = Training(num_updates=10_000, batch_size=256)
    needs_policy = True  # a rollout asks for an action at every step

    learning_rate: float = 1e-3  # Adam's

    @property
    def sequence_length(self) -> int:
        return 2  # rows of the segments it trains on: s_t and s_{t+1}

    def init(self, key: Key, rows: TrainingRows) -> State:
        weights = jnp.zeros((rows.states.shape[1] + rows.actions.shape[1], rows.states.shape[1] + 1))
        return State(weights, fit_dynamics_units(rows), optax.adam(self.learning_rate).init(weights))

    def predict(self, weights: Array, units: DynamicsUnits, observation_O: Array, action_A: Array) -> Array:
        inputs = units.observation_normalizer.normalize(observation_O), units.action_normalizer.normalize(action_A)
        return jnp.concatenate(inputs) @ weights

    def update(
        self, state: State, segments: Segment, keys: Array, step: Array, average: Average
    ) -> tuple[State, Metrics]:
        def segment_loss(weights: Array, segment: Segment) -> Array:
            prediction = self.predict(weights, state.units, segment.observations[0], segment.actions[0])
            target = state.units.target(segment.observations[0], segment.observations[1], segment.rewards[0])
            return jnp.mean((prediction - target) ** 2)

        def loss(weights: Array) -> tuple[Array, Metrics]:
            mean = jax.vmap(segment_loss, in_axes=(None, 0))(weights, segments).mean()
            return mean, {"world_model/loss": mean}

        weights, optimizer_state, metrics = apply_gradients(
            loss, optax.adam(self.learning_rate), state.weights, state.optimizer_state, average
        )
        return State(weights, state.units, optimizer_state), metrics

    def inference(self, state: State) -> tuple[Array, DynamicsUnits]:
        return state.weights, state.units

    def rollout(self, horizon: int, gamma: float) -> Rollout:
        def imagine(
            model: tuple[Array, DynamicsUnits], start: Start, choose_action: ChooseAction, key: Key
        ) -> Trajectory:
            def advance(observation_O: Array, h: Array) -> tuple[Array, tuple[Array, Array]]:
                chosen = choose_action(h, observation_O, jax.random.fold_in(key, h))
                action_A = jnp.where(h == 0, start.action, chosen)
                next_O, reward = model[1].step(observation_O, self.predict(*model, observation_O, action_A))
                return next_O, (next_O, reward)

            _, (states_HO, rewards_H) = jax.lax.scan(advance, start.observation, jnp.arange(horizon))
            return Trajectory(states_HO, rewards_H, jnp.full(horizon, gamma))  # nothing it imagines ever ends

        return imagine


add_model("linear", Linear)


def get_config() -> ConfigDict:
    """A policy that learns in it."""
    config = load("smoke")
    config.methods = "Linear-TD3BC"
    config.world_models.linear.num_updates = 200
    config.world_models.linear.learning_rate = 0.01
    return config


if __name__ == "__main__":
    main(__file__, __doc__)
