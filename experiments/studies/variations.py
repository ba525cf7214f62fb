"""The settings that the studies vary: overrides of the config, and the names they give the variants."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.studies.scales import GRIDS, returns_to_go

# K of the world model with the long sequence; the usual one has 5.
LONG_NUM_DIFFUSION_STEPS = 10


class Setting(NamedTuple):
    """Overrides, and the name they give a variant."""

    name: str
    overrides: Mapping[str, str]


AS_CONFIGURED = Setting("", {})


def both(one: Setting, other: Setting) -> Setting:
    return Setting("-".join(filter(None, (one.name, other.name))), {**one.overrides, **other.overrides})


def horizon(steps: int) -> Setting:
    return Setting(f"H{steps}", {"policy.horizon": str(steps)})


def asking(return_to_go: float) -> Setting:
    return Setting(f"rtg{return_to_go:g}", {"policy.return_to_go": str(return_to_go)})


def asking_as_searched(task: str, scale: str) -> list[Setting]:
    """The returns-to-go searched, the middle first; the config's own where the paper names none."""
    return [asking(value) for value in returns_to_go(task, scale)] or [AS_CONFIGURED]


def searched(task: str, scale: str, horizons: Sequence[int]) -> list[Setting]:
    """Horizon x return-to-go."""
    return [both(horizon(steps), asked) for steps in horizons for asked in asking_as_searched(task, scale)]


def usual(task: str, scale: str) -> Setting:
    """Horizon and return-to-go where neither is studied."""
    return searched(task, scale, [GRIDS[scale].usual_horizon])[0]


def long_sequence(scale: str) -> Setting:
    length = GRIDS[scale].long_sequence_length
    return Setting(
        f"T{length}",
        {
            "world_models.dwm.sequence_length": str(length),
            "world_models.dwm.num_diffusion_steps": str(LONG_NUM_DIFFUSION_STEPS),
        },
    )


def of_swept_learners(source: str, scale: str) -> list[str]:
    return [f"{source}-{learner}" for learner in GRIDS[scale].swept_learners]
