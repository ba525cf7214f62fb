"""The one schema of a run's configuration, its checks, and its comparison with an earlier one.

Files under `experiments/configs/` start from `default_config()` and override a little; keys are locked, so a
misspelt one is refused. Settings of learners and models are the fields of their classes, with defaults and meaning
there. Only the modules that `tests/test_layers.py` lists, and `experiments/`, read a config.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ml_collections import ConfigDict, config_dict

from dwm_jax import limits
from dwm_jax.data import tasks
from dwm_jax.data.dataset import DISCOUNT
from dwm_jax.limits import value_at
from dwm_jax.registry import (
    LEARNERS,
    METHODS,
    MODELS,
    REPLACED_FOR_PESSIMISTS,
    Learning,
    Method,
    make_model,
    models_needed,
    split_names,
)
from dwm_jax.runtime import settings
from dwm_jax.runtime.alike import did_you_mean
from dwm_jax.world_models.base import Training, WorldModel

Made = TypeVar("Made")

# Keys that are places, not settings.
PLACES = ("world_model_dir",)
# Characters of a value in a difference.
LONGEST_SHOWN = 80


class ConfigError(ValueError):
    """What is wrong with a config, and what is allowed; one line."""


def default_config() -> ConfigDict:
    """The paper's settings (DWM appendix), on maze2d-umaze; every key there is.

    Two differ from the paper: imagined trajectories are drawn once per pair (`policy.imagined_per_pair = 0` draws fresh
    ones, as the paper does), and segments past the end of an episode are padded (`data.pad = "drop"` is the paper's).
    """
    config = ConfigDict()
    config.task = "maze2d-umaze"
    # Comma-separated cells of the grid (dwm_jax/registry.py), learnt one after the other on the same data.
    config.methods = "DWM-TD3BC"
    # Policies are learnt for the seeds seed .. seed + num_seeds - 1, side by side.
    config.seed = 0
    config.num_seeds = 5
    config.gamma = DISCOUNT
    # Updates in one dispatch to the devices; metrics are their means. Divides every other cadence below.
    # Fastest as a multiple of a learner's `policy_delay`.
    config.updates_per_dispatch = 1_000
    config.checkpoint_every = 50_000
    # Where finished world models are kept and found again; empty: `world_models` beside the workdir.
    config.world_model_dir = ""

    config.data = data = ConfigDict()
    data.num_steps = tasks.NUM_STEPS  # of data that is made on the spot (maze2d)
    data.seed = 0  # of data that is made on the spot, and of the choice of held-out episodes
    data.holdout_fraction = 0.05  # episodes no world model trains on; they measure its prediction error
    data.pad = "absorb"  # segments past the end of an episode: "absorb", or "drop" them as the paper does

    # Every model's training, and the settings that are its fields: dwm_jax/world_models/.
    config.world_models = ConfigDict(
        {name: {**model.training._asdict(), **settings.defaults(model)} for name, model in MODELS.items()}
    )

    config.policy = policy = ConfigDict()
    policy.num_updates = 500_000
    policy.batch_size = 128
    policy.horizon = 5  # H, of imagined trajectories and of *-H; other learners see one recorded step
    # Policies use imagined steps up to, not including, the first whose squared state error on held-out segments is
    # above this share of the data's variance, one step at least; 0: all H (phases/held_out.py).
    policy.largest_error = 0.0
    policy.return_to_go = 0.6  # g_eval, scaled like the training labels
    # The return that a world model is conditioned on for a pair: "constant", g_eval; or "reachable", the smaller of
    # g_eval and the world model's reachable_quantile of what pairs like it reached in the data.
    policy.ask = "constant"
    # 1: H-step return; below: lambda-return. One entry per learner.
    policy.lambda_ = ConfigDict({name: learner.default_lambda for name, learner in LEARNERS.items()})
    # Share of a batch, on average, that is drawn from the first 20 steps of episodes besides what chance draws there.
    policy.start_share = 0.0
    # Imagined trajectories kept per data pair, drawn in bulk; 0 draws afresh in every update. Recorded data also have
    # one a pair; scores with 1, 4, 16 and fresh ones agree within their spread (PERFORMANCE.md). *+RTG, whose world
    # model changes, always draws afresh.
    policy.imagined_per_pair = 1
    # Updates after which they are drawn anew; 0: never, and a world model that follows the policy, whose
    # trajectories age as the policy learns, is drawn afresh in every update.
    policy.refresh_every = 0
    # Data pairs between two refreshes, chosen anew at each; 0: all of them.
    policy.imagined_pairs = 0
    # PQL: m imaginations of a pair are compared, and rewards lowered by kappa times their disagreement.
    policy.pessimism = ConfigDict({"num_samples": 4, "kappa": 0.1})
    # DA-*: share of generated transitions among the pairs, not counting those that `start_share` repeats.
    policy.generated_fraction = 0.5
    # DAWM-*: how much of a batch are imagined pairs with inferred actions, on average; 0: DWM-*, 1: nothing else.
    policy.inferred_share = 0.5
    policy.relabelling_warm_up = 0.1  # *+RTG: fraction of the updates before the world model is fine-tuned

    # Every learner's settings, which are its fields: dwm_jax/learners/.
    config.learners = ConfigDict({name: settings.defaults(learner) for name, learner in LEARNERS.items()})

    config.evaluation = evaluation = ConfigDict()
    evaluation.every = 50_000
    evaluation.episodes = 10
    evaluation.seed = 1_000

    config.diagnostics = ConfigDict()
    # Horizons at which the world models' sampling is timed; each costs a compilation. () leaves it out.
    config.diagnostics.sampling_horizons = (1, 3, 5, 7)
    config.lock()
    return config


def refuse_incomplete(config: ConfigDict, name: str) -> None:
    """Refuses a config that lacks a part of the schema, as one may that did not start from `default_config`.

    Raises:
      ConfigError: naming some of what is missing.
    """
    present = _flat(config.to_dict())
    missing = [key for key in _flat(default_config().to_dict()) if key not in present]
    if missing:
        shown = ", ".join(missing[:3]) + (" and more" if len(missing) > 3 else "")
        raise ConfigError(f"--config {name} lacks {shown}; start from dwm_jax.config.default_config()")


def methods_of(config: ConfigDict) -> dict[str, Method]:
    """The methods a config names, in its order.

    Raises:
      ConfigError: an unknown method, or none.
    """
    names = split_names(config.methods)
    if not names:
        raise ConfigError(f"methods={config.methods!r} names no method; known: {', '.join(METHODS)}")
    for name in names:
        if name not in METHODS:
            meant = did_you_mean(name, METHODS)
            raise ConfigError(
                f"methods={config.methods!r}: unknown method {name!r}; {meant}known: {', '.join(METHODS)}"
            )
    return {name: METHODS[name] for name in names}


def models_of(config: ConfigDict) -> list[str]:
    """Keys of `registry.MODELS` that a config's methods need, each once; those with `pretrained` set come first."""
    names = models_needed(methods_of(config).values())
    return sorted(names, key=lambda name: not config.world_models[name].pretrained)


def check(config: ConfigDict, num_devices: int) -> None:
    """Refuses every setting, of those the chosen methods use, that can be known to be wrong before any compute.

    Raises:
      ConfigError: naming the key, the value and what is allowed.
    """

    def require(condition: bool, key: str, allowed: str) -> None:
        if not condition and limits.is_used(key, config, methods.values()):
            raise ConfigError(f"{key}={value_at(config, key)!r} is not allowed: {allowed}")

    settings, defaults = _flat(config.to_dict()), _flat(default_config().to_dict())
    for key, value in settings.items():
        if value is None and defaults.get(key) is not None:
            raise ConfigError(f"{key}=None is not allowed: leave it out for its default, {defaults[key]!r}")
    methods = methods_of(config)
    if not tasks.is_known(config.task):
        require(False, "task", tasks.suggest_names(config.task))
    limits.check_kinds(settings, defaults, require)
    limits.check_numbers(config, require)
    _check_pool(config, require)
    _check_made(config, methods, require)
    _check_distilled(config, methods, require)
    _check_batches(config, num_devices, require)
    for key, value in settings.items():
        # Used or not: as NaN differs from itself, the run's own config would be another one as it is started again.
        if value != value:
            raise ConfigError(f"{key}={value} is not allowed: a number")


def refuse_unprepared(config: ConfigDict) -> None:
    """Refuses a task whose data is not on this machine. `check` does not: a config is in order without its data.

    Raises:
      ConfigError: with the command that prepares it.
    """
    try:
        tasks.refuse_unprepared(config.task)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _check_pool(config: ConfigDict, require: limits.Require) -> None:
    """The settings of the pool of imagined trajectories go together."""
    policy = config.policy
    pooled = policy.refresh_every == 0 or policy.imagined_per_pair > 0
    require(pooled, "policy.refresh_every", "0 where policy.imagined_per_pair = 0: nothing is kept to be refreshed")
    refreshed = policy.imagined_pairs == 0 or policy.refresh_every > 0
    require(refreshed, "policy.imagined_pairs", "0 (all) without policy.refresh_every: the others would never be seen")
    whole = policy.refresh_every % config.updates_per_dispatch == 0
    require(whole, "policy.refresh_every", f"a multiple of updates_per_dispatch = {config.updates_per_dispatch}")


def _check_made(config: ConfigDict, methods: dict[str, Method], require: limits.Require) -> None:
    """Learners and world models accept their settings, and can do what the run asks of them."""
    for learner in {method.learner for method in methods.values() if isinstance(method, Learning)}:
        told = {"observation_size": 1, "action_size": 1, "num_updates": 1}
        _made_at(config, f"learners.{learner}", LEARNERS[learner], **told)
    imagining = {method.model for method in methods.values() if isinstance(method, Learning)}
    inferred = {method.model for method in methods.values() if isinstance(method, Learning) and method.infers_actions}
    longest = max(config.diagnostics.sampling_horizons, default=1)
    for name in models_of(config):
        model = _made_at(config, f"world_models.{name}", partial(make_model, name))
        if isinstance(model, WorldModel) and model.longest_horizon is not None:
            limit = f"at most {model.longest_horizon}, the longest that the world model {name} imagines"
            reached = longest <= model.longest_horizon
            require(reached, "diagnostics.sampling_horizons", limit)
            require(config.policy.horizon <= model.longest_horizon, "policy.horizon", limit)
        if name in inferred and config.policy.inferred_share > 0:
            length = f"world_models.{name}.sequence_length"
            require(model.sequence_length >= 3, length, "at least 3 for an imagined pair (policy.inferred_share > 0)")
        if config.policy.ask == "reachable" and "reachable_quantile" in config.world_models[name]:
            level = f"world_models.{name}.reachable_quantile"
            require(value_at(config, level) > 0, level, 'above 0 where policy.ask = "reachable": 0.9, say')
        if name in imagining and name in REPLACED_FOR_PESSIMISTS.values():
            limit = f"at most world_models.{name}.num_members = {config.world_models[name].num_members}"
            samples = config.policy.pessimism.num_samples
            require(samples <= config.world_models[name].num_members, "policy.pessimism.num_samples", limit)


def _check_distilled(config: ConfigDict, methods: dict[str, Method], require: limits.Require) -> None:
    """A distillation takes whole dispatches, and no method that trains the denoiser on uses a distilled model."""
    for name in models_of(config):
        if not config.world_models[name].get("distil"):
            continue
        for one, method in methods.items():
            goes_on = isinstance(method, Learning) and method.relabels_returns and method.model == name
            require(not goes_on, f"world_models.{name}.distil", f"False for {one}, which goes on to train the denoiser")
        updates, each = f"world_models.{name}.distil_updates", config.updates_per_dispatch
        whole = value_at(config, updates) % each == 0 and value_at(config, updates) > 0
        require(whole, updates, f"a multiple of updates_per_dispatch = {each}")


def _check_batches(config: ConfigDict, num_devices: int, require: limits.Require) -> None:
    """Batches can be divided among the devices; cadences and numbers of updates are whole dispatches."""
    for key in ["policy.batch_size"] + [f"world_models.{name}.batch_size" for name in config.world_models]:
        size = value_at(config, key)
        require(size >= 1 and size % num_devices == 0, key, f"a multiple of the {num_devices} device(s)")
    cadences = ["policy.num_updates", "checkpoint_every", "evaluation.every"]
    for key in cadences + [f"world_models.{name}.num_updates" for name in config.world_models]:
        allowed = f"a multiple of updates_per_dispatch = {config.updates_per_dispatch}"
        require(value_at(config, key) % config.updates_per_dispatch == 0 and value_at(config, key) > 0, key, allowed)


def settings_at(config: ConfigDict, key: str) -> dict[str, Any]:
    """The settings of a learner or model at a key, without those that only a model's training reads."""
    return {name: value for name, value in value_at(config, key).items() if name not in Training._fields}


def _made_at(config: ConfigDict, key: str, make: Callable[..., Made], **told: int) -> Made:
    """Makes a component of the settings at a key; a refused setting is named by its whole dotted key."""
    try:
        return make(**told, **settings_at(config, key))
    except ValueError as error:
        raise ConfigError(f"{key}.{error}") from error


def to_json(config: ConfigDict) -> str:
    """The config as readable JSON."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def without_places(config: ConfigDict) -> ConfigDict:
    """The config without what says where things lie: a run that was moved, or mounted elsewhere, is the same run.

    Without `pretrained` where it is off, too: runs from before there was one are the same.
    """
    settings = config.copy_and_resolve_references()
    with settings.unlocked():
        for key in PLACES:
            del settings[key]
        for model in settings.world_models.values():
            if "pretrained" in model and not model.pretrained:
                del model["pretrained"]
    return settings


def differences(config: ConfigDict, earlier: dict[str, Any]) -> list[str]:
    """`key: earlier -> now` for every setting in which two configs differ; empty when they are the same.

    Args:
      earlier: as `to_json` wrote it.
    """
    earlier = {key: value for key, value in earlier.items() if key not in PLACES}
    return changes(earlier, json.loads(to_json(without_places(config))))


def changes(earlier: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`key: earlier -> now` for every leaf in which two trees of settings differ; long values are cut."""
    earlier, now = (
        {key: value for key, value in _flat(tree).items() if value or not key.endswith(".pretrained")}
        for tree in (earlier, now)
    )
    return [
        f"{key}: {_short(earlier.get(key, '(absent)'))} -> {_short(now.get(key, '(absent)'))}"
        for key in sorted(earlier.keys() | now.keys())
        if earlier.get(key, config_dict.placeholder) != now.get(key, config_dict.placeholder)
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
