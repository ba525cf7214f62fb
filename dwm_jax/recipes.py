"""What configs are made of: two recipes, and sizes.

A recipe is how a run treats what the paper's settings leave open to go wrong, whatever its sizes.

*paper* is the method as published. *recommended* differs from it in the parts of `WITHOUT`, which `python -m
experiments.sweep attribution` takes away one by one. Every method of a comparison gets the same recipe, those without a
world model included.
"""

from collections.abc import Callable
from typing import NamedTuple

from ml_collections import ConfigDict

from dwm_jax.registry import LEARNERS
from dwm_jax.runtime.settings import defaults


class Recipe(NamedTuple):
    """What a recipe decides; where each goes is `apply`'s to know."""

    normalizer: str
    prediction: str
    # Of the diffusion models that imagine: K, N, w and the factor on the sampler's noise.
    num_diffusion_steps: int
    num_sampling_steps: int
    guidance_weight: float
    temperature: float
    terminations: bool
    reachable_quantile: float
    ask: str
    largest_error: float
    start_share: float
    layer_norm: bool


# As published: noise prediction between empirical CDFs, sharpened samples, no terminations, one return for all, all H
# steps, plain critics.
PAPER = Recipe(
    normalizer="cdf",
    prediction="noise",
    num_diffusion_steps=5,
    num_sampling_steps=3,
    guidance_weight=1.2,
    temperature=0.5,
    terminations=False,
    reachable_quantile=0.0,
    ask="constant",
    largest_error=0.0,
    start_share=0.0,
    layer_norm=False,
)
RECOMMENDED = Recipe(
    # The empirical CDF spreads a few extreme values over much of its range: a small error there is a wild state.
    normalizer="standard",
    # Trained alike at every diffusion step, the last one - where sampling starts - included.
    prediction="velocity",
    # Draws from the distribution, not its centre: the mean of many ways to go on is often one that nobody goes, worth
    # the same whatever the action. Ten calls of the network without guidance's second branch, for six of the paper's.
    num_diffusion_steps=20,
    num_sampling_steps=10,
    guidance_weight=1.0,
    temperature=1.0,
    # Imagined falls end the trajectory; otherwise the fallen are worth a healthy robot's return.
    terminations=True,
    # One return for all asks a falling robot not to fall, and the world model obliges.
    reachable_quantile=0.9,
    ask="reachable",
    # Where less than two thirds of what states do is foretold, critics learn more from their own word for what follows.
    largest_error=0.33,
    # A robot's evaluation begins where few pairs are: a policy that stands still there shows nothing of what it learnt.
    start_share=0.1,
    # ReLU critics extrapolate at states no update visits, and bootstrap what they extrapolate.
    layer_norm=True,
)


def paper(config: ConfigDict) -> None:
    """The method as published, in place."""
    apply(PAPER, config)


def recommended(config: ConfigDict) -> None:
    """What small models and rough data turned out to need beyond the paper, in place."""
    apply(RECOMMENDED, config)


def apply(recipe: Recipe, config: ConfigDict) -> None:
    """Sets what the recipe decides, in place. A planner samples as published: its plans are acted on, not valued."""
    shared = {
        "observation_normalizer": recipe.normalizer,
        "normalizer": recipe.normalizer,  # of whole rows, where a model has but one
        "prediction": recipe.prediction,
        "terminations": recipe.terminations,
        "reachable_quantile": recipe.reachable_quantile,
    }
    sampling = {
        name: getattr(recipe, name)
        for name in ("num_diffusion_steps", "num_sampling_steps", "guidance_weight", "temperature")
    }
    for settings in config.world_models.values():
        settings.update({key: value for key, value in shared.items() if key in settings})
    for settings in (config.world_models.dwm, config.world_models.autoregressive):
        settings.update(sampling)
    for name, settings in config.learners.items():
        if "layer_norm" in settings:  # ReBRAC is published with it, and keeps it
            settings.layer_norm = recipe.layer_norm or defaults(LEARNERS[name])["layer_norm"]
    config.policy.ask = recipe.ask
    config.policy.largest_error = recipe.largest_error
    config.policy.start_share = recipe.start_share


# What the recommended recipe adds, part by part: the overrides that take one away again.
WITHOUT: dict[str, dict[str, str]] = {
    "normaliser": {"world_models.dwm.observation_normalizer": "cdf"},
    "velocity": {"world_models.dwm.prediction": "noise"},
    "sampling": {
        "world_models.dwm.num_diffusion_steps": "5",
        "world_models.dwm.num_sampling_steps": "3",
        "world_models.dwm.guidance_weight": "1.2",
        "world_models.dwm.temperature": "0.5",
    },
    "terminations": {"world_models.dwm.terminations": "False"},
    "reachable": {"policy.ask": "constant"},
    "trust": {"policy.largest_error": "0.0"},
    "layer_norm": {"learners.td3_bc.layer_norm": "False", "learners.iql.layer_norm": "False"},
    "starts": {"policy.start_share": "0.0"},
}
RECIPES: dict[str, Callable[[ConfigDict], None]] = {"paper": paper, "recommended": recommended}


def task_and_recipe(argument: str, default: str) -> tuple[str, Callable[[ConfigDict], None]]:
    """Reads a config file's argument "TASK" or "TASK,RECIPE".

    Raises:
      ValueError: an unknown recipe.
    """
    task, _, recipe = argument.partition(",")
    if (recipe or default) not in RECIPES:
        raise ValueError(f"{argument}: unknown recipe {recipe!r}; known: {', '.join(RECIPES)}")
    return task, RECIPES[recipe or default]


def shrink_models(config: ConfigDict, num_updates: int) -> None:
    """Sizes of every model that two CPU cores train in minutes, in place.

    Args:
      num_updates: of the diffusion models and the Transformer; a distillation gets half as many, the one-step models
        half as many but at least 5,000, Decision Diffuser, whose sequences are four times as long, half as many.
    """
    models = config.world_models
    diffusion = {
        "num_updates": num_updates,
        "width": 32,
        "multipliers": (1, 2, 4),
        "learning_rate": 1e-3,
        # The paper's EMA (0.995 every 10 updates) looks back 2,000 updates: after a run this short an eighth of it
        # would still be the random initial weights.
        "ema_rate": 0.95,
    }
    models.dwm.update(diffusion)
    models.autoregressive.update(diffusion)
    models.autoregressive.multipliers = (1, 2)  # two rows are halved once
    models.dwm.distil_updates = models.autoregressive.distil_updates = num_updates // 2
    models.decision_diffuser.update(diffusion)
    models.decision_diffuser.num_updates = num_updates // 2
    models.decision_diffuser.inverse_hidden = (256, 256, 256)
    models.transition_diffusion.update(diffusion)
    models.transition_diffusion.width = 64  # at T = 1 the group norm needs several channels a group

    models.transformer.update({"num_updates": num_updates, "num_layers": 2, "width": 64, "learning_rate": 1e-3})
    for one_step in (models.one_step, models.ensemble):
        one_step.update(
            {"num_updates": max(5_000, num_updates // 2), "hidden": (128, 128, 128, 128), "learning_rate": 3e-4}
        )
    models.inverse_dynamics.update({"num_updates": 5_000, "learning_rate": 1e-3})
