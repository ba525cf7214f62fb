"""The settings that the studies vary: overrides of the config with their names, and what a run was set to."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dwm_jax.limits import value_at
from dwm_jax.recipes import WITHOUT
from dwm_jax.registry import METHODS, MODELS, Learning, learner_of
from dwm_jax.world_models.base import WorldModel

from ..configs.rebrac import find_published
from .scales import GRIDS, returns_to_go

# K of the world model with the long sequence; the usual one has 5.
LONG_NUM_DIFFUSION_STEPS = 10


class Setting(NamedTuple):
    """Overrides, and the name they give a variant."""

    name: str
    overrides: Mapping[str, str]


AS_CONFIGURED = Setting("", {})
DISTILLED = Setting("distilled", {"world_models.dwm.distil": "True"})


def combine(*settings: Setting) -> Setting:
    """All of them together; where two override the same key, the later one holds."""
    overrides = {key: value for setting in settings for key, value in setting.overrides.items()}
    return Setting("-".join(setting.name for setting in settings if setting.name), overrides)


def horizon_setting(steps: int) -> Setting:
    return Setting(f"H{steps}", {"policy.horizon": str(steps)})


def whole_horizon_setting(scale: str) -> Setting:
    """Overrides by which policies use the whole horizon named, even where a recipe would cut it (`largest_error`)."""
    return AS_CONFIGURED if scale == "paper" else Setting("", {"policy.largest_error": "0.0"})


def return_to_go_setting(return_to_go: float) -> Setting:
    return Setting(f"rtg{return_to_go:g}", {"policy.return_to_go": str(return_to_go)})


def searched_returns_to_go(task: str, scale: str) -> list[Setting]:
    """The returns-to-go searched, the middle first; the config's own where the paper names none."""
    return [return_to_go_setting(value) for value in returns_to_go(task, scale)] or [AS_CONFIGURED]


def searched_settings(task: str, scale: str, horizons: Sequence[int]) -> list[Setting]:
    """Horizon x return-to-go."""
    return [
        combine(horizon_setting(steps), asked) for steps in horizons for asked in searched_returns_to_go(task, scale)
    ]


def usual_setting(task: str, scale: str) -> Setting:
    """Horizon and return-to-go where neither is studied."""
    return searched_settings(task, scale, [GRIDS[scale].usual_horizon])[0]


def long_sequence_setting(scale: str) -> Setting:
    length = GRIDS[scale].long_sequence_length
    return Setting(
        f"T{length}",
        {
            "world_models.dwm.sequence_length": str(length),
            "world_models.dwm.num_diffusion_steps": str(LONG_NUM_DIFFUSION_STEPS),
        },
    )


def published_setting(task: str, scale: str) -> Setting:
    """ReBRAC as its authors set it on the task: penalties and learning rates, and at the paper's scales their batch.

    It has no name, as it is the same for every run on a task.
    """
    found = find_published(task)
    if found is None:
        return AS_CONFIGURED
    overrides = {f"learners.rebrac.{key}": str(value) for key, value in found.of_learner.items()}
    if GRIDS[scale] is GRIDS["paper"]:
        overrides["policy.batch_size"] = str(found.batch_size)
    return Setting("", overrides)


def setting_without(part: str) -> Setting:
    """The recommended recipe but for one part of it, a key of `recipes.WITHOUT`."""
    return Setting(f"without-{part}", WITHOUT[part])


def swept_methods(source: str, scale: str) -> list[str]:
    return [f"{source}-{learner}" for learner in GRIDS[scale].swept_learners]


def _horizon(config: dict[str, Any], method: str) -> str:
    return str(config["policy"]["horizon"]) if _looks_ahead(method) else ""


def _sequence_length(config: dict[str, Any], method: str) -> str:
    model = METHODS[method].model
    return str(config["world_models"][model].get("sequence_length", "")) if _imagines(method) else ""


def _return_to_go(config: dict[str, Any], method: str) -> str:
    return "" if METHODS[method].model is None else f"{config['policy']['return_to_go']:g}"


def _lambda(config: dict[str, Any], method: str) -> str:
    return f"{config['policy']['lambda_'][learner_of(METHODS[method])]:g}" if _looks_ahead(method) else ""


def _without(config: dict[str, Any], method: str) -> str:
    """The parts of the recommended recipe that a run of an imagining learner has not."""
    if not _imagines(method):
        return ""
    off = [
        part
        for part, overrides in WITHOUT.items()
        if all(_setting(config, key) in (None, value) for key, value in overrides.items())
    ]
    return "all" if len(off) == len(WITHOUT) else ", ".join(off) or "nothing"


def _setting(config: dict[str, Any], key: str) -> str | None:
    """A setting of a run as text; None where the run is older than the setting."""
    try:
        return str(value_at(config, key))
    except KeyError:
        return None


def _distilled(config: dict[str, Any], method: str) -> str:
    """Whether the world model of a run of an imagining learner makes a trajectory in one pass."""
    model = METHODS[method].model
    return ("yes" if config["world_models"][model].get("distil") else "no") if _imagines(method) else ""


def _looks_ahead(method: str) -> bool:
    """Learns from several steps, imagined or recorded."""
    cell = METHODS[method]
    return (isinstance(cell, Learning) and cell.looks_ahead) or _imagines(method)


def _imagines(method: str) -> bool:
    """Learns from imagined trajectories: neither from recorded or made-up transitions alone, nor by planning."""
    cell = METHODS[method]
    return isinstance(cell, Learning) and cell.model is not None and issubclass(MODELS[cell.model], WorldModel)


# What a study may compare, read from a run's config; by the head of its column.
SETTINGS: dict[str, Callable[[dict[str, Any], str], str]] = {
    "H": _horizon,
    "T": _sequence_length,
    "return-to-go": _return_to_go,
    "lambda": _lambda,
    "without": _without,
    "distilled": _distilled,
}


def settings_of(config: dict[str, Any], method: str) -> dict[str, str]:
    """Every setting of one method; "" for one it has not."""
    return {name: setting(config, method) for name, setting in SETTINGS.items()}
