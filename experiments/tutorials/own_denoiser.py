"""Your own denoiser: the diffusion world model with a network of yours in the place of its temporal U-Net.

    python -m experiments.tutorials.own_denoiser --workdir runs/tutorials/own_denoiser

You learn: what the diffusion asks of a network - a condition embedded once per sample, then noisy rows (T, D) and a
step k in, rows (T, D) out - and that loss, guidance, sampler, normalisers, terminations and checkpoints know nothing
else of it. The network sees one sequence; batches are made with `jax.vmap` elsewhere.

Takes: 30 s of processor time, most of it compilation. It trains that world model alone and measures it on
held-out episodes; "Perceptron-TD3BC" would learn a policy inside it. This file is a config that
runs itself, and any field of it can be set: --config.world_models.perceptron.width=256
"""

from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from dwm_jax.config_files import load
from dwm_jax.networks.temporal_unet import mish, sinusoidal
from dwm_jax.registry import add_model
from dwm_jax.train import main
from dwm_jax.types import Array
from dwm_jax.world_models.dwm import DiffusionWorldModel


class Perceptron(nn.Module):
    """All rows at once through three dense layers; it does not know that rows follow each other."""

    width: int

    def embed_condition(self, action_A: Array, return_to_go: Array, keep_return: Array) -> Array:
        """Once per sample. Where `keep_return` is 0, the return must leave no trace: the last entry says so."""
        return jnp.concatenate([action_A, keep_return * jnp.stack([return_to_go, jnp.ones(())])])

    @nn.compact
    def denoise(self, x_TD: Array, k: Array, condition_E: Array) -> Array:
        """Noisy rows -> the noise, or the velocity, as `prediction` says; the network is the same for both."""
        hidden = jnp.concatenate([x_TD.ravel(), sinusoidal(k, 32), condition_E])
        for _ in range(3):
            hidden = mish(nn.Dense(self.width)(hidden))
        return nn.Dense(x_TD.size)(hidden).reshape(x_TD.shape)

    def __call__(self, x_TD: Array, k: Array, action_A: Array, return_to_go: Array) -> Array:
        """Everything at once; initialises all parameters."""
        return self.denoise(x_TD, k, self.embed_condition(action_A, return_to_go, jnp.ones(())))


@dataclass(frozen=True, kw_only=True)
class PerceptronWorldModel(DiffusionWorldModel):
    """DWM with another network; all other settings are DWM's."""

    title = "Perceptron"

    width: int = 512
    # Settings of the U-Net that mean nothing here are taken back: the config does not offer them.
    multipliers: tuple[int, ...] = field(default=(), init=False)
    activations: str = field(default="float32", init=False)

    @property
    def network(self) -> Any:
        return Perceptron(self.width)


add_model("perceptron", PerceptronWorldModel)


def get_config() -> ConfigDict:
    """DWM's settings in the smoke config, for the network above."""
    config = load("smoke")
    config.methods = "Perceptron"
    mine = config.world_models.perceptron
    mine.update({key: value for key, value in config.world_models.dwm.items() if key in mine})
    mine.num_updates = 400
    return config


if __name__ == "__main__":
    main(__file__, __doc__)
