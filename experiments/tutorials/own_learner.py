"""Your own learner by one overridden loss: TD3+BC that stays close to the data in absolute error, not squared.

    python -m experiments.tutorials.own_learner --workdir runs/tutorials/own_learner

You learn: a learner is a frozen dataclass whose parts are pure methods - `critic_targets`, `actor_loss`, `update` - so
a variant is a subclass with one method and, where it needs one, a setting more. One line makes it known; from then on
it is configured, trained beside world models, evaluated, exported and drawn like the others. `whole_learner.py` writes
one from nothing.

Takes: 50 s of processor time, nearly all of it compilation. At this size its scores mean nothing. This file is a
config that runs itself; any field of it can be set, and what reads its runs is told the module, or the file:

    python -m experiments.tutorials.own_learner --workdir runs/mine --config.learners.td3_l1.weight=2
    python -m dwm_jax.evaluate runs/mine --import experiments.tutorials.own_learner
    python -m experiments.report runs/mine -o report --import experiments/tutorials/own_learner.py

A copy outside the checkout runs from inside it, `python -m dwm_jax.train --config ~/mine.py --workdir runs/mine`, or by
itself once the package is installed (`pip install .`).
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax.lax import stop_gradient
from ml_collections import ConfigDict

from dwm_jax.config_files import load
from dwm_jax.learners.td3_bc import TD3BC
from dwm_jax.registry import add_learner
from dwm_jax.train import main
from dwm_jax.types import Array, Average, Batch, Metrics, PyTree


@dataclass(frozen=True, kw_only=True)
class TD3L1(TD3BC):
    """TD3+BC with the actor's loss  -lambda mean Q(s, pi(s)) + weight mean |pi(s) - a|,  lambda = alpha / mean |Q|."""

    title = "TD3+L1"  # the grid's cells are named by it: TD3+L1, TD3+L1-H, DWM-TD3L1, OneStep-TD3L1, ...

    weight: float = 1.0  # of staying close; a field with a default is a setting: config.learners.td3_l1.weight

    def actor_loss(
        self, actor_params: PyTree, critics: PyTree, batch: Batch, average: Average
    ) -> tuple[Array, Metrics]:
        action_BA = self.actor.apply(actor_params, batch.observation)
        q_B = self.critics.first(critics, batch.observation, action_BA)
        # A mean that is not itself differentiated must be that of the whole batch, on however many devices it lies.
        scale = self.alpha / average(stop_gradient(jnp.abs(q_B).mean()))
        return -scale * q_B.mean() + self.weight * jnp.abs(action_BA - batch.action).mean(), {}


add_learner("td3_l1", TD3L1)


def get_config() -> ConfigDict:
    """Beside the unchanged learner, from the recorded next three steps; "DWM-TD3L1" would imagine them."""
    config = load("smoke")
    config.methods = "TD3+L1-H,TD3+BC-H"
    config.learners.td3_l1.weight = 0.5
    return config


if __name__ == "__main__":
    main(__file__, __doc__)
