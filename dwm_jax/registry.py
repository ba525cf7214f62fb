"""The names a config may use: learners, what is pretrained, and the methods they make up.

The paper's methods are cells of the grid learner x trajectory source; a method's name is the paper's, in tables and
files alike. A new learner or model is one line here.
"""

from collections.abc import Callable
from typing import NamedTuple

from dwm_jax.learners.base import Learner
from dwm_jax.learners.iql import IQL, PQL
from dwm_jax.learners.td3_bc import TD3BC
from dwm_jax.world_models.autoregressive import autoregressive_diffusion
from dwm_jax.world_models.base import Generator, Planner, WorldModel
from dwm_jax.world_models.decision_diffuser import decision_diffuser
from dwm_jax.world_models.dwm import diffusion_world_model
from dwm_jax.world_models.one_step import one_step_world_model
from dwm_jax.world_models.transformer import transformer_world_model
from dwm_jax.world_models.transition_diffusion import transition_diffusion

LEARNERS: dict[str, type[Learner]] = {"td3_bc": TD3BC, "iql": IQL, "pql": PQL}

# What is pretrained on segments; the keys are those of `config.world_models`.
MODELS: dict[str, Callable[..., WorldModel | Planner | Generator]] = {
    "dwm": diffusion_world_model,
    "one_step": one_step_world_model,
    "ensemble": one_step_world_model,
    "transformer": transformer_world_model,
    "autoregressive": autoregressive_diffusion,
    "decision_diffuser": decision_diffuser,
    "transition_diffusion": transition_diffusion,
}


# Those that are asked for a return-to-go; the others follow actions, or make up whole transitions.
ASKED_FOR_A_RETURN = frozenset({"dwm", "transformer", "autoregressive", "decision_diffuser"})


class Method(NamedTuple):
    """Who learns, and from what."""

    # A key of LEARNERS; None: nobody learns; a planner then acts by itself.
    learner: str | None
    # A key of MODELS: imagines trajectories, makes up transitions, or plans. None: recorded data alone.
    model: str | None = None
    # Whether it learns from the next H = policy.horizon recorded steps, where a learner without a model takes one.
    looks_ahead: bool = False
    # Return-to-go relabelling: the world model is fine-tuned on returns that the learner's values have raised.
    relabels_returns: bool = False


# World models by themselves: trained for whoever wants them next, and measured; nobody acts.
WORLD_MODELS_ALONE = {
    "DWM": Method(None, "dwm"),
    "OneStep": Method(None, "one_step"),
    "Ensemble": Method(None, "ensemble"),
    "T": Method(None, "transformer"),
    "AD": Method(None, "autoregressive"),
}

METHODS = {
    "TD3+BC": Method("td3_bc"),
    "TD3+BC-H": Method("td3_bc", looks_ahead=True),
    "DWM-TD3BC": Method("td3_bc", "dwm"),
    "OneStep-TD3BC": Method("td3_bc", "one_step"),
    "T-TD3BC": Method("td3_bc", "transformer"),
    "AD-TD3BC": Method("td3_bc", "autoregressive"),
    "IQL": Method("iql"),
    "IQL-H": Method("iql", looks_ahead=True),
    "DWM-IQL": Method("iql", "dwm"),
    "OneStep-IQL": Method("iql", "one_step"),
    "T-IQL": Method("iql", "transformer"),
    "AD-IQL": Method("iql", "autoregressive"),
    "PQL": Method("pql"),
    "PQL-H": Method("pql", looks_ahead=True),
    "DWM-PQL": Method("pql", "dwm"),
    "OneStep-PQL": Method("pql", "ensemble"),
    "T-PQL": Method("pql", "transformer"),
    "AD-PQL": Method("pql", "autoregressive"),
    "DWM-IQL+RTG": Method("iql", "dwm", relabels_returns=True),
    "DA-TD3BC": Method("td3_bc", "transition_diffusion"),
    "DA-IQL": Method("iql", "transition_diffusion"),
    "DA-PQL": Method("pql", "transition_diffusion"),
    "DD": Method(None, "decision_diffuser"),
} | WORLD_MODELS_ALONE


def names_in(methods: str) -> list[str]:
    """The methods that a config's text names, in its order."""
    return [name.strip() for name in methods.split(",") if name.strip()]
