"""Inverse dynamics: the action between two states, for models that generate states without actions."""

from collections.abc import Sequence

import flax.linen as nn

from dwm_jax.networks.initialization import Dense
from dwm_jax.types import Array


class InverseDynamics(nn.Module):
    """The action that leads from s to s': normalised (s, s') of shape (2, O) -> (A,).

    The last layer is linear, as in Decision Diffuser's code; callers clip the action to [-1, 1]. `training` switches
    dropout on.
    """

    hidden: Sequence[int]
    action_size: int
    dropout: float

    @nn.compact
    def __call__(self, states_2O: Array, training: bool) -> Array:
        x = states_2O.reshape(-1)
        for width in self.hidden:
            x = nn.relu(Dense(width)(x))
            x = nn.Dropout(self.dropout, deterministic=not training)(x)
        return Dense(self.action_size, name="action")(x)
