"""Decision Diffuser: a diffusion over states plans for a return, inverse dynamics acts. No critic, no actor."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwm_jax.maths.normalizers import FITTERS, Normalizer
from dwm_jax.networks.initialization import compute_once
from dwm_jax.networks.inverse_dynamics import InverseDynamics
from dwm_jax.networks.optimization import start_ema
from dwm_jax.runtime.settings import require
from dwm_jax.types import Array, Average, Condition, Key, Metrics, PyTree, Segment
from dwm_jax.world_models.base import Planner, Training, TrainingRows
from dwm_jax.world_models.row_diffusion import Denoiser, State


class Params(NamedTuple):
    diffusion: PyTree
    inverse_dynamics: PyTree


class InferenceState(NamedTuple):
    """What acting needs: the EMA parameters are the model."""

    params: Params
    observation_normalizer: Normalizer


@dataclass(frozen=True, kw_only=True)
class DecisionDiffuser(Denoiser, Planner):
    """Rows x in R^{T x O}, states alone, given s_t and the return-to-go; a_t = f(s_t, s_{t+1}) with s_{t+1} planned.

    Two losses, trained side by side on the same segments:

        diffusion          the masked denoising loss, the return dropped with probability `condition_dropout`
        inverse dynamics   mean over entries of (a_t - f(s_t, s_{t+1}))^2, on the recorded step a segment starts with

    `act` draws one plan of T states with classifier-free guidance and clips f's answer to [-1, 1], the range of
    actions. The EMA covers f too, as in the authors' code.
    Source: Ajay et al. 2023, algorithm 1; sizes and steps as in DWM's appendix (T = 32, K = 5, N = 3, f of 3 layers
    of 1024 with dropout 0.1).
    """

    title = "DD"
    training = Training(num_updates=2_000_000, batch_size=64)
    is_return_conditioned = True

    sequence_length: int = 32  # T
    observation_normalizer: str = "cdf"  # or "min_max", "standard"; both parts see states through it
    inverse_hidden: tuple[int, ...] = (1024, 1024, 1024)  # widths of f's hidden layers
    inverse_dropout: float = 0.1  # after each of them, in training only

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "sequence_length", self.sequence_length >= 2, "at least 2 rows")
        known = self.observation_normalizer in FITTERS
        require(self, "observation_normalizer", known, f"one of {', '.join(FITTERS)}")
        require(self, "inverse_dropout", 0 <= self.inverse_dropout < 1, "a probability below 1")

    def inverse_network(self, action_size: int) -> Any:
        return InverseDynamics(tuple(self.inverse_hidden), action_size, self.inverse_dropout)

    def init(self, key: Key, rows: TrainingRows) -> State:
        observation_size, action_size = rows.observations.shape[1], rows.actions.shape[1]
        diffusion_key, inverse_key = jax.random.split(key)
        x_TD = jnp.zeros((self.sequence_length, observation_size))
        inverse = self.inverse_network(action_size)
        params = Params(
            diffusion=self.init_denoiser(diffusion_key, x_TD, Condition(return_to_go=jnp.zeros(()))),
            inverse_dynamics=compute_once(partial(inverse.init, training=False), inverse_key, x_TD[:2]),
        )
        normalizer = FITTERS[self.observation_normalizer](rows.states)
        return State(params, jax.jit(self.optimizer.init)(params), InferenceState(start_ema(params), normalizer))

    def losses(self, params: Params, normalizer: Normalizer, segment: Segment, key: Key) -> tuple[Array, Array]:
        """Of the diffusion and of the inverse dynamics, on one segment: 2 x ()."""
        diffusion_key, dropout_key = jax.random.split(key)
        x_TD = normalizer.normalize(segment.observations)
        condition = Condition(return_to_go=segment.return_to_go)
        diffusion_loss = self.denoising_loss(
            params.diffusion, x_TD, segment.mask, x_TD.shape[1], condition, diffusion_key
        )
        # Never masked: a segment starts at an action, and the state it led to was recorded.
        action_A = segment.actions[0]
        network = self.inverse_network(action_A.shape[0])
        predicted_A = network.apply(params.inverse_dynamics, x_TD[:2], training=True, rngs={"dropout": dropout_key})
        return diffusion_loss, jnp.mean((action_A - predicted_A) ** 2)

    def update(
        self, state: State, segments: Segment, keys: Array, step: Array, average: Average
    ) -> tuple[State, Metrics]:
        def loss(params: Params) -> tuple[Array, Metrics]:
            diffusion_B, inverse_B = jax.vmap(self.losses, in_axes=(None, None, 0, 0))(
                params, state.ema.observation_normalizer, segments, keys
            )
            metrics = {"world_model/loss": diffusion_B.mean(), "inverse_dynamics/loss": inverse_B.mean()}
            # They share no parameter, and Adam works entry by entry: a step down the sum is a step down each.
            return diffusion_B.mean() + inverse_B.mean(), metrics

        return self.descend(loss, state, step, average)

    def inference(self, state: State) -> InferenceState:
        return state.ema

    def act(self, model: InferenceState, observation_O: Array, return_to_go: Array, key: Key) -> Array:
        normalizer, params = model.observation_normalizer, model.params
        plan_TD = self.sample_rows(
            params.diffusion,
            normalizer.normalize(observation_O),
            self.sequence_length,
            (normalizer.low, normalizer.high),
            Condition(return_to_go=return_to_go),
            key,
        )
        action_size = params.inverse_dynamics["params"]["action"]["bias"].shape[0]
        action_A = self.inverse_network(action_size).apply(params.inverse_dynamics, plan_TD[:2], training=False)
        return jnp.clip(action_A, -1, 1)
