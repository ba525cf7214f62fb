"""Two critics and their regression onto a target: what every learner here has in common."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dwm_jax.networks.mlp import Critic
from dwm_jax.networks.optimization import apply_gradients
from dwm_jax.types import Array, Average, Key, Metrics, PyTree


class TwinCritics(NamedTuple):
    """Q_1 and Q_2, their parameters stacked on a leading axis.

    Attributes:
      hidden: widths of both.
      layer_norm: whether their hidden layers are normalised.
    """

    hidden: tuple[int, ...]
    layer_norm: bool = False

    @property
    def _network(self) -> Any:
        return Critic(self.hidden, self.layer_norm)

    def init(self, key: Key, observation_size: int, action_size: int) -> PyTree:
        """Two independent initialisations."""
        init = jax.vmap(self._network.init, in_axes=(0, None, None))
        return init(jax.random.split(key), jnp.zeros(observation_size), jnp.zeros(action_size))

    def values(self, params: PyTree, observation: Array, action: Array) -> Array:
        """Q_j(s, a): (..., O), (..., A) -> (2, ...)."""
        return jax.vmap(self._network.apply, in_axes=(0, None, None))(params, observation, action)

    def first(self, params: PyTree, observation: Array, action: Array) -> Array:
        """Q_1(s, a): (..., O), (..., A) -> (...)."""
        return self._network.apply(jax.tree.map(lambda leaf: leaf[0], params), observation, action)

    def regress(
        self,
        params: PyTree,
        optimizer: optax.GradientTransformation,
        optimizer_state: PyTree,
        observation_B: Array,
        action_B: Array,
        target_B: Array,
        average: Average,
    ) -> tuple[PyTree, Any, Metrics]:
        """One step on  sum_j mean (Q_j(s, a) - y)^2;  no gradient flows into the target.

        Returns:
          (params, optimizer_state, metrics).
        """

        def loss(params: PyTree) -> tuple[Array, Metrics]:
            q_2B = self.values(params, observation_B, action_B)
            loss = ((q_2B - target_B) ** 2).mean(axis=1).sum()
            return loss, {"critic/loss": loss, "critic/q": q_2B.mean(), "critic/target": target_B.mean()}

        return apply_gradients(loss, optimizer, params, optimizer_state, average)
