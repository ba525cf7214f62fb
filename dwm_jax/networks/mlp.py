"""Multi-layer perceptrons: the actors, critics and values of the learners, the one-step world model."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from dwm_jax.networks.initialization import Dense
from dwm_jax.types import Array


class MLP(nn.Module):
    """Dense layers with ReLU between them, none after the last: (..., in) -> (..., features[-1]).

    Attributes:
      features: widths of the layers.
      layer_norm: whether each hidden layer is normalised before its ReLU, which bounds what a value can extrapolate to
        (RLPD, Ball et al. 2023, section 4.2).
    """

    features: Sequence[int]
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for width in self.features[:-1]:
            x = Dense(width)(x)
            x = nn.relu(nn.LayerNorm()(x) if self.layer_norm else x)
        return Dense(self.features[-1])(x)


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
    layer_norm: bool = False

    @nn.compact
    def __call__(self, observation: Array, action: Array) -> Array:
        return MLP((*self.hidden, 1), self.layer_norm)(jnp.concatenate([observation, action], axis=-1))[..., 0]


class Value(nn.Module):
    """V(s): (..., O) -> (...)."""

    hidden: Sequence[int]
    layer_norm: bool = False

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        return MLP((*self.hidden, 1), self.layer_norm)(observation)[..., 0]


class GaussianActor(nn.Module):
    """A Gaussian over actions whose mean goes through a tanh: (..., O) -> mean (..., A), standard deviation (A,).

    The standard deviation is learnt, starts at 1, stays within [exp(-5), exp(2)] and does not depend on the state.
    """

    hidden: Sequence[int]
    action_size: int

    @nn.compact
    def __call__(self, observation: Array) -> tuple[Array, Array]:
        mean = jnp.tanh(MLP((*self.hidden, self.action_size))(observation))
        log_std_A = self.param("log_std", nn.initializers.zeros, (self.action_size,))
        return mean, jnp.exp(jnp.clip(log_std_A, -5, 2))
