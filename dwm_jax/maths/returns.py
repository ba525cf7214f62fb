"""Returns along one sequence: returns-to-go, and the targets of value expansion.

Everything takes one sequence; `jax.vmap` makes a batch. Per-step discounts carry terminations: gamma on an
ordinary step, 0 on one that terminated, so nothing after a termination counts and no separate flag is needed.
"""

import chex
import jax
import jax.numpy as jnp

from dwm_jax.types import Array


def returns_to_go(rewards_L: Array, gamma: float) -> Array:
    """Discounted return from every step to the end of its episode.

        g_t = r_t + gamma g_{t+1},   g_L = 0

    Source: DWM section 3.1 with the sum taken to the end of the episode (its Figure 8 needs the full sum).

    Args:
      rewards_L: rewards of one whole episode, shape (L,).
      gamma: discount in [0, 1].

    Returns:
      g_0 .. g_{L-1}, shape (L,), unscaled.
    """
    chex.assert_rank(rewards_L, 1)

    def backwards(g_next: Array, reward: Array) -> tuple[Array, Array]:
        g = reward + gamma * g_next
        return g, g

    _, g_L = jax.lax.scan(backwards, jnp.zeros((), rewards_L.dtype), rewards_L, reverse=True)
    return g_L


def h_step_return(rewards_H: Array, discounts_H: Array, bootstrap_value: Array) -> Array:
    """H rewards followed by the value of the state they lead to.

        y = sum_{h<H} (prod_{i<h} d_i) r_h  +  (prod_{i<H} d_i) V(s_{t+H})

    With d = gamma throughout this is  sum_h gamma^h r_{t+h} + gamma^H V(s_{t+H}).
    Source: Diffusion-MVE, DWM equation 5; value expansion, Feinberg et al. 2018.

    Args:
      rewards_H: r_t .. r_{t+H-1}, shape (H,).
      discounts_H: gamma, or 0 where the step terminated, shape (H,).
      bootstrap_value: V(s_{t+H}), scalar.

    Returns:
      The target y, scalar.
    """
    chex.assert_rank([rewards_H, discounts_H, bootstrap_value], [1, 1, 0])
    chex.assert_equal_shape([rewards_H, discounts_H])
    weights_H = jnp.concatenate([jnp.ones((1,), discounts_H.dtype), jnp.cumprod(discounts_H)])
    # Not a dot product, which an accelerator may round to bfloat16 or TF32.
    return jnp.sum(weights_H[:-1] * rewards_H) + weights_H[-1] * bootstrap_value


def lambda_return(rewards_H: Array, discounts_H: Array, values_H: Array, lambda_: float) -> Array:
    """Exponentially weighted mixture of the 1- to H-step returns.

        G_H = V(s_H),   G_h = r_h + d_h ((1 - lambda) V(s_{h+1}) + lambda G_{h+1})

    lambda = 1 is `h_step_return`, lambda = 0 the one-step return. Source: Sutton & Barto section 12.1; DWM
    section 3.2, whose recursion is off by one at h = H - this is the consistent form.

    Args:
      rewards_H: r_t .. r_{t+H-1}, shape (H,).
      discounts_H: gamma, or 0 where the step terminated, shape (H,).
      values_H: V(s_{t+1}) .. V(s_{t+H}), shape (H,).
      lambda_: mixing weight in [0, 1].

    Returns:
      The target G_0, scalar.
    """
    chex.assert_rank([rewards_H, discounts_H, values_H], 1)
    chex.assert_equal_shape([rewards_H, discounts_H, values_H])

    def backwards(g_next: Array, step: tuple[Array, Array, Array]) -> tuple[Array, None]:
        reward, discount, value = step
        return reward + discount * ((1 - lambda_) * value + lambda_ * g_next), None

    g_0, _ = jax.lax.scan(backwards, values_H[-1], (rewards_H, discounts_H, values_H), reverse=True)
    return g_0


def discounts_until_end(ended_H: Array, gamma: float) -> Array:
    """gamma while an imagined trajectory goes on, 0 from the first step on that ended it.

    Args:
      ended_H: bool, whether the step was imagined to end the task, shape (H,); what comes after the first does not
        count.
      gamma: discount in [0, 1].
    """
    chex.assert_rank(ended_H, 1)
    return gamma * (1 - jax.lax.cummax(ended_H.astype(jnp.float32)))


def relabelled_return(return_to_go: Array, reward: Array, discount: Array, next_value: Array) -> Array:
    """A return-to-go raised to what the learner now believes is possible from here.

        g~_t = max(g_t, r_t + d_t V(s_{t+1}))

    Source: return-to-go relabelling, DWM appendix (without the discount there; with it, g_t and the other side are
    the same sum). All in one unit.

    Args:
      return_to_go: recorded g_t, any shape.
      reward, discount, next_value: r_t, gamma or 0 where the step terminated, V(s_{t+1}); the shape of g_t.
    """
    return jnp.maximum(return_to_go, reward + discount * next_value)
