"""What the diffusion models share: a temporal U-Net over rows, trained with the return dropped at random, sampled
with classifier-free guidance. What a row holds, and in which units, is theirs to say."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dwm_jax.maths import diffusion
from dwm_jax.networks.initialization import initial_parameters
from dwm_jax.networks.optimization import apply_gradients, move_ema
from dwm_jax.networks.temporal_unet import TemporalUnet
from dwm_jax.runtime.settings import require
from dwm_jax.types import Array, Average, Condition, Key, Metrics, PyTree, Segment


class State(NamedTuple):
    """The training state of every diffusion model."""

    params: PyTree
    optimizer_state: PyTree
    ema: Any  # what sampling needs, with a field `params`: the EMA parameters are the model


def make_mean_loss(
    segment_loss: Callable[[PyTree, Any, Segment, Key], Array], units: Any, segments: Segment, keys: Array
) -> Callable[[PyTree], tuple[Array, Metrics]]:
    """The loss of a batch as a function of the parameters, with its metrics.

    Args:
      segment_loss: (params, units, segment, key) -> ().
      segments, keys: leading axis B.
    """

    def loss(params: PyTree) -> tuple[Array, Metrics]:
        losses_B = jax.vmap(segment_loss, in_axes=(None, None, 0, 0))(params, units, segments, keys)
        return losses_B.mean(), {"world_model/loss": losses_B.mean()}

    return loss


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """p(x_TD | s_t, a_t, g_t), normalised rows: the settings of all diffusion models, their loss and their sampler."""

    num_diffusion_steps: int = 5  # K
    num_sampling_steps: int = 3  # N <= K
    width: int = 128  # base number of channels of the temporal U-Net, a multiple of 8 (group norm)
    multipliers: tuple[int, ...] = (1, 4, 8)  # channels of each of its levels, in units of `width`
    # What the U-Net puts out and is trained to be, a key of `diffusion.PREDICTIONS`: the "noise" as in the paper, or
    # the "velocity". A small network that puts out the noise gets it wrong by a percent at the last of K = 5 steps,
    # which the sampler magnifies a hundredfold; a velocity that is wrong by a percent is a clean row that is wrong by
    # a percent.
    prediction: str = "noise"
    activations: str = "float32"  # or "bfloat16": faster products on accelerators; parameters stay float32
    learning_rate: float = 1e-4  # Adam's
    ema_rate: float = 0.995  # ema <- rate * ema + (1 - rate) * params
    ema_every: int = 10  # updates between two steps of the EMA
    condition_dropout: float = 0.25  # p_uncond, how often training hides the return-to-go
    guidance_weight: float = 1.2  # w; 1 follows the condition, more exaggerates it
    temperature: float = 0.5  # factor on the sampler's noise

    def __post_init__(self) -> None:
        K, N = self.num_diffusion_steps, self.num_sampling_steps
        require(self, "num_sampling_steps", 1 <= N <= K, f"1 <= N <= K = num_diffusion_steps = {K}")
        require(self, "width", self.width > 0 and self.width % 8 == 0, "a multiple of 8 (group norm)")
        predictions = ", ".join(diffusion.PREDICTIONS)
        require(self, "prediction", self.prediction in diffusion.PREDICTIONS, f"one of {predictions}")
        require(self, "activations", self.activations in ("float32", "bfloat16"), '"float32" or "bfloat16"')
        require(self, "condition_dropout", 0 <= self.condition_dropout <= 1, "a probability")
        require(self, "ema_rate", 0 <= self.ema_rate <= 1, "in [0, 1]")
        require(self, "ema_every", self.ema_every >= 1, "at least 1")

    @property
    def network(self) -> Any:
        """Any linen module with the methods of `TemporalUnet`: `embed_condition`, `denoise` and `__call__`."""
        return TemporalUnet(self.width, tuple(self.multipliers), jnp.dtype(self.activations))

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def init_denoiser(self, key: Key, x_TD: Array, condition: Condition) -> PyTree:
        """Parameters; of the arrays only shapes matter."""
        return initial_parameters(self.network, key, x_TD, jnp.ones(()), *condition)

    def descend(
        self, loss: Callable[[PyTree], tuple[Array, Metrics]], state: State, step: Array, average: Average
    ) -> tuple[State, Metrics]:
        """One step of Adam down a loss, and of the EMA where its turn has come."""
        params, optimizer_state, metrics = apply_gradients(
            loss, self.optimizer, state.params, state.optimizer_state, average
        )
        ema_params = move_ema(state.ema.params, params, step, self.ema_rate, self.ema_every)
        return State(params, optimizer_state, state.ema._replace(params=ema_params)), metrics

    def denoising_loss(
        self, params: PyTree, x0_TD: Array, mask_T: Array, observation_size: int, condition: Condition, key: Key
    ) -> Array:
        """`diffusion.denoising_loss` of clean rows, the return-to-go hidden with probability `condition_dropout`."""
        drop_key, loss_key = jax.random.split(key)
        keep = jax.random.bernoulli(drop_key, 1 - self.condition_dropout).astype(jnp.float32)
        condition_E = self.network.apply(params, *condition, keep, method="embed_condition")

        def predict(x_TD: Array, k: Array) -> Array:
            return self.network.apply(params, x_TD, k, condition_E, method="denoise")

        target = diffusion.PREDICTIONS[self.prediction].target
        alphas_bar = jnp.asarray(self.alphas_bar, jnp.float32)
        return diffusion.denoising_loss(predict, target, x0_TD, mask_T, observation_size, alphas_bar, loss_key)

    def sample_rows(
        self,
        params: PyTree,
        observation_O: Array,
        length: int,
        bounds: tuple[Array, Array],
        condition: Condition,
        key: Key,
    ) -> Array:
        """`diffusion.sample` of T = `length` rows within `bounds`, 2 x (D,), guided towards the condition: (T, D)."""
        guided, steps = self.guided_denoiser(params, condition), self.sampling_steps
        return diffusion.sample(guided, observation_O, length, *bounds, self.alphas_bar, steps, self.temperature, key)

    def rows_from_noise(
        self, params: PyTree, noise_TD: Array, observation_O: Array, bounds: tuple[Array, Array], condition: Condition
    ) -> Array:
        """`diffusion.sample_deterministically` along the steps of `sample_rows`, of noise times the temperature."""
        guided, noise_TD = self.guided_denoiser(params, condition), self.temperature * noise_TD
        return diffusion.sample_deterministically(
            guided, noise_TD, observation_O, *bounds, self.alphas_bar, self.sampling_steps
        )

    @property
    def alphas_bar(self) -> np.ndarray:
        """Cumulative signal fractions of the schedule: (K,)."""
        return diffusion.cosine_schedule(self.num_diffusion_steps)

    @property
    def sampling_steps(self) -> tuple[int, ...]:
        return diffusion.strided_steps(self.num_diffusion_steps, self.num_sampling_steps)

    def guided_denoiser(self, params: PyTree, condition: Condition) -> diffusion.Denoise:
        """The noise that the network sees in rows, guided towards the condition."""
        alphas_bar = jnp.asarray(self.alphas_bar, jnp.float32)
        embed = partial(self.network.apply, params, *condition, method="embed_condition")

        def denoise(x_TD: Array, k: Array, condition_E: Array) -> Array:
            output_TD = self.network.apply(params, x_TD, k, condition_E, method="denoise")
            return diffusion.PREDICTIONS[self.prediction].noise(output_TD, x_TD, alphas_bar[k - 1])

        return diffusion.guided(denoise, embed(1.0), embed(0.0), self.guidance_weight)
