"""Recordings as flat arrays, the layout of D4RL and OGBench: one row a step, all episodes one behind another."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from dwm_jax.data.episode_rows import describe_usable, find_unusable


class FlatArrays(NamedTuple):
    """N recorded rows, checked one by one."""

    observations: np.ndarray  # (N, O) float32
    actions: np.ndarray  # (N, A) float32
    rewards: np.ndarray  # (N,) float32
    terminals: np.ndarray  # (N,) bool
    timeouts: np.ndarray | None  # (N,) bool
    next_observations: np.ndarray | None  # (N, O) float32


REQUIRED = ("observations", "actions", "rewards", "terminals")


def check_names(names: Collection[str], owner: str) -> None:
    """Refuses a recording that lacks one of `REQUIRED`."""
    missing = [key for key in REQUIRED if key not in names]
    if missing:
        raise ValueError(f"{owner}: no {', '.join(missing)}; it holds {', '.join(sorted(names)) or 'nothing'}")


def check_shape(key: str, shape: tuple[int, ...], owner: str) -> None:
    """Refuses an array that is neither a vector per row, nor a number per row where that is due."""
    rank = 2 if "observations" in key or key == "actions" else 1
    if len(shape) != rank and not (rank == 1 and len(shape) == 2 and shape[1] == 1):
        raise ValueError(f"{owner}: {key} have shape {shape}; {'(N, size)' if rank == 2 else '(N,)'} is expected")
    if rank == 2 and shape[1] == 0:
        raise ValueError(f"{owner}: {key} have shape {shape}, hence no column")


def make_flat_arrays(raw: Mapping[str, np.ndarray], owner: str) -> FlatArrays:
    """Arrays as they were read, by their names, as a recording.

    Raises:
      ValueError: one is missing, of another shape or length than the others, or holds what is no finite number, or no
        flag where flags are due. The message names the array and the row.
    """
    check_names(raw, owner)
    for key, array in raw.items():
        check_shape(key, array.shape, owner)
    if len({len(array) for array in raw.values()}) > 1:
        lengths = ", ".join(f"{key} {len(array):,}" for key, array in raw.items())
        raise ValueError(f"{owner}: arrays of different lengths: {lengths}")
    if not len(raw["rewards"]):
        raise ValueError(f"{owner}: holds zero rows, hence zero episodes")
    following = raw.get("next_observations")
    if following is not None and following.shape != raw["observations"].shape:
        shapes = f"next_observations have shape {following.shape}, observations {raw['observations'].shape}"
        raise ValueError(f"{owner}: {shapes}")
    return FlatArrays(
        observations=_usable(raw["observations"], "observations", owner),
        actions=_usable(raw["actions"], "actions", owner),
        rewards=_usable(raw["rewards"].reshape(-1), "rewards", owner),
        terminals=_flags(raw["terminals"].reshape(-1), "terminals", owner),
        timeouts=_flags(raw["timeouts"].reshape(-1), "timeouts", owner) if "timeouts" in raw else None,
        next_observations=None if following is None else _usable(following, "next_observations", owner),
    )


def _usable(array: np.ndarray, key: str, owner: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused here
        array = array.astype(np.float32, copy=False)
    if (unusable := find_unusable(array)) is not None:
        place = tuple(int(i) for i in np.argwhere(unusable)[0])
        rows = int(unusable.reshape(len(array), -1).any(axis=1).sum())
        raise ValueError(
            f"{owner}: {key}{list(place)} is {array[place]:g} (row {place[0]:,}; {rows:,} such row(s)); data must be "
            f"{describe_usable(array[place])}"
        )
    return array


def _flags(array: np.ndarray, key: str, owner: str) -> np.ndarray:
    wrong = (array != 0) & (array != 1)  # NaN differs from both
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{owner}: {key}[{row}] is {array[row]}; a flag is 0 or 1")
    return array.astype(bool)
