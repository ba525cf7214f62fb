"""Gymnasium's spaces as flat vectors: which observations and actions can be learnt from, and in which order.

One definition for the recorded data and for the environment of the evaluation, so that both agree.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

# The path of one array inside a dict observation; () where the observation is an array itself.
KeyPath = tuple[str, ...]


def observation_keys(space: gym.Space[Any], owner: str) -> tuple[KeyPath, ...]:
    """The arrays of an observation in the order in which they are concatenated.

    Args:
      space: a Box vector, or a (nested) Dict of them; the order is the space's own, which is the data's record.
      owner: whose space it is, for the message.

    Raises:
      ValueError: discrete, text, tuple or image observations, the message names the entry; or none at all.
    """
    keys = _keys_below(space, owner)
    if not sum(size_at(space, path) for path in keys):
        raise ValueError(f"{owner}: its observations hold no number, hence nothing to learn from")
    return keys


def size_at(space: Any, path: KeyPath) -> int:
    """Numbers in the array at `path` of an observation."""
    for key in path:
        space = space[key]
    return int(np.prod(space.shape))


def _keys_below(space: gym.Space[Any], owner: str) -> tuple[KeyPath, ...]:
    if isinstance(space, gym.spaces.Dict):
        return tuple(
            (key, *rest)
            for key, subspace in space.spaces.items()
            for rest in _keys_below(subspace, f"{owner}, observation[{key!r}]")
        )
    if isinstance(space, gym.spaces.Box) and len(space.shape) <= 1:
        return ((),)
    raise ValueError(
        f"{owner}: {_name(space)} observations cannot be learnt from; Box vectors and dicts of Box vectors can"
    )


def flatten_observations(observations: Any, keys: Sequence[KeyPath], *, batch_axes: int) -> np.ndarray:
    """Concatenates the arrays at `keys`: (..., O) with `batch_axes` leading axes (1: episode, 0: one observation)."""
    parts = []
    for path in keys:
        part = observations
        for key in path:
            part = part[key]
        parts.append(np.asarray(part))
    return concatenate_parts(parts, batch_axes=batch_axes)


def concatenate_parts(parts: Sequence[np.ndarray], *, batch_axes: int) -> np.ndarray:
    """The arrays of an observation as one: (..., O). A single one is not copied."""
    flat = [part.reshape(*part.shape[:batch_axes], -1) for part in parts]
    return flat[0] if len(flat) == 1 else np.concatenate(flat, axis=-1)


class ActionRange(NamedTuple):
    """The bounds of the recorded actions; learners act in [-1, 1]."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def is_unit(self) -> bool:
        """The bounds are [-1, 1]: nothing to rescale."""
        return bool(np.all(np.array(self.low) == -1) and np.all(np.array(self.high) == 1))

    @property
    def is_bounded(self) -> bool:
        return bool(np.isfinite([self.low, self.high]).all())

    def to_unit(self, actions: np.ndarray) -> np.ndarray:
        """2 (a - low) / (high - low) - 1, for actions (..., A); the bounds must be finite."""
        if self.is_unit:
            return actions
        low, high = np.array(self.low), np.array(self.high)
        return np.asarray(2 * (actions - low) / (high - low) - 1)

    def from_unit(self, actions: np.ndarray) -> np.ndarray:
        """The inverse of `to_unit`."""
        if self.is_unit:
            return actions
        low, high = np.array(self.low), np.array(self.high)
        return np.asarray(low + (actions + 1) / 2 * (high - low))


def unit_range(size: int) -> ActionRange:
    """[-1, 1] in every one of `size` entries."""
    return ActionRange((-1.0,) * size, (1.0,) * size)


def action_range(space: gym.Space[Any], owner: str) -> ActionRange:
    """The bounds of a Box vector of actions; infinite ones too where it says float32's largest number for that.

    Raises:
      ValueError: discrete or other actions, or a lower bound that is not below the upper one.
    """
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1 or not space.shape[0]:
        raise ValueError(f"{owner}: {_name(space)} actions cannot be learnt from; Box vectors can")
    if not np.all(space.low < space.high):
        raise ValueError(f"{owner}: an action's lower bound is not below its upper one: [{space.low}, {space.high}]")
    return ActionRange(*(tuple(map(_or_infinite, bound)) for bound in (space.low, space.high)))


def _or_infinite(bound: float) -> float:
    return math.copysign(math.inf, bound) if abs(bound) >= np.finfo(np.float32).max else float(bound)


def _name(space: gym.Space[Any]) -> str:
    if isinstance(space, gym.spaces.Box):
        kind = "image" if space.dtype == np.uint8 and len(space.shape) >= 2 else "Box"
        return f"{kind} {space.shape}"
    return type(space).__name__
