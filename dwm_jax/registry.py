"""The names a config may use: learners, world models, and the grid of methods they span.

A method is one cell of the grid learner x trajectory source; its name is the paper's, in tables and files alike.
"""

from collections.abc import Callable
from typing import NamedTuple

from dwm_jax.learners.base import Learner
from dwm_jax.learners.td3_bc import td3_bc
from dwm_jax.world_models.base import WorldModel
from dwm_jax.world_models.diffusion import diffusion_world_model
from dwm_jax.world_models.one_step import one_step_world_model

LEARNERS: dict[str, Callable[..., Learner]] = {"td3_bc": td3_bc}

WORLD_MODELS: dict[str, Callable[..., WorldModel]] = {
    "dwm": diffusion_world_model,
    "one_step": one_step_world_model,
}


class Method(NamedTuple):
    """One cell of the grid."""

    learner: str  # a key of LEARNERS
    world_model: str | None  # a key of WORLD_MODELS, None for recorded data


METHODS = {
    "TD3+BC": Method("td3_bc", None),
    "DWM-TD3BC": Method("td3_bc", "dwm"),
    "OneStep-TD3BC": Method("td3_bc", "one_step"),
}
