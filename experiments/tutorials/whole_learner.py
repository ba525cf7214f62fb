"""A whole learner from nothing: weighted behaviour cloning, in one class and one line of registration.

    python -m experiments.tutorials.whole_learner --workdir runs/tutorials/whole_learner

You learn: all methods of a learner (`learners/base.py`), where none of TD3+BC's or IQL's fits. It imitates recorded
actions, each weighted by exp(beta * reward): no critic, so nothing is bootstrapped and no world model is asked.
Everything else - config, seeds, devices, checkpoints, evaluation, pictures - is there already: its settings are
`config.learners.cloning`, its methods the cells of the grid (`Cloning`, `DWM-Cloning`, ...).

Takes: 15 s of processor time, most of it compilation. At this size its scores mean nothing.
`own_learner.py` shows the other commands, and is the shorter way where one loss is all that differs.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dwm_jax.config_files import load
from dwm_jax.learners.base import Learner
from dwm_jax.networks.mlp import TanhActor
from dwm_jax.networks.optimization import apply_gradients
from dwm_jax.registry import add_learner
from dwm_jax.train import main
from dwm_jax.types import Array, Average, Batch, Expand, Key, Metrics, PyTree


class State(NamedTuple):
    actor: PyTree
    optimizer_state: PyTree


@dataclass(frozen=True, kw_only=True)
class Cloning(Learner):
    """One Adam step on  mean w |pi(s) - a|^2,  w = exp(beta r) / mean exp(beta r),  r the first reward."""

    title = "Cloning"

    hidden: tuple[int, ...] = (256, 256)  # widths of the actor
    learning_rate: float = 3e-4  # Adam's
    beta: float = 1.0  # how much more a rewarded action counts; 0: all alike

    @property
    def network(self) -> Any:
        return TanhActor(tuple(self.hidden), self.action_size)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def init(self, key: Key) -> State:
        actor = self.network.init(key, jnp.zeros(self.observation_size))
        return State(actor, self.optimizer.init(actor))

    def update(
        self, state: State, batch: Batch, expand: Expand, keys: Array, step: Array | int, average: Average
    ) -> tuple[State, Metrics]:
        def loss(actor: PyTree) -> tuple[Array, Metrics]:
            weight_B = jnp.exp(self.beta * batch.trajectory.rewards[:, 0])
            error_B = ((self.network.apply(actor, batch.observation) - batch.action) ** 2).mean(axis=-1)
            loss = (weight_B * error_B).mean() / average(weight_B.mean())
            return loss, {"actor/loss": loss}

        actor, optimizer_state, metrics = apply_gradients(
            loss, self.optimizer, state.actor, state.optimizer_state, average
        )
        return State(actor, optimizer_state), metrics

    def explore(self, state: State, observation_O: Array, key: Key) -> Array:
        return self.network.apply(state.actor, observation_O)

    def inference(self, state: State) -> PyTree:
        return state.actor

    def act(self, inference: PyTree, observation_O: Array) -> Array:
        return self.network.apply(inference, observation_O)

    def value(self, state: State, observation_O: Array) -> Array:
        return jnp.array(jnp.nan)  # it has none


add_learner("cloning", Cloning)


def get_config() -> ConfigDict:
    """It alone, on a small maze; "Cloning,TD3+BC" would compare the two."""
    config = load("smoke")
    config.methods = "Cloning"
    config.learners.cloning.beta = 0.5
    return config


if __name__ == "__main__":
    main(__file__, __doc__)
