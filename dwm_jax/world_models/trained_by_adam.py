"""What models without a moving average of their parameters share: Adam on one loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import optax

from dwm_jax.networks.optimization import apply_gradients
from dwm_jax.types import Array, Average, Metrics, PyTree


class State(NamedTuple):
    model: Any  # what inference needs, with a field `params`
    optimizer_state: PyTree


@dataclass(frozen=True, kw_only=True)
class TrainedByAdam:
    """Beside a `Model`: its state, its optimiser, and one step of it."""

    learning_rate: float = 1e-4

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def start(self, model: Any) -> State:
        """The state before the first update."""
        return State(model, jax.jit(self.optimizer.init)(model.params))

    def descend(
        self, loss: Callable[[Any], tuple[Array, Metrics]], state: State, average: Average
    ) -> tuple[State, Metrics]:
        """One step of Adam down a loss of the model; the gradient is that of its parameters."""

        def loss_of_params(params: PyTree) -> tuple[Array, Metrics]:
            return loss(state.model._replace(params=params))

        params, optimizer_state, metrics = apply_gradients(
            loss_of_params, self.optimizer, state.model.params, state.optimizer_state, average
        )
        return State(state.model._replace(params=params), optimizer_state), metrics

    def inference(self, state: State) -> Any:
        return state.model
