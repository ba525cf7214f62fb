"""Scalar losses and weights of the offline learners: elementwise mathematics, no networks."""

import chex
import jax.numpy as jnp
from jax.lax import stop_gradient

from dwm_jax.types import Array, Average


def pinball_loss(difference: Array, level: float) -> Array:
    """level * d where d >= 0, (level - 1) * d where d < 0: least at the quantile of that level.

    Source: Koenker & Bassett 1978.

    Args:
      difference: sample minus estimate, any shape.
      level: in (0, 1).
    """
    return jnp.maximum(level * difference, (level - 1) * difference)


def expectile_loss(error: Array, expectile: float) -> Array:
    """Asymmetric squared error, |expectile - 1(u < 0)| u^2, elementwise.

    expectile = 0.5 is half the squared error; towards 1 its minimiser moves to the maximum of the targets.
    Source: IQL (Kostrikov et al. 2022), equation 4.

    Args:
      error: u = target - prediction, any shape.
      expectile: tau in (0, 1).

    Returns:
      The loss, the shape of `error`.
    """
    weight = jnp.where(error < 0, 1 - expectile, expectile)
    return weight * error**2


def advantage_weight(advantage: Array, beta: float, clip: float) -> Array:
    """Weight of a recorded action in advantage-weighted regression, min(exp(beta A), clip).

    Source: IQL (Kostrikov et al. 2022), equation 7, with the clip of its published code.

    Args:
      advantage: A = Q(s, a) - V(s), any shape.
      beta: inverse temperature, >= 0.
      clip: largest weight (100 in the paper's experiments).

    Returns:
      Weights in (0, clip], the shape of `advantage`; no gradient flows through them.
    """
    # Clipped in the exponent so that a large advantage gives the clip, never an overflow.
    return stop_gradient(jnp.exp(jnp.minimum(beta * advantage, jnp.log(clip))))


def td3_bc_actor_loss(
    q_B: Array, policy_action_BA: Array, data_action_BA: Array, alpha: float, average: Average
) -> Array:
    """TD3+BC's actor loss: maximise lambda Q, stay close to the recorded action.

        loss = -lambda mean(Q(s, pi(s))) + mean((pi(s) - a)^2),   lambda = alpha / mean|Q|

    lambda is a constant of the batch: no gradient flows through it. Source: Fujimoto & Gu 2021, equation 5.

    Args:
      q_B: Q(s, pi(s)), shape (B,).
      policy_action_BA: pi(s), shape (B, A).
      data_action_BA: recorded a, shape (B, A).
      alpha: weight of the value term (2.5 in the paper).
      average: averages mean|Q| over the devices that share the batch.

    Returns:
      The loss of this device's part of the batch, scalar.
    """
    chex.assert_rank([q_B, policy_action_BA, data_action_BA], [1, 2, 2])
    chex.assert_equal_shape([policy_action_BA, data_action_BA])
    scale = alpha / average(stop_gradient(jnp.abs(q_B).mean()))
    return -scale * q_B.mean() + jnp.mean((policy_action_BA - data_action_BA) ** 2)


def rebrac_actor_loss(
    q_B: Array, policy_action_BA: Array, data_action_BA: Array, penalty: float, average: Average
) -> Array:
    """ReBRAC's actor loss: maximise Q in units of its mean size, less a penalty on leaving the recorded action.

        loss = -lambda mean(Q(s, pi(s))) + beta_1 mean |pi(s) - a|^2,   lambda = 1 / mean|Q|

    lambda is a constant of the batch: no gradient flows through it. |.|^2 is the sum over the action's entries, where
    TD3+BC takes their mean. Source: Tarasov et al. 2023, section 3, normalised as in its published code.

    Args:
      q_B: Q(s, pi(s)), shape (B,).
      policy_action_BA: pi(s), shape (B, A).
      data_action_BA: recorded a, shape (B, A).
      penalty: beta_1, >= 0.
      average: averages mean|Q| over the devices that share the batch.

    Returns:
      The loss of this device's part of the batch, scalar.
    """
    chex.assert_rank([q_B, policy_action_BA, data_action_BA], [1, 2, 2])
    scale = 1 / average(stop_gradient(jnp.abs(q_B).mean()))
    return -scale * q_B.mean() + penalty * action_distance(policy_action_BA, data_action_BA).mean()


def action_distance(action: Array, other: Array) -> Array:
    """|a - a'|^2, summed over the entries of an action: (..., A), (..., A) -> (...)."""
    chex.assert_equal_shape([action, other])
    return jnp.sum((action - other) ** 2, axis=-1)


def pessimistic_rewards(rewards_MH: Array, next_observations_MHO: Array, kappa: float) -> Array:
    """Mean imagined reward less the disagreement between samples.

        r~_h = mean_i r^i_h - kappa max_{i,j} (|r^i_h - r^j_h|^2 + |s'^i_h - s'^j_h|^2)

    The samples are m imagined trajectories of one data pair, or m members of an ensemble. The bootstrap that
    follows the last reward is not penalised. Source: DWM-PQL, DWM section 3.2.

    Args:
      rewards_MH: shape (m, H), m >= 1; m = 1 has no disagreement and returns the rewards.
      next_observations_MHO: shape (m, H, O).
      kappa: weight of the penalty, >= 0.

    Returns:
      Penalised rewards, shape (H,).
    """
    chex.assert_rank([rewards_MH, next_observations_MHO], [2, 3])
    chex.assert_equal_shape_prefix([rewards_MH, next_observations_MHO], 2)
    reward_gap_MMH = (rewards_MH[:, None] - rewards_MH[None]) ** 2
    state_gap_MMH = jnp.sum((next_observations_MHO[:, None] - next_observations_MHO[None]) ** 2, axis=-1)
    disagreement_H = jnp.max(reward_gap_MMH + state_gap_MMH, axis=(0, 1))
    return rewards_MH.mean(axis=0) - kappa * disagreement_H
