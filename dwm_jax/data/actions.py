"""Recorded actions in [-1, 1]: what lies beyond by rounding is clipped; anything further the user has to decide."""

from typing import NamedTuple

import numpy as np

from dwm_jax.data.spaces import ActionRange

# Actions beyond the bounds by no more than this (rounding) are clipped; by more they are refused unless asked for.
ACTION_TOLERANCE = 1e-3
# Of actions beyond [-1, 1]: refused, clipped, or scaled by the bounds of the environment or of the data.
HANDLINGS = ("refuse", "clip", "scale")
REMEDIES = (
    "`--actions clip` clips them, which is right where the environment clips what it is given (human demonstrations, "
    "commands recorded before that); `--actions scale` divides by the bounds of the environment's actions, or by the "
    "recorded ones where it has none, which is right where they are in other units"
)


class Clipped(NamedTuple):
    """What clipping did to a recording."""

    rows: int  # with an entry beyond [-1, 1]
    largest_excess: float  # of the entry furthest beyond; 0 where there is none


def clip_or_refuse(actions: np.ndarray, owner: str, *, may_clip: bool) -> tuple[np.ndarray, Clipped]:
    """Actions (N, A) in [-1, 1].

    Raises:
      ValueError: some are further beyond than rounding takes them, and clipping is not asked for; the message says
        how many, by how much, and names both remedies.
    """
    excess = np.abs(actions).max(axis=1, initial=0) - 1
    beyond = excess > ACTION_TOLERANCE
    if beyond.any() and not may_clip:
        row = int(np.argmax(beyond))
        raise ValueError(
            f"{owner}: actions[{row}] is {actions[row].tolist()}; {beyond.sum():,} of {len(actions):,} actions lie "
            f"beyond [-1, 1], by up to {excess.max():.4g}: {REMEDIES}"
        )
    clipped = Clipped(int((excess > 0).sum()), float(excess.max(initial=0)))
    return (np.clip(actions, -1, 1) if clipped.rows else actions), clipped


def recorded_range(actions: np.ndarray) -> ActionRange:
    """The bounds of recorded actions (N, A); where one never changes, one to either side of it."""
    low, high = actions.min(axis=0).astype(float), actions.max(axis=0).astype(float)
    constant = low == high
    return ActionRange(tuple(np.where(constant, low - 1, low)), tuple(np.where(constant, high + 1, high)))
