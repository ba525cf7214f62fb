"""Files in D4RL's HDF5 layout, as episodes.

    observations (N, O), actions (N, A) in [-1, 1], rewards (N,), terminals (N,)      always
    timeouts (N,), next_observations (N, O), metadata/environment                     in some files

*Where episodes end.* At `terminals` (terminated) or `timeouts` (truncated; a row with both is terminated). Where
`next_observations` differ from the next row's observations the recording was cut, whatever the flags say: the
episode ends there as a truncation. A file without `timeouts` needs that proof and is refused without it. What
follows the last end is a truncated episode of its own.

*The last observation of an episode* is that of `next_observations`. In a file without it, **the final transition
of every episode is dropped** and its observation becomes the last one; an episode that terminated stays
terminated, one step early - or the data would hold no ends at all. `next_observations` that merely repeat the next
row's observations, even across every flagged end, say nothing about ends and are treated as missing.
"""

from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from dwm_jax import interruption
from dwm_jax.data.minari_reading import ACTION_TOLERANCE
from dwm_jax.types import Episode

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
# Relative to 1 + |x|: far above float32's rounding, far below any step of a simulation.
CONTINUITY_TOLERANCE = 1e-5
# Each episode's file says so much about itself; a recording is cut here and there, not at every other row.
MOST_CUTS = 0.5


class Arrays(NamedTuple):
    """The flat arrays of one file, checked one by one."""

    observations: np.ndarray  # (N, O) float32
    actions: np.ndarray  # (N, A) float32 in [-1, 1]
    rewards: np.ndarray  # (N,) float32
    terminals: np.ndarray  # (N,) bool
    timeouts: np.ndarray | None  # (N,) bool
    next_observations: np.ndarray | None  # (N, O) float32


class Findings(NamedTuple):
    """What the conversion of one file met; kept in the metadata of the data set."""

    rows: int
    timeouts: str  # "present" or "absent"
    next_observations: str  # "used", "absent" or "shifted"
    clipped_actions: int  # rows with an action beyond [-1, 1] by rounding
    cuts: int  # ends that only next_observations show
    first_cut: int | None  # row of the first
    trailing_steps: int  # rows after the last end
    short_episodes: int  # dropped: fewer than two steps
    short_steps: int  # rows dropped with them


class Conversion(NamedTuple):
    """One file as episodes."""

    episodes: list[Episode]
    findings: Findings


def read(path: Path, step_limit: int | None = None) -> Conversion:
    """The episodes of a file.

    Args:
      path: an HDF5 file in D4RL's layout.
      step_limit: steps after which the environment's clock ends an episode; None where there is no clock.

    Raises:
      ValueError: a file that is missing, truncated or not in the layout, holds a value that is not finite or an
        action out of bounds, leaves open where episodes end, or has no episode of two steps. The message names the
        file, the array and the row.
    """
    arrays, clipped = read_arrays(path)
    num_rows = len(arrays.rewards)
    arrays, shifted = _without_shifted(arrays)
    ends, cuts = _ends(arrays, path, step_limit)
    episodes = _episodes(arrays, ends)
    kept = [episode for episode in episodes if len(episode.actions) >= 2]
    if not kept:
        raise ValueError(f"{path}: none of its {len(episodes)} episode(s) has two steps, the least an episode needs")
    used = "used" if arrays.next_observations is not None else "shifted" if shifted else "absent"
    last_end = int(ends[-2]) if len(ends) > 1 else -1
    flagged = arrays.terminals[-1] or (arrays.timeouts is not None and arrays.timeouts[-1])
    return Conversion(
        kept,
        Findings(
            rows=num_rows,
            timeouts="absent" if arrays.timeouts is None else "present",
            next_observations=used,
            clipped_actions=clipped,
            cuts=len(cuts),
            first_cut=int(cuts[0]) if len(cuts) else None,
            trailing_steps=0 if flagged else num_rows - 1 - last_end,
            short_episodes=len(episodes) - len(kept),
            short_steps=sum(len(episode.actions) for episode in episodes if len(episode.actions) < 2),
        ),
    )


def environment_of(path: Path) -> str | None:
    """The environment a file names in metadata/environment (a text or an attribute), None where it names none."""
    with _open(path) as file:
        node = file.get("metadata")
        if not isinstance(node, h5py.Group):
            return None
        value: Any = node.attrs.get("environment")
        if isinstance(entry := node.get("environment"), h5py.Dataset):
            value = entry[()]
        value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
        value = value.decode(errors="replace") if isinstance(value, bytes) else value
        return value if isinstance(value, str) and value else None


def read_arrays(path: Path) -> tuple[Arrays, int]:
    """The arrays of a file, and how many rows had an action clipped for rounding.

    Raises:
      ValueError: as `read`, for everything but the ends of episodes.
    """
    with _open(path) as file:
        missing = [key for key in REQUIRED if key not in file]
        if missing:
            raise ValueError(f"{path}: no {', '.join(missing)}; it holds {', '.join(sorted(file)) or 'nothing'}")
        raw = {key: _column(file, key, path) for key in REQUIRED + OPTIONAL if key in file}
    lengths = {key: len(array) for key, array in raw.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"{path}: arrays of different lengths: {', '.join(f'{key} {n:,}' for key, n in lengths.items())}"
        )
    if lengths["rewards"] == 0:
        raise ValueError(f"{path}: holds zero rows, hence zero episodes")
    following = raw.get("next_observations")
    if following is not None and following.shape != raw["observations"].shape:
        raise ValueError(
            f"{path}: next_observations have shape {following.shape}, observations {raw['observations'].shape}"
        )
    for key in ("observations", "actions", "rewards", "next_observations"):
        if key in raw:
            raw[key] = _finite(raw[key], key, path)
    actions, clipped = _in_bounds(raw["actions"], path)
    return (
        Arrays(
            observations=raw["observations"],
            actions=actions,
            rewards=raw["rewards"],
            terminals=_flags(raw["terminals"], "terminals", path),
            timeouts=_flags(raw["timeouts"], "timeouts", path) if "timeouts" in raw else None,
            next_observations=following if following is None else raw["next_observations"],
        ),
        clipped,
    )


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: truncated, or not an HDF5 file ({error})") from error


def _column(file: h5py.File, key: str, path: Path) -> np.ndarray:
    node = file[key]
    if not isinstance(node, h5py.Dataset) or node.dtype.kind not in "fiub":
        kind = "a group" if isinstance(node, h5py.Group) else f"of type {node.dtype}"
        raise ValueError(f"{path}: {key} is {kind}; a flat array of numbers is expected")
    interruption.check()
    rank = 2 if "observations" in key or key == "actions" else 1
    shape = node.shape
    if len(shape) != rank and not (rank == 1 and len(shape) == 2 and shape[1] == 1):
        raise ValueError(f"{path}: {key} have shape {shape}; {'(N, size)' if rank == 2 else '(N,)'} is expected")
    try:
        array = np.asarray(node[()])
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: {key} cannot be read, the file is damaged ({error})") from error
    return array if rank == 2 else array.reshape(-1)


def _finite(array: np.ndarray, key: str, path: Path) -> np.ndarray:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused here
        array = array.astype(np.float32, copy=False)
    finite = np.isfinite(array)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        rows = int((~finite).reshape(len(array), -1).any(axis=1).sum())
        raise ValueError(
            f"{path}: {key}{list(place)} is {array[place]} (row {place[0]:,}; {rows:,} such row(s)); data must "
            "be finite"
        )
    return array


def _flags(array: np.ndarray, key: str, path: Path) -> np.ndarray:
    wrong = (array != 0) & (array != 1)  # NaN differs from both
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{path}: {key}[{row}] is {array[row]}; a flag is 0 or 1")
    return array.astype(bool)


def _in_bounds(actions: np.ndarray, path: Path) -> tuple[np.ndarray, int]:
    excess = np.abs(actions).max(axis=1, initial=0) - 1
    if (excess > ACTION_TOLERANCE).any():
        row = int(np.argmax(excess > ACTION_TOLERANCE))
        raise ValueError(
            f"{path}: actions[{row}] is {actions[row].tolist()}, beyond [-1, 1]; scale the actions by their bounds "
            "before recording them"
        )
    return np.clip(actions, -1, 1), int((excess > 0).sum())


def _is_continuous(arrays: Arrays) -> np.ndarray:
    """(N - 1,): next_observations equal the next row's observations."""
    assert arrays.next_observations is not None
    following, there = arrays.observations[1:], arrays.next_observations[:-1]
    return np.asarray(np.all(np.abs(there - following) <= CONTINUITY_TOLERANCE * (1 + np.abs(following)), axis=1))


def _without_shifted(arrays: Arrays) -> tuple[Arrays, bool]:
    """Without next_observations that are only the observations moved up by one row; and whether they were."""
    if arrays.next_observations is None or len(arrays.rewards) < 2:
        return arrays, False
    flagged = _flagged(arrays)[:-1]
    if not flagged.any() or not _is_continuous(arrays).all():
        return arrays, False
    return arrays._replace(next_observations=None), True


def _flagged(arrays: Arrays) -> np.ndarray:
    return arrays.terminals if arrays.timeouts is None else arrays.terminals | arrays.timeouts


def _ends(arrays: Arrays, path: Path, step_limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The last rows of all episodes, and those among them that only next_observations show."""
    flagged = _flagged(arrays)
    ends = flagged.copy()
    ends[-1] = True
    cuts = np.empty(0, int)
    if arrays.next_observations is not None:
        cuts = np.flatnonzero(~_is_continuous(arrays) & ~flagged[:-1])
        if len(cuts) > MOST_CUTS * len(flagged):
            raise ValueError(
                f"{path}: next_observations differ from the next row's observations at {len(cuts):,} of "
                f"{len(flagged):,} rows, first at row {cuts[0]}; rows must be in the order of time"
            )
        ends[cuts] = True
    elif arrays.timeouts is None:
        raise ValueError(
            f"{path}: neither timeouts nor next_observations of its own: where the clock ended an episode cannot be "
            "known; record timeouts"
        )
    rows = np.flatnonzero(ends)
    if arrays.timeouts is None and step_limit is not None:
        lengths = np.diff(rows, prepend=-1)
        if lengths.max() > step_limit:
            row = int(rows[np.argmax(lengths > step_limit)])
            raise ValueError(
                f"{path}: no timeouts, and the {lengths[rows == row][0]:,} steps up to row {row} pass the "
                f"environment's limit of {step_limit} without an end that next_observations would show; record timeouts"
            )
    return rows, cuts


def _episodes(arrays: Arrays, ends: np.ndarray) -> list[Episode]:
    episodes = []
    start = 0
    for end in ends:
        interruption.check()
        stop = int(end) + 1
        observations, steps = arrays.observations[start:stop], slice(start, stop - 1)
        if arrays.next_observations is not None:
            observations = np.concatenate([observations, arrays.next_observations[end : end + 1]])
            steps = slice(start, stop)
        episodes.append(
            Episode(observations, arrays.actions[steps], arrays.rewards[steps], bool(arrays.terminals[end]))
        )
        start = stop
    return episodes
