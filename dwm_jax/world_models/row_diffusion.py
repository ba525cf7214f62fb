"""What the diffusion models share: a temporal U-Net over rows, trained with the return dropped at random, sampled
with classifier-free guidance. What a row holds, and in which units, is theirs to say."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwm_jax.maths import diffusion
from dwm_jax.networks.initialization import initial_parameters
from dwm_jax.networks.temporal_unet import TemporalUnet
from dwm_jax.types import Array, Key, PyTree


class RowDiffusion(NamedTuple):
    """p(x_TD | s_t, a_t, g_t), normalised rows; a model without action or return-to-go passes None throughout."""

    # (key, rows (T, D), action (A,) or None, return-to-go () or None) -> params; of the arrays only shapes matter.
    init: Callable[[Key, Array, Array | None, Array | None], PyTree]
    # (params, clean rows (T, D), mask (T,), O, action or None, return-to-go or None, key) -> loss ()
    loss: Callable[[PyTree, Array, Array, int, Array | None, Array | None, Key], Array]
    # (params, s_t (O,), T, low (D,), high (D,), action or None, return-to-go or None, key) -> rows (T, D)
    sample: Callable[[PyTree, Array, int, Array, Array, Array | None, Array | None, Key], Array]


def row_diffusion(
    *,
    num_diffusion_steps: int,
    num_sampling_steps: int,
    width: int,
    multipliers: Sequence[int],
    activations: str,
    prediction: str,
    condition_dropout: float,
    guidance_weight: float,
    temperature: float,
) -> RowDiffusion:
    """The loss and the strided guided sampler of `dwm_jax.maths.diffusion` around a `TemporalUnet`.

    Args:
      num_diffusion_steps: K.
      num_sampling_steps: N <= K.
      width, multipliers: of the temporal U-Net.
      activations: their type in it, "float32" or "bfloat16".
      prediction: what the U-Net puts out and is trained to be, a key of `diffusion.PREDICTIONS`: the "noise" as in the
        paper, or the "velocity". A small network that puts out the noise gets it wrong by a percent at the last of
        K = 5 steps, which the sampler magnifies a hundredfold; a velocity that is wrong by a percent is a clean row
        that is wrong by a percent.
      condition_dropout: p_uncond in [0, 1], how often training hides the return-to-go.
      guidance_weight: w; 1 follows the condition, more exaggerates it.
      temperature: factor on the sampler's noise.

    Raises:
      ValueError: unless 1 <= N <= K; an unknown prediction.
    """
    if prediction not in diffusion.PREDICTIONS:
        raise ValueError(f"prediction {prediction!r} must be one of {', '.join(diffusion.PREDICTIONS)}")
    output = diffusion.PREDICTIONS[prediction]
    network: Any = TemporalUnet(width, tuple(multipliers), jnp.dtype(activations))
    alphas_bar_K = diffusion.cosine_schedule(num_diffusion_steps)
    alphas_bar = jnp.asarray(alphas_bar_K, jnp.float32)
    steps = diffusion.strided_steps(num_diffusion_steps, num_sampling_steps)

    def init(key: Key, x_TD: Array, action_A: Array | None, return_to_go: Array | None) -> PyTree:
        return initial_parameters(network, key, x_TD, jnp.ones(()), action_A, return_to_go)

    def loss(
        params: PyTree,
        x0_TD: Array,
        mask_T: Array,
        observation_size: int,
        action_A: Array | None,
        return_to_go: Array | None,
        key: Key,
    ) -> Array:
        drop_key, loss_key = jax.random.split(key)
        keep = jax.random.bernoulli(drop_key, 1 - condition_dropout).astype(jnp.float32)
        condition_E = network.apply(params, action_A, return_to_go, keep, method=TemporalUnet.embed_condition)

        def predict(x_TD: Array, k: Array) -> Array:
            return network.apply(params, x_TD, k, condition_E, method=TemporalUnet.denoise)

        return diffusion.denoising_loss(predict, output.target, x0_TD, mask_T, observation_size, alphas_bar, loss_key)

    def sample(
        params: PyTree,
        observation_O: Array,
        sequence_length: int,
        low_D: Array,
        high_D: Array,
        action_A: Array | None,
        return_to_go: Array | None,
        key: Key,
    ) -> Array:
        embed = partial(network.apply, params, action_A, return_to_go, method=TemporalUnet.embed_condition)

        def denoise(x_TD: Array, k: Array, condition_E: Array) -> Array:
            output_TD = network.apply(params, x_TD, k, condition_E, method=TemporalUnet.denoise)
            return output.noise(output_TD, x_TD, alphas_bar[k - 1])

        guided = diffusion.guided(denoise, embed(1.0), embed(0.0), guidance_weight)
        return diffusion.sample(
            guided, observation_O, sequence_length, low_D, high_D, alphas_bar_K, steps, temperature, key
        )

    return RowDiffusion(init, loss, sample)
