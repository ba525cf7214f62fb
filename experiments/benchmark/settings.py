"""What is measured at: sizes of the networks and the data, and how much time is spent on each figure."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from dwm_jax.config import default_config
from dwm_jax.data import dataset as data
from dwm_jax.types import Episode

from ..configs import quickstart, smoke
from .arithmetic import training_flop, trajectory_flop
from .timing import Effort

EPISODE_LENGTH = 500


class Size(NamedTuple):
    """A config, and the shapes of its data."""

    observation_size: int
    action_size: int
    make_config: Callable[[], ConfigDict]


def paper_config(sequence_length: int) -> Callable[[], ConfigDict]:
    """The paper's sizes at T: K is 5, and 10 when T is 32."""

    def make_config() -> ConfigDict:
        config = default_config()
        config.world_models.dwm.sequence_length = sequence_length
        config.world_models.dwm.num_diffusion_steps = 10 if sequence_length == 32 else 5
        return config

    return make_config


def tiny_config() -> ConfigDict:
    """The smoke config with the smallest denoiser there is: compiles in seconds, its speed says nothing."""
    config = smoke.get_config()
    config.world_models.dwm.update({"width": 8, "multipliers": (1,)})
    return config


def in_bfloat16(make_config: Callable[[], ConfigDict]) -> Callable[[], ConfigDict]:
    """A size with the denoiser's activations in bfloat16."""

    def make() -> ConfigDict:
        config = make_config()
        config.world_models.dwm.activations = "bfloat16"
        return config

    return make


def with_layer_norm(make_config: Callable[[], ConfigDict]) -> Callable[[], ConfigDict]:
    """A size with layer norm in every learner's critics and value."""

    def make() -> ConfigDict:
        config = make_config()
        for learner in config.learners.values():
            learner.layer_norm = True
        return config

    return make


SIZES = {
    "quickstart": Size(4, 2, quickstart.get_config),
    "paper-hopper": Size(11, 3, paper_config(8)),
    "paper-hopper-layer-norm": Size(11, 3, with_layer_norm(paper_config(8))),
    "paper-walker2d": Size(17, 6, paper_config(8)),
    "paper-hopper-T32": Size(11, 3, paper_config(32)),
    "paper-walker2d-T32": Size(17, 6, paper_config(32)),
    "tiny": Size(4, 2, tiny_config),
    "paper-hopper-bfloat16": Size(11, 3, in_bfloat16(paper_config(8))),
    "tiny-bfloat16": Size(4, 2, in_bfloat16(tiny_config)),
}


class Plan(NamedTuple):
    """How much is spent."""

    repetitions: int
    seconds: float  # a repetition should last
    num_steps: int  # of the random data
    chunk: int  # trajectories per device and dispatch when drawing in bulk
    matrix_size: int | None  # of the products that measure the peak; None leaves it to the backend

    def effort(self) -> Effort:
        """The part that timing needs; asks jax which backend it has."""
        size = self.matrix_size or (2048 if jax.default_backend() == "cpu" else 8192)
        return Effort(self.repetitions, self.seconds, size)


FULL = Plan(repetitions=5, seconds=1.0, num_steps=100_000, chunk=1024, matrix_size=None)
QUICK = Plan(repetitions=3, seconds=0.1, num_steps=2_000, chunk=64, matrix_size=512)

# Updates in one dispatch: many enough that starting it costs little, few enough that the slowest takes seconds.
# The denoiser's are multiples of `ema_every`, the policies' of `policy_delay`.
ON_CPU = {"denoiser": 10, "recorded": 100, "pool": 100, "fresh": 2}
ON_ACCELERATOR = {"denoiser": 200, "recorded": 1_000, "pool": 1_000, "fresh": 20}


def updates_per_dispatch(what: str) -> int:
    """For a key of the tables above; asks jax which backend it has."""
    return (ON_CPU if jax.default_backend() == "cpu" else ON_ACCELERATOR)[what]


def random_dataset(size: Size, num_steps: int, gamma: float) -> data.Dataset:
    """Random numbers of the right shapes, in episodes of which every second terminates."""
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            rng.normal(size=(EPISODE_LENGTH + 1, size.observation_size)).astype(np.float32),
            rng.uniform(-1, 1, size=(EPISODE_LENGTH, size.action_size)).astype(np.float32),
            rng.normal(size=EPISODE_LENGTH).astype(np.float32),
            terminated=bool(index % 2),
        )
        for index in range(max(1, num_steps // EPISODE_LENGTH))
    ]
    return data.flatten(episodes, gamma, None)[0]


def denoiser_shape(size: Size, settings: dict[str, Any]) -> dict[str, Any]:
    """The shapes that decide the denoiser's arithmetic; `settings` are those of the diffusion world model."""
    return {
        "length": settings["sequence_length"],
        "row_size": size.observation_size + 1 + int(settings["terminations"]),
        "action_size": size.action_size,
        "width": settings["width"],
        "multipliers": tuple(settings["multipliers"]),
    }


def sample_flop(size: Size, settings: dict[str, Any]) -> int:
    """Useful operations of training on one segment."""
    return training_flop(**denoiser_shape(size, settings))


def imagination_flop(size: Size, settings: dict[str, Any]) -> int:
    """Useful operations of one guided trajectory."""
    return trajectory_flop(
        **denoiser_shape(size, settings),
        num_sampling_steps=settings["num_sampling_steps"],
        guided=settings["guidance_weight"] != 1,
    )
