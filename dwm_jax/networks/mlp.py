"""Multi-layer perceptrons: the actors, critics and values of the learners, the one-step world model."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from dwm_jax.types import Array


class MLP(nn.Module):
    """Dense layers with ReLU between them, none after the last: (..., in) -> (..., features[-1])."""

    features: Sequence[int]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for width in self.features[:-1]:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.features[-1])(x)


class TanhActor(nn.Module):
    """State to action in [-1, 1]: (..., O) -> (..., A)."""

    hidden: Sequence[int]
    action_size: int

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        return jnp.tanh(MLP((*self.hidden, self.action_size))(observation))


class Critic(nn.Module):
    """Q(s, a): (..., O), (..., A) -> (...)."""

    hidden: Sequence[int]

    @nn.compact
    def __call__(self, observation: Array, action: Array) -> Array:
        return MLP((*self.hidden, 1))(jnp.concatenate([observation, action], axis=-1))[..., 0]
