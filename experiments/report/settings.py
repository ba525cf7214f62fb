"""What a run was set to, as far as a study compares it: read from its config, by the heads of the report's columns."""

from collections.abc import Callable
from typing import Any

from dwm_jax.registry import METHODS


def _horizon(config: dict[str, Any], method: str) -> str:
    return str(config["policy"]["horizon"]) if _imagines(method) else ""


def _sequence_length(config: dict[str, Any], method: str) -> str:
    model = METHODS[method].model
    return str(config["world_models"][model].get("sequence_length", "")) if _imagines(method) else ""


def _return_to_go(config: dict[str, Any], method: str) -> str:
    return "" if METHODS[method].model is None else f"{config['policy']['return_to_go']:g}"


def _lambda(config: dict[str, Any], method: str) -> str:
    return f"{config['policy']['lambda_'][METHODS[method].learner]:g}" if _imagines(method) else ""


def _imagines(method: str) -> bool:
    """Learns from imagined trajectories: neither from recorded or made-up transitions alone, nor by planning."""
    cell = METHODS[method]
    return cell.learner is not None and cell.model not in (None, "transition_diffusion")


# What a study may compare, read from a run's config; by the head of its column.
SETTINGS: dict[str, Callable[[dict[str, Any], str], str]] = {
    "H": _horizon,
    "T": _sequence_length,
    "return-to-go": _return_to_go,
    "lambda": _lambda,
}


def settings_of(config: dict[str, Any], method: str) -> dict[str, str]:
    """Every setting of one method; "" for one it has not."""
    return {name: setting(config, method) for name, setting in SETTINGS.items()}
