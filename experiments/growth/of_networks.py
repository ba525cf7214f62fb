"""Growth with the networks: rows of a trajectory, width, ensemble members, seeds side by side, virtual devices."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from dwm_jax.config import settings_at
from dwm_jax.data import dataset as data
from dwm_jax.phases.pretraining import training_rows, update_from_segments
from dwm_jax.registry import make_model
from dwm_jax.runtime import parallel

from ..benchmark.denoiser import make_repeated_dispatch
from ..benchmark.policies import make_learning
from ..benchmark.processes import call_in_fresh_process, with_virtual_devices
from ..benchmark.settings import FULL, SIZES, random_dataset
from .points import Point, cpu_seconds

PLAN = FULL._replace(num_steps=20_000)
UPDATES = 10  # of a dispatch
LENGTHS, WIDTHS, MEMBERS = (8, 16, 32), (16, 32, 64, 128), (1, 2, 5, 10)
SEEDS, DEVICES = (1, 2, 5, 10, 20), (1, 2, 4, 8)


def quickstart_config(**settings: Any) -> ConfigDict:
    """The quickstart's config with settings of its world models."""
    config = SIZES["quickstart"].make_config()
    for model in config.world_models.values():
        model.update({key: value for key, value in settings.items() if key in model})
    return config


def measure_model_update(name: str, curve: str, against: str, size: int, settings: dict[str, Any]) -> list[Point]:
    """An update of a world model, at the quickstart's size but for `settings`."""
    config = quickstart_config(reachable_quantile=0.0, **settings)
    model: Any = make_model(name, **settings_at(config, f"world_models.{name}"))
    dataset = random_dataset(SIZES["quickstart"], PLAN.num_steps, config.gamma)
    starts = data.segment_rows(dataset, model.sequence_length, "absorb")
    update = update_from_segments(model, config.world_models[name].batch_size, jax.random.key(1))
    state = model.init(jax.random.key(0), training_rows(dataset))
    run = make_repeated_dispatch(parallel.repeat_update(update), state, (dataset, starts), UPDATES)
    return [Point(curve, against, size, cpu_seconds(run) / UPDATES, "CPU s")]


def measure_policy_update(num_seeds: int) -> list[Point]:
    """An update of so many seeds of TD3+BC on recorded data."""
    learning = make_learning("quickstart", "td3_bc", "recorded", PLAN)
    run = make_repeated_dispatch(*learning.of_seeds(num_seeds), learning.bench.data, 10 * UPDATES)
    return [Point("update of TD3+BC", "seeds", num_seeds, cpu_seconds(run) / (10 * UPDATES), "CPU s")]


def growth_of_networks() -> Iterator[Point]:
    """T, width and members."""
    for length in LENGTHS:
        curve, against = "update of the denoiser, by T", "T"
        yield from measure_apart(measure_model_update, "dwm", curve, against, length, {"sequence_length": length})
    for width in WIDTHS:
        curve, against = "update of the denoiser, by width", "width"
        yield from measure_apart(measure_model_update, "dwm", curve, against, width, {"width": width})
    for members in MEMBERS:
        curve, against = "update of the ensemble", "members"
        yield from measure_apart(measure_model_update, "ensemble", curve, against, members, {"num_members": members})


def growth_of_seeds() -> Iterator[Point]:
    """Policies side by side."""
    for num_seeds in SEEDS:
        yield from measure_apart(measure_policy_update, num_seeds)


def growth_of_devices() -> Iterator[Point]:
    """The same update on devices that share the cores: what is added is overhead."""
    for count in DEVICES:
        curve, against = "update of the denoiser, by virtual devices", "virtual devices"
        yield from call_in_fresh_process(
            measure_model_update, "dwm", curve, against, count, {}, environment=with_virtual_devices(count)
        )


def measure_apart(function: Callable[..., list[Point]], *arguments: Any) -> list[Point]:
    """In a process of its own, so that no program and no memory is another's."""
    return call_in_fresh_process(function, *arguments)
