"""What a diffusion world model imagines after a policy's first action, from the recorded initial states."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from dwm_jax.imagination.sources import make_ask, refuse_to_act
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


def make_imagine_returns(
    run: Run, trained: TrainedModel, num_draws: int = NUM_DRAWS
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """(initial states (E, O), what each of S policies does there (S, E, A)) -> the returns imagined after that: (S,).

    Of each policy the mean discounted return of the longest futures that begin with its first action, from the first
    `NUM_STARTS` states. Asked for what the run's own policies ask; only the first action is the policy's, the rest is
    the world model's idea of how recordings go on. All policies meet the same starts under the same noise. Raw units.
    """
    model: Any = trained.model
    policy = run.config.policy
    ask = make_ask(policy.ask, policy.return_to_go, model)
    rollout = model.rollout(horizon_of(trained, run), run.config.gamma)
    inference = jax.device_put(trained.inference)

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0, 0, 0))
    def draw(inference: PyTree, start_O: Array, action_A: Array, key: Key) -> Trajectory:
        start = Start(start_O, action_A, ask(inference, start_O, action_A))
        return rollout(inference, start, refuse_to_act, key)

    def returns_of(start_EO: np.ndarray, action_SEA: np.ndarray) -> np.ndarray:
        number = min(len(start_EO), NUM_STARTS)
        keys = jax.random.split(key_for(0, "choosing: imagined returns"), (num_draws, number))

        def mean_return(action_EA: np.ndarray) -> float:
            drawn = (draw(inference, start_EO[:number], action_EA[:number], key_E) for key_E in keys)
            return float(np.mean([discounted_returns(jax.device_get(futures)) for futures in drawn]))

        return np.array([mean_return(action_EA) for action_EA in action_SEA])

    return returns_of
