"""Joins a trajectory and a learner's bootstrap into a critic target: Diffusion-MVE, and its model-free cell H = 1.

Both expansions satisfy `types.Expand`; a learner receives one and does not know which.
"""

from functools import partial

import jax
import jax.numpy as jnp

from dwm_jax.maths.returns import h_step_return, lambda_return
from dwm_jax.types import Array, Bootstrap, Expand, Trajectory


def expand_vanilla(trajectory: Trajectory, bootstrap: Bootstrap) -> Array:
    """y = sum of H discounted rewards + discounted V(s_{t+H}); one call of the bootstrap (DWM equation 5)."""
    value = bootstrap(trajectory.next_observations[-1])
    return h_step_return(trajectory.rewards, trajectory.discounts, value)


def expand_lambda(trajectory: Trajectory, bootstrap: Bootstrap, *, lambda_: float) -> Array:
    """The lambda-return over the trajectory; the bootstrap is evaluated at each of the H states."""
    values_H = jax.vmap(bootstrap)(trajectory.next_observations)
    return lambda_return(trajectory.rewards, trajectory.discounts, values_H, lambda_)


def choose_expansion(lambda_: float) -> Expand:
    """`expand_vanilla` at lambda = 1, where it is the same number for less work; else `expand_lambda`."""
    return expand_vanilla if lambda_ == 1 else partial(expand_lambda, lambda_=lambda_)


def collapse(trajectory: Trajectory) -> Trajectory:
    """An H-step trajectory as the one-step trajectory with the same vanilla target.

        r = sum_h (prod_{i<h} d_i) r_h,   d = prod_h d_h,   s' = s_{t+H}

    It is what has to be kept of a trajectory imagined in advance: H times less memory, the same target.
    """
    return Trajectory(
        next_observations=trajectory.next_observations[-1:],
        rewards=h_step_return(trajectory.rewards, trajectory.discounts, jnp.zeros(()))[None],
        discounts=jnp.prod(trajectory.discounts)[None],
    )


def pad_to(trajectory: Trajectory, horizon: int) -> Trajectory:
    """A trajectory of H steps with the same targets: behind its end its last state, reward 0 and discount 1.

        r = 0,   d = 1,   s' = the last state

    Args:
      horizon: H, no less than the trajectory's own.
    """
    missing = horizon - len(trajectory.rewards)
    return Trajectory(
        next_observations=jnp.pad(trajectory.next_observations, ((0, missing), (0, 0)), mode="edge"),
        rewards=jnp.pad(trajectory.rewards, (0, missing)),
        discounts=jnp.pad(trajectory.discounts, (0, missing), constant_values=1.0),
    )
