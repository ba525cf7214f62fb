"""What the U-Net puts out, and the noise that is made of it."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.maths import diffusion
from dwm_jax.types import Condition
from dwm_jax.world_models.row_diffusion import Denoiser

ROWS, CONDITION = jnp.zeros((4, 3)), Condition(jnp.zeros(2), jnp.zeros(()))


def model(prediction: str) -> Denoiser:
    return Denoiser(
        num_diffusion_steps=5,
        num_sampling_steps=3,
        width=8,
        multipliers=(1,),
        activations="float32",
        prediction=prediction,
        condition_dropout=0.25,
        guidance_weight=1.2,
        temperature=0.5,
    )


@cache
def silent_params() -> dict[str, jax.Array]:
    """Parameters of a network that puts out nothing but zeros."""
    params = model("noise").init_denoiser(jax.random.key(0), ROWS, CONDITION)
    return jax.tree.map(jnp.zeros_like, params)  # type: ignore[no-any-return]


@pytest.mark.parametrize("seed", range(5))
def test_a_silent_network_errs_by_all_of_what_it_should_put_out(seed: int) -> None:
    params, key = silent_params(), jax.random.key(seed)

    def loss(prediction: str) -> float:
        mask_T = jnp.ones(4)
        return float(model(prediction).denoising_loss(params, ROWS, mask_T, 2, CONDITION, key))

    # Clean rows of zeros: the noise is eps, the velocity sqrt(abar) eps. Silence errs by that.
    shares = diffusion.cosine_schedule(5)
    assert np.min(np.abs(loss("velocity") / loss("noise") / shares - 1)) < 1e-3


def test_an_imagination_of_small_velocities_stays_clear_of_the_edges() -> None:
    params, edges = silent_params(), (jnp.full(3, -1.0), jnp.full(3, 1.0))

    def rows(prediction: str) -> jax.Array:
        def sample(key: jax.Array) -> jax.Array:
            return model(prediction).sample_rows(params, jnp.zeros(2), 4, edges, CONDITION, key)[1:]

        return jax.jit(jax.vmap(sample))(jax.vmap(jax.random.key)(jnp.arange(10)))  # type: ignore[no-any-return]

    # At the first step x0 = (x - 0) / sqrt(9.4e-5) is cut off at the edges nearly everywhere, and much stays there;
    # x0 = sqrt(9.4e-5) x is 0.01, and at the next steps (abar .341 and .899) again less than x.
    assert np.mean(np.abs(rows("noise")) > 0.999) > 0.2
    assert np.mean(np.abs(rows("velocity")) > 0.999) == 0


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(ValueError, match="prediction='x0' is not allowed: one of noise, velocity"):
        model("x0")
