"""What a diffusion world model imagines after a policy's first action, from the recorded initial states."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.imagination.sources import make_ask, nobody
from dwm_jax.phases.phase import Run
from dwm_jax.results.diagnostics import discounted_returns
from dwm_jax.runtime.keys import key_for
from dwm_jax.types import Array, Key, PyTree, Start, Trajectory
from dwm_jax.world_models.base import TrainedModel

# Initial states that are looked at, and futures drawn of each.
NUM_STARTS, NUM_DRAWS = 256, 4


def horizon_of(trained: TrainedModel, run: Run) -> int:
    """The longest future that the model imagines at once."""
    model: Any = trained.model
    return model.longest_horizon or int(run.config.policy.horizon)


def imagined_returns(
    run: Run, trained: TrainedModel, start_EO: np.ndarray, action_SEA: np.ndarray, num_draws: int = NUM_DRAWS
) -> np.ndarray:
    """The mean discounted return of the longest imagined futures that begin with each policy's first action: (S,).

    Asked for what the run's own policies ask; only the first action is the policy's, the rest is the world model's
    idea of how recordings go on. All policies meet the same starts under the same noise. Raw units.

    Args:
      start_EO: initial states; the first `NUM_STARTS` of them are looked at.
      action_SEA: what each of S policies does there.
    """
    model: Any = trained.model
    policy = run.config.policy
    ask = make_ask(policy.ask, policy.return_to_go, model)
    rollout = model.rollout(horizon_of(trained, run), run.config.gamma)

    @jax.jit
    @jax.vmap
    def draw(start_O: Array, action_A: Array, key: Key) -> Trajectory:
        start = Start(start_O, action_A, ask(inference, start_O, action_A))
        return rollout(inference, start, nobody, key)

    inference: PyTree = trained.inference
    number = min(len(start_EO), NUM_STARTS)
    keys = jax.random.split(key_for(0, "choosing: imagined returns"), (num_draws, number))
    return np.array(
        [
            np.mean([discounted_returns(jax.device_get(draw(start_EO[:number], a_EA[:number], k))) for k in keys])
            for a_EA in map(jnp.asarray, action_SEA)
        ]
    )
