"""Which settings the chosen methods use, and the bounds of every number.

A setting that the chosen methods do not use is not checked: a run of TD3+BC accepts any depth of a world model.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from dwm_jax.data import tasks
from dwm_jax.imagination.sources import ASK
from dwm_jax.registry import LEARNERS, MODELS, Learning, Method, models_needed
from dwm_jax.runtime.keys import NUM_SEEDS
from dwm_jax.types import LARGEST_INDEX
from dwm_jax.world_models.base import Generator

# (condition, dotted key, what is allowed) -> None; raises where the condition is false and the key is used.
Require = Callable[[bool, str, str], None]

# Seeds are learnt side by side, and each evaluates its episodes side by side: every one has an environment of its own.
MOST_SEEDS = 10_000
MOST_EPISODES = 10_000
# Of pairs that are repeated or made up among all: 19 for each recorded one. With a share of 1 there would be no end.
MOST_SHARE = 0.95
# Settings under `policy` that say how much of a world model's trajectories is kept.
OF_A_POOL = ("imagined_per_pair", "imagined_pairs", "refresh_every")


def is_used(key: str, config: ConfigDict, methods: Iterable[Method]) -> bool:
    """Whether a setting (a dotted key) may change what these methods do; False only where it certainly does not."""
    group, _, rest = key.partition(".")
    name = rest.split(".")[0]
    methods = list(methods)
    learning = [method for method in methods if isinstance(method, Learning)]
    learners = {method.learner for method in learning}
    models = models_needed(methods)
    generators = {name for name in models if issubclass(MODELS[name], Generator)}
    imagining = [method for method in learning if method.model is not None and method.model not in generators]
    if group == "learners":
        return name in learners
    if group == "world_models":
        return name in models
    if group == "data" and name in ("num_steps", "seed"):
        return config.task in tasks.MADE_TASKS or name == "seed"
    if group != "policy":
        return True
    if name == "lambda_":
        return rest.split(".")[1] in learners
    if name == "pessimism":
        return any(LEARNERS[method.learner].pessimistic for method in imagining)
    if name == "largest_error":
        return bool(imagining)
    if name == "generated_fraction":
        return bool(generators)
    if name == "inferred_share":
        return any(method.infers_actions for method in learning)
    if name == "relabelling_warm_up":
        return any(method.relabels_returns for method in learning)
    if name in OF_A_POOL:
        # What is relabelled changes the world model, whose trajectories are drawn afresh.
        return any(not method.relabels_returns for method in imagining)
    if name == "horizon":
        return bool(models) or any(method.looks_ahead for method in learning)
    if name in ("return_to_go", "ask"):
        return bool(models)
    return bool(learning)


def check_kinds(config: Mapping[str, Any], defaults: Mapping[str, Any], require: Require) -> None:
    """A number is not True or False, which Python takes for 1 and 0; a whole one is no larger than jax can count.

    Args:
      config, defaults: by dotted key. A setting is a number where its default is one.

    Raises:
      ConfigError: by `require`, naming the key.
    """
    largest = f"at most {LARGEST_INDEX:,}, the largest that jax counts"
    for key, value in config.items():
        default = defaults.get(key, value)
        is_number = isinstance(default, int | float) and not isinstance(default, bool)
        require(not (is_number and isinstance(value, bool)), key, "a number, not True or False")
        has_own_bounds = key.rpartition(".")[2] == "seed"
        require(not isinstance(value, int) or has_own_bounds or value <= LARGEST_INDEX, key, largest)


def check_numbers(config: ConfigDict, require: Require) -> None:
    """Seeds, sizes, rates and horizons.

    Raises:
      ConfigError: by `require`, naming the key.
    """
    last = config.seed + config.num_seeds
    require(config.seed >= 0 and last <= NUM_SEEDS, "seed", f"0 or more, and seed + num_seeds at most {NUM_SEEDS:,}")
    last = config.evaluation.seed + config.evaluation.episodes
    allowed = f"0 or more, and evaluation.seed + evaluation.episodes at most {NUM_SEEDS:,}"
    require(config.evaluation.seed >= 0 and last <= NUM_SEEDS, "evaluation.seed", allowed)
    require(0 <= config.data.seed < NUM_SEEDS, "data.seed", f"from 0 to {NUM_SEEDS - 1:,}")
    horizons = config.diagnostics.sampling_horizons
    require(not horizons or are_sizes(horizons), "diagnostics.sampling_horizons", "whole numbers, all at least 1")
    require(math.isfinite(config.policy.return_to_go), "policy.return_to_go", "a finite number")
    for learner, lambda_ in config.policy.lambda_.items():
        require(0 <= lambda_ <= 1, f"policy.lambda_.{learner}", "in [0, 1]")
    for key, (is_allowed, rule) in OF_A_RUN.items():
        require(is_allowed(value_at(config, key)), key, rule)
    for group in ("learners", "world_models"):
        for name, settings in config[group].items():
            for key, value in settings.items():
                is_allowed, rule = BOUNDS.get(key, FINITE)
                require(is_allowed(value), f"{group}.{name}.{key}", rule)


def are_sizes(values: Any) -> bool:
    """Whether these are whole numbers of at least 1 that jax can index, at least one of them; True is none."""
    whole = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    return 0 < len(values) == len(whole) and all(1 <= value <= LARGEST_INDEX for value in whole)


def value_at(config: ConfigDict | Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


# By dotted key, in the order in which they are looked at: updates_per_dispatch divides others afterwards.
OF_A_RUN: dict[str, tuple[Callable[[Any], bool], str]] = {
    "num_seeds": (lambda v: 1 <= v <= MOST_SEEDS, f"at least 1 and at most {MOST_SEEDS:,}: they learn side by side"),
    "updates_per_dispatch": (lambda v: v >= 1, "at least 1"),
    "gamma": (lambda v: 0 < v <= 1, "a discount in (0, 1]"),
    "data.num_steps": (lambda v: v >= 1, "at least 1"),
    "data.holdout_fraction": (lambda v: 0 <= v < 1, "a fraction in [0, 1)"),
    "data.pad": (lambda v: v in ("absorb", "drop"), '"absorb" or "drop"'),
    "policy.horizon": (lambda v: v >= 1, "at least 1"),
    "policy.largest_error": (lambda v: 0 <= v < math.inf, "0 (never looked at) or more"),
    "policy.num_updates": (lambda v: v >= 1, "at least 1"),
    "policy.imagined_per_pair": (lambda v: v >= 0, "0 (fresh) or more"),
    "policy.imagined_pairs": (lambda v: v >= 0, "0 (all) or more"),
    "policy.refresh_every": (lambda v: v >= 0, "0 (never) or more"),
    "policy.start_share": (lambda v: 0 <= v <= MOST_SHARE, f"a fraction in [0, {MOST_SHARE}]"),
    "policy.ask": (lambda v: v in ASK, f"one of {', '.join(ASK)}"),
    "policy.pessimism.num_samples": (lambda v: v >= 2, "at least 2, to disagree"),
    "policy.pessimism.kappa": (lambda v: 0 <= v < math.inf, "0 or more"),
    "policy.generated_fraction": (lambda v: 0 <= v <= MOST_SHARE, f"a fraction in [0, {MOST_SHARE}]"),
    "policy.inferred_share": (lambda v: 0 <= v <= 1, "a fraction in [0, 1]"),
    "policy.relabelling_warm_up": (lambda v: 0 <= v <= 1, "a fraction in [0, 1]"),
    "evaluation.episodes": (
        lambda v: 1 <= v <= MOST_EPISODES,
        f"at least 1 and at most {MOST_EPISODES:,}: they run side by side",
    ),
}
# By the name of a setting of a learner or world model.
BOUNDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (lambda v: 0 <= v < NUM_SEEDS, f"from 0 to {NUM_SEEDS - 1:,}"),
    "hidden": (are_sizes, "widths of at least 1, one a layer"),
    "inverse_hidden": (are_sizes, "widths of at least 1, one a layer"),
    "multipliers": (are_sizes, "whole numbers of at least 1, one a level"),
    "width": (lambda v: v >= 1, "at least 1"),
    "alpha": (lambda v: 0 <= v < math.inf, "0 or more"),
    "learning_rate": (lambda v: 0 < v < math.inf, "above 0"),
    "critic_learning_rate": (lambda v: 0 < v < math.inf, "above 0"),
    "actor_penalty": (lambda v: 0 <= v < math.inf, "0 or more"),
    "critic_penalty": (lambda v: 0 <= v < math.inf, "0 or more"),
    "reward_scale": (lambda v: 0 < v < math.inf, "above 0"),
    "target_rate": (lambda v: 0 < v <= 1, "in (0, 1]"),
    "policy_noise": (lambda v: 0 <= v < math.inf, "0 or more"),
    "noise_clip": (lambda v: 0 <= v < math.inf, "0 or more"),
    "policy_delay": (lambda v: v >= 1, "at least 1"),
    "beta": (lambda v: 0 <= v < math.inf, "0 or more"),
    "weight_clip": (lambda v: v > 0, "above 0"),
    "num_diffusion_steps": (lambda v: v >= 1, "at least 1"),
    "temperature": (lambda v: 0 <= v < math.inf, "0 or more"),
    "guidance_weight": (lambda v: 0 <= v < math.inf, "0 or more"),
}
# Of every other setting; a component checks those that have a rule of their own when it is made.
FINITE: tuple[Callable[[Any], bool], str] = (
    lambda v: not isinstance(v, float) or math.isfinite(v),
    "a finite number",
)
