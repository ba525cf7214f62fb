"""What configs are built from: two recipes, and sizes of the models.

A recipe sets normalisers, prediction target, sampling, terminations, what return is asked for, how far imagination is
trusted, how often starts are drawn, layer norm and the discount, whatever the sizes.

*paper* is the method as published, but for the two settings that `config.default_config` names. *recommended* differs
from it in the parts of `WITHOUT`, which `python -m experiments.sweep attribution` takes away one by one. All methods of
a comparison get the same recipe, those without a world model included.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from dwm_jax.data.dataset import DISCOUNT
from dwm_jax.registry import LEARNERS, MODELS
from dwm_jax.runtime.settings import defaults
from dwm_jax.world_models.dwm import DiffusionWorldModel


class Recipe(NamedTuple):
    """The values that a recipe decides; `apply` puts each at its keys."""

    normalizer: str
    prediction: str
    # Of the diffusion models that imagine: K, N, w and the factor on the sampler's noise.
    num_diffusion_steps: int
    num_sampling_steps: int
    guidance_weight: float
    temperature: float
    terminations: bool
    termination_threshold: float
    reachable_quantile: float
    ask: str
    largest_error: float
    start_share: float
    layer_norm: bool
    gamma: float


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
    termination_threshold=0.0,
    reachable_quantile=0.0,
    ask="constant",
    largest_error=0.0,
    start_share=0.0,
    layer_norm=False,
    gamma=DISCOUNT,
)
RECOMMENDED = Recipe(
    # The empirical CDF gives a few extreme values much of its range: a small error there is a wild state.
    normalizer="standard",
    # Trained alike at every diffusion step, the last one - where sampling starts - included.
    prediction="velocity",
    # Spread: with an exact denoiser a Gaussian keeps 0.81 of its standard deviation, 0.28 with the paper's settings.
    # Samples near the conditional mean lose the action's effect on the future. Ten calls of the network, without
    # guidance's second branch, for six of the paper's.
    num_diffusion_steps=20,
    num_sampling_steps=10,
    guidance_weight=1.0,
    temperature=1.0,
    # An imagined termination cuts the bootstrap; without it states after a fall are valued like healthy ones.
    terminations=True,
    # Sampled in few steps, c of most terminations lies above -1 and of some above 0: at 0 a quarter or more are missed.
    termination_threshold=0.5,
    # One return for every pair asks for futures that some states cannot reach, and the world model imagines them.
    reachable_quantile=0.9,
    ask="reachable",
    # Beyond the step where a third of the states' variance is unexplained, bootstrapping is better than imagining on.
    largest_error=0.33,
    # Evaluations start where the data have few pairs, so the first steps of episodes are drawn more often.
    start_share=0.1,
    # Bounds what ReLU critics extrapolate, and bootstrap from, at states that no update visits.
    layer_norm=True,
    # Looks 333 steps ahead. At 0.99, which looks 100 ahead, a hopper that will fall after 300 of 1,000 steps is valued
    # like one that will not fall.
    gamma=0.997,
)


def apply_paper(config: ConfigDict) -> None:
    """The paper's settings of models and learners, in place; `config.default_config` names what differs."""
    apply(PAPER, config)


def apply_recommended(config: ConfigDict) -> None:
    """The paper's settings with the parts of `WITHOUT`, which small models and rough data need, in place."""
    apply(RECOMMENDED, config)


def apply(recipe: Recipe, config: ConfigDict) -> None:
    """Sets what the recipe decides, in place. A planner samples as published: its plans are acted on, not valued."""
    shared = {
        "observation_normalizer": recipe.normalizer,
        "normalizer": recipe.normalizer,  # of whole rows, where a model has but one
        "prediction": recipe.prediction,
        "terminations": recipe.terminations,
        "termination_threshold": recipe.termination_threshold,
        "reachable_quantile": recipe.reachable_quantile,
    }
    for name, settings in config.world_models.items():
        decided = shared | sampling_of(recipe) if issubclass(MODELS[name], DiffusionWorldModel) else shared
        settings.update({key: value for key, value in decided.items() if key in settings})
    for name, settings in config.learners.items():
        if "layer_norm" in settings:  # ReBRAC is published with it, and keeps it
            settings.layer_norm = recipe.layer_norm or defaults(LEARNERS[name])["layer_norm"]
    config.gamma = recipe.gamma
    config.policy.ask = recipe.ask
    config.policy.largest_error = recipe.largest_error
    config.policy.start_share = recipe.start_share


def sampling_of(recipe: Recipe) -> dict[str, Any]:
    """Of the diffusion models that imagine: K, N, w and the temperature."""
    names = ("num_diffusion_steps", "num_sampling_steps", "guidance_weight", "temperature")
    return {name: getattr(recipe, name) for name in names}


# What the recommended recipe adds, part by part: the overrides that take one away again.
WITHOUT: dict[str, dict[str, str]] = {
    "normaliser": {"world_models.dwm.observation_normalizer": PAPER.normalizer},
    "velocity": {"world_models.dwm.prediction": PAPER.prediction},
    "sampling": {f"world_models.dwm.{name}": str(value) for name, value in sampling_of(PAPER).items()},
    "terminations": {"world_models.dwm.terminations": str(PAPER.terminations)},
    "threshold": {"world_models.dwm.termination_threshold": str(PAPER.termination_threshold)},
    "reachable": {"policy.ask": PAPER.ask},
    "trust": {"policy.largest_error": str(PAPER.largest_error)},
    "layer_norm": {f"learners.{name}.layer_norm": str(PAPER.layer_norm) for name in ("td3_bc", "iql")},
    "starts": {"policy.start_share": str(PAPER.start_share)},
    "discount": {"gamma": str(PAPER.gamma)},
}
RECIPES: dict[str, Callable[[ConfigDict], None]] = {"paper": apply_paper, "recommended": apply_recommended}


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
    """Gives every model a size that two CPU cores train in minutes, in place.

    Args:
      num_updates: of the diffusion models and the Transformer; a distillation gets half as many, the one-step models
        half as many but at least 5,000, Decision Diffuser, whose sequences are four times as long, half as many. The
        inverse dynamics model always gets 5,000.
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
