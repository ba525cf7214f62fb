"""Denoising diffusion over one sequence: schedule, forward process, training loss, guided strided sampler.

Nothing here knows a network: a *denoiser* is any function `denoise(x_TD, k) -> eps_TD` that predicts the noise
in x at diffusion step k (1 .. K). Conditions (action, return-to-go) are bound into it by the caller. What a network
puts out - the noise, or the velocity - is a `Prediction`: what it is trained to be, and the noise that follows from it.
One sequence at a time; `jax.vmap` makes a batch.

The known part of a sequence - the observation in row 0 - is overwritten before every call of the denoiser, in
training and in sampling alike, and carries no loss.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.types import Array, Key, PyTree

Denoise = Callable[[Array, Array], Array]

# Of the cosine schedule.
OFFSET, LARGEST_BETA = 0.008, 0.999


def cosine_schedule(num_diffusion_steps: int) -> np.ndarray:
    """Cumulative signal fractions abar_1 .. abar_K of the cosine schedule.

        f(k) = cos^2( (k/K + s) / (1 + s) * pi/2 ),  beta_k = min(1 - f(k)/f(k-1), 0.999),   s = 0.008,
        abar_k = prod_{i<=k} (1 - beta_i)

    Source: Nichol & Dhariwal 2021, equation 17. K = 5 gives .899 .647 .341 .094 9.4e-5.

    Args:
      num_diffusion_steps: K >= 1.

    Returns:
      abar, shape (K,), float64, decreasing in (0, 1); index k - 1 belongs to step k.
    """
    k = np.arange(num_diffusion_steps + 1, dtype=np.float64)
    f = np.cos((k / num_diffusion_steps + OFFSET) / (1 + OFFSET) * np.pi / 2) ** 2
    betas = np.minimum(1 - f[1:] / f[:-1], LARGEST_BETA)
    return np.asarray(np.cumprod(1 - betas))


def strided_steps(num_diffusion_steps: int, num_sampling_steps: int) -> tuple[int, ...]:
    """N of the K diffusion steps, equally spaced from 1 to K and always containing K.

    K = 5: N = 3 gives (1, 3, 5), N = 2 (1, 5), N = 1 (5,). Source: DWM section 3.1 (strided sampling).

    Raises:
      ValueError: unless 1 <= N <= K.
    """
    if not 1 <= num_sampling_steps <= num_diffusion_steps:
        raise ValueError(
            f"num_sampling_steps must lie in 1..num_diffusion_steps={num_diffusion_steps}, got {num_sampling_steps}"
        )
    if num_sampling_steps == 1:
        return (num_diffusion_steps,)
    steps = np.linspace(1, num_diffusion_steps, num_sampling_steps)
    return tuple(int(step) for step in np.floor(steps + 0.5))


def add_noise(x0: Array, noise: Array, alpha_bar: Array) -> Array:
    """Forward process q(x_k | x_0): sqrt(abar) x0 + sqrt(1 - abar) noise. Source: Ho et al. 2020, equation 4.

    Args:
      x0: clean data, any shape.
      noise: standard normal, the shape of x0.
      alpha_bar: abar_k in (0, 1), broadcast against x0.
    """
    return jnp.sqrt(alpha_bar) * x0 + jnp.sqrt(1 - alpha_bar) * noise


class Prediction(NamedTuple):
    """What a denoising network predicts. Arrays of one shape; alpha_bar in (0, 1)."""

    # (x0, noise, alpha_bar) -> what the network should predict from add_noise(x0, noise, alpha_bar)
    target: Callable[[Array, Array, Array], Array]
    # (output, x, alpha_bar) -> the noise in x that an output stands for
    noise: Callable[[Array, Array, Array], Array]


def velocity(x0: Array, noise: Array, alpha_bar: Array) -> Array:
    """v = sqrt(abar) eps - sqrt(1 - abar) x0. Source: Salimans & Ho 2022, section 4.

    Args:
      x0, noise: clean data and the noise added to it, of one shape.
      alpha_bar: abar_k in [0, 1].
    """
    return jnp.sqrt(alpha_bar) * noise - jnp.sqrt(1 - alpha_bar) * x0


def noise_from_velocity(velocity_TD: Array, x_TD: Array, alpha_bar: Array | float) -> Array:
    """eps = sqrt(abar) v + sqrt(1 - abar) x,  for the `velocity` v.

    The clean rows are then  x0 = sqrt(abar) x - sqrt(1 - abar) v,  of the size of v at every noise level. Source:
    Salimans & Ho 2022, appendix D.

    Args:
      velocity_TD: v, shape (T, D).
      x_TD: noisy rows, as of `add_noise`.
      alpha_bar: abar_k in [0, 1].
    """
    return jnp.sqrt(alpha_bar) * velocity_TD + jnp.sqrt(1 - alpha_bar) * x_TD


PREDICTIONS = {
    "noise": Prediction(target=lambda x0, noise, alpha_bar: noise, noise=lambda output, x, alpha_bar: output),
    "velocity": Prediction(target=velocity, noise=noise_from_velocity),
}


def overwrite_first_observation(x_TD: Array, observation_O: Array) -> Array:
    """Put the known state s_t, clean and normalised, into row 0; the reward entry of row 0 stays."""
    chex.assert_rank([x_TD, observation_O], [2, 1])
    return x_TD.at[0, : observation_O.shape[0]].set(observation_O)


def denoising_loss(
    predict: Callable[[Array, Array], Array],
    target: Callable[[Array, Array, Array], Array],
    x0_TD: Array,
    mask_T: Array,
    observation_size: int,
    alphas_bar_K: Array,
    key: Key,
) -> Array:
    """Squared error of a network's prediction at one random diffusion step.

        k ~ U{1..K}, eps ~ N(0, I):   mean over entries of  mask * (target(x0, eps, abar_k) - predict(x_k, k))^2

    Where the target is the noise this is the loss of Ho et al. 2020, equation 14. Where it is the velocity, every
    step counts alike: the squared error of the noise that follows from a velocity is abar_k times the velocity's, so
    the loss of the noise would leave the last step, where sampling starts, untrained (Salimans & Ho 2022, section 4).

    Row 0's observation is overwritten with its clean value and, like rows the mask hides, adds zero to the mean.
    The denominator is always T * D, so the mean over a batch does not depend on how the batch is divided.
    Conditioning as in DWM section 3.1.

    Args:
      predict: `predict(x_TD, k)`, the network; called once.
      target: what it should predict, as in `Prediction`.
      x0_TD: clean normalised rows, shape (T, D).
      mask_T: 1 for a known row, 0 for one past a truncation, shape (T,).
      observation_size: O; the first O entries of row 0 are the condition.
      alphas_bar_K: from `cosine_schedule`, shape (K,).
      key: draws k and eps.

    Returns:
      The loss, scalar.
    """
    chex.assert_rank([x0_TD, mask_T, alphas_bar_K], [2, 1, 1])
    # A masked row may hold anything, NaN included; neither the network nor the gradient sees it.
    x0_TD = jnp.where(mask_T[:, None] > 0, x0_TD, 0)
    step_key, noise_key = jax.random.split(key)
    k = jax.random.randint(step_key, (), 1, alphas_bar_K.shape[0] + 1)
    alpha_bar = alphas_bar_K[k - 1]
    noise_TD = jax.random.normal(noise_key, x0_TD.shape, x0_TD.dtype)
    x_TD = add_noise(x0_TD, noise_TD, alpha_bar)
    x_TD = overwrite_first_observation(x_TD, x0_TD[0, :observation_size])
    weight_TD = jnp.broadcast_to(mask_T[:, None], x0_TD.shape).at[0, :observation_size].set(0)
    return jnp.mean(weight_TD * (target(x0_TD, noise_TD, alpha_bar) - predict(x_TD, k)) ** 2)


def guided(
    denoise: Callable[[Array, Array, PyTree], Array], condition: PyTree, null_condition: PyTree, guidance_weight: float
) -> Denoise:
    """Classifier-free guidance: eps = w eps(condition) + (1 - w) eps(null), both branches in one batch.

    w = 1 follows the condition alone and costs a single branch. Source: Ho & Salimans 2022; Decision Diffuser
    (Ajay et al. 2023), equation 8.

    Args:
      denoise: `denoise(x_TD, k, condition) -> eps_TD`.
      condition, null_condition: pytrees of one structure.
      guidance_weight: w >= 0.
    """
    if guidance_weight == 1:
        return lambda x_TD, k: denoise(x_TD, k, condition)
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), condition, null_condition)

    def denoise_guided(x_TD: Array, k: Array) -> Array:
        with_condition_TD, without_TD = jax.vmap(denoise, in_axes=(None, None, 0))(x_TD, k, both)
        return guidance_weight * with_condition_TD + (1 - guidance_weight) * without_TD

    return denoise_guided


def sampling_coefficients(
    alphas_bar: Sequence[float] | np.ndarray, steps: tuple[int, ...], temperature: float
) -> dict[str, np.ndarray]:
    """The coefficients of each step of `sample`, in the order of sampling: from k_N = K down to k_1.

    With abar' the abar of the next lower step used (1 below k_1) and a = abar / abar':

        k        the step itself
        signal   sqrt(abar)                                     noise    sqrt(1 - abar)
        mean_x0  sqrt(abar') (1 - a) / (1 - abar)               mean_x   sqrt(a) (1 - abar') / (1 - abar)
        std      temperature * sqrt((1 - a) (1 - abar') / (1 - abar))

    Args:
      alphas_bar: abar_1 .. abar_K from `cosine_schedule`.
      steps: increasing, from `strided_steps`.
      temperature: alpha >= 0.

    Returns:
      Arrays of shape (N,), float64; k is int32. The last std is 0.
    """
    alpha_bar, below = _strided_signal(alphas_bar, steps)
    alpha = alpha_bar / below
    return _by_step(
        steps,
        alpha_bar,
        mean_x0=np.sqrt(below) * (1 - alpha) / (1 - alpha_bar),
        mean_x=np.sqrt(alpha) * (1 - below) / (1 - alpha_bar),
        std=temperature * np.sqrt((1 - alpha) * (1 - below) / (1 - alpha_bar)),
    )


def deterministic_coefficients(
    alphas_bar: Sequence[float] | np.ndarray, steps: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """The coefficients of each step of `sample_deterministically`; names and order as in `sampling_coefficients`.

        mean_x0  sqrt(abar') - sqrt(abar) sqrt((1 - abar') / (1 - abar))       mean_x   sqrt((1 - abar') / (1 - abar))

    Source: Song et al. 2021 (DDIM), equation 12 with sigma = 0, the noise written as that of the clipped x0.
    """
    alpha_bar, below = _strided_signal(alphas_bar, steps)
    kept = np.sqrt((1 - below) / (1 - alpha_bar))
    return _by_step(steps, alpha_bar, mean_x0=np.sqrt(below) - np.sqrt(alpha_bar) * kept, mean_x=kept)


def _strided_signal(alphas_bar: Sequence[float] | np.ndarray, steps: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(abar, abar') of the steps used: (N,) each."""
    alpha_bar = np.asarray(alphas_bar, np.float64)[np.asarray(steps) - 1]
    return alpha_bar, np.concatenate([[1.0], alpha_bar[:-1]])


def _by_step(steps: tuple[int, ...], alpha_bar: np.ndarray, **of_sampler: np.ndarray) -> dict[str, np.ndarray]:
    """The coefficients that all samplers have, and those `of_sampler`, in the order of sampling."""
    shared = {"k": np.asarray(steps, np.int32), "signal": np.sqrt(alpha_bar), "noise": np.sqrt(1 - alpha_bar)}
    return {name: values[::-1] for name, values in (shared | of_sampler).items()}


def sample(
    denoise: Denoise,
    observation_O: Array,
    sequence_length: int,
    low_D: Array,
    high_D: Array,
    alphas_bar: Sequence[float] | np.ndarray,
    steps: tuple[int, ...],
    temperature: float,
    key: Key,
) -> Array:
    """Ancestral sampling along the strided steps k_1 < .. < k_N = K, from noise to a clean sequence.

    For each step, with abar' the abar of the next lower step used (1 below k_1; see `sampling_coefficients`):

        x0   = clip( (x - sqrt(1 - abar) eps) / sqrt(abar), low, high )
        mean = sqrt(abar') (1 - a) / (1 - abar) x0 + sqrt(a) (1 - abar') / (1 - abar) x,     a = abar / abar'
        var  = (1 - a) (1 - abar') / (1 - abar)
        x   <- mean + temperature * sqrt(var) * z,     z ~ N(0, I), none at the last step

    Source: Ho et al. 2020, equations 6-7, on the strided schedule (Nichol & Dhariwal 2021, section 4); the
    temperature as in Decision Diffuser. N = K is the full sampler.

    Args:
      denoise: predicts the noise, guidance included.
      observation_O: s_t, clean and normalised; row 0 of the result holds it.
      sequence_length: T.
      low_D, high_D: range of the normalised data, where x0 is clipped.
      alphas_bar: abar_1 .. abar_K from `cosine_schedule`.
      steps: increasing, from `strided_steps`.
      temperature: alpha >= 0; 0 takes the mean of every step.
      key: draws the initial noise and every z.

    Returns:
      Normalised rows x_TD, shape (T, D).
    """
    coefficients = _on_device(sampling_coefficients(alphas_bar, steps, temperature))
    initial_key, steps_key = jax.random.split(key)
    shape = (sequence_length, low_D.shape[0])

    def reverse_step(x_TD: Array, step: tuple[dict[str, Array], Key]) -> tuple[Array, None]:
        c, step_key = step
        x_TD = overwrite_first_observation(x_TD, observation_O)
        eps_TD = denoise(x_TD, c["k"])
        x0_TD = jnp.clip((x_TD - c["noise"] * eps_TD) / c["signal"], low_D, high_D)
        z_TD = jax.random.normal(step_key, shape)
        return c["mean_x0"] * x0_TD + c["mean_x"] * x_TD + c["std"] * z_TD, None

    x_TD, _ = jax.lax.scan(
        reverse_step,
        jax.random.normal(initial_key, shape),
        (coefficients, jax.random.split(steps_key, len(steps))),
    )
    return overwrite_first_observation(x_TD, observation_O)


def sample_deterministically(
    denoise: Denoise,
    noise_TD: Array,
    observation_O: Array,
    low_D: Array,
    high_D: Array,
    alphas_bar: Sequence[float] | np.ndarray,
    steps: tuple[int, ...],
) -> Array:
    """DDIM sampling: the clean sequence that an initial noise is mapped to; deterministic given `noise_TD`.

    For each step, with abar' as in `sample` (see `deterministic_coefficients`):

        x0  = clip( (x - sqrt(1 - abar) eps) / sqrt(abar), low, high )
        x  <- sqrt(abar') x0 + sqrt(1 - abar') (x - sqrt(abar) x0) / sqrt(1 - abar)

    With the exact eps and ever finer steps it draws from the distribution that `sample` draws from. Source: Song et al.
    2021 (DDIM), section 4.1; the clipping as in `sample`.

    Args:
      noise_TD: where it starts; standard normal, or narrower for samples nearer to the centre.
      denoise, observation_O, low_D, high_D, alphas_bar, steps: as in `sample`.

    Returns:
      Normalised rows x_TD, shape (T, D).
    """

    def reverse_step(x_TD: Array, c: dict[str, Array]) -> tuple[Array, None]:
        x_TD = overwrite_first_observation(x_TD, observation_O)
        x0_TD = jnp.clip((x_TD - c["noise"] * denoise(x_TD, c["k"])) / c["signal"], low_D, high_D)
        return c["mean_x0"] * x0_TD + c["mean_x"] * x_TD, None

    x_TD, _ = jax.lax.scan(reverse_step, noise_TD, _on_device(deterministic_coefficients(alphas_bar, steps)))
    return overwrite_first_observation(x_TD, observation_O)


def _on_device(coefficients: dict[str, np.ndarray]) -> dict[str, Array]:
    return {
        name: jnp.asarray(values, jnp.int32 if name == "k" else jnp.float32) for name, values in coefficients.items()
    }
