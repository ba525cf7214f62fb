"""Any local Minari data set as episodes of flat float32 arrays: HDF5, Arrow or Parquet, Box or dict observations."""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from minari.dataset.minari_dataset import MinariDataset

from dwm_jax.data import notes
from dwm_jax.data.actions import ACTION_TOLERANCE, REMEDIES
from dwm_jax.data.conversion import Findings, cut_at_terminals
from dwm_jax.data.episode_rows import EpisodeRows
from dwm_jax.data.minari_formats import read_arrow, read_hdf5
from dwm_jax.data.spaces import ActionRange, KeyPath, action_range, concatenate_parts, observation_keys
from dwm_jax.runtime import interruption
from dwm_jax.runtime.progress import say
from dwm_jax.types import Episode

# Keys of findings that every version wrote; and keys missing from the first versions that counted rewards.
OF_ALL_VERSIONS = {"timeouts", "next_observations", "cuts", "first_cut", "trailing_steps", "clipped_actions"}
ADDED_LATER = {"rewards_moved", "largest_excess"}


class Stored(NamedTuple):
    """What a data set says about itself."""

    dataset_id: str
    folder: Path  # holds metadata.json and the episodes
    metadata: dict[str, Any]
    num_episodes: int
    num_steps: int
    observation_keys: tuple[KeyPath, ...]  # the order in which dict observations are concatenated
    action_range: ActionRange
    environment: str | None  # id of the environment of the evaluation
    environment_spec: str | None  # its Gymnasium specification, JSON; None where the id is all there is
    reference_scores: tuple[float, float] | None

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the data came from and what its conversion found; empty for data that others made."""
        return dict(self.metadata.get("dwm_jax", {}))

    @property
    def is_flat(self) -> bool:
        """Data written by this package: flattened and scaled when it was written."""
        return bool(self.metadata.get("dwm_jax"))


def open_stored(folder: Path) -> Stored:
    """Reads the metadata of the Minari data in `folder`.

    Raises:
      ValueError: the folder holds no Minari data, or data that cannot be learnt from.
    """
    try:
        dataset = MinariDataset(folder)
        metadata = dict(dataset.storage.read_raw_metadata(folder))
        environment = _environment(metadata)
    except ImportError as error:
        raise ValueError(f"{folder}: {error}") from error
    except Exception as error:  # Minari and Gymnasium raise anything, asserts included, on data they do not know
        raise ValueError(f"{folder} is not a readable Minari data set: {type(error).__name__}: {error}") from error
    try:
        return _stored(Path(folder), dataset, metadata, *environment)
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"{folder}: its metadata.json is not in order: {type(error).__name__}: {error}") from error


def _stored(
    folder: Path, dataset: MinariDataset, metadata: dict[str, Any], environment: str | None, spec: str | None
) -> Stored:
    provenance = metadata.get("dwm_jax", {})
    _refuse_other_provenance(provenance)
    keys = provenance.get("observation_keys")
    bounds = provenance.get("action_range")
    scores = (metadata.get("ref_min_score"), metadata.get("ref_max_score"))
    return Stored(
        dataset_id=str(dataset.id),
        folder=folder,
        metadata=metadata,
        num_episodes=int(dataset.total_episodes),
        num_steps=int(dataset.total_steps),
        observation_keys=(
            tuple(tuple(path) for path in keys) if keys else observation_keys(dataset.observation_space, dataset.id)
        ),
        action_range=(
            ActionRange(tuple(bounds[0]), tuple(bounds[1]))
            if bounds
            else action_range(dataset.action_space, dataset.id)
        ),
        environment=environment,
        environment_spec=spec,
        reference_scores=None if None in scores else (float(scores[0]), float(scores[1])),  # type: ignore[arg-type]
    )


def _refuse_other_provenance(provenance: dict[str, Any]) -> None:
    """Refuses what no preparation records, before it is printed or counted with.

    Raises:
      TypeError: an entry of another type.
      KeyError: one that is missing.
    """
    for key in ("step_limit", "max_episode_steps"):
        if not isinstance(provenance.get(key), int | None):
            raise TypeError(f"dwm_jax.{key} is {provenance[key]!r}, no number of steps")
    sources, findings = provenance.get("sources", []), provenance.get("findings", [])
    for source in sources:
        if not (isinstance(source["file"], str) and isinstance(source["sha256"], str)):
            raise TypeError("dwm_jax.sources names no file")
        _refuse_other_numbers(source, ["bytes"])
    for finding in findings:
        # Data that was converted before rewards were counted tells less.
        told = set(Findings._fields) - ADDED_LATER if "reward_kept" in finding else OF_ALL_VERSIONS
        _refuse_other_numbers(finding, told - {"timeouts", "next_observations", "first_cut"})
        if finding["next_observations"] not in ("used", "absent", "shifted"):
            raise KeyError(f"next_observations: {finding['next_observations']!r}")
    if findings and len(findings) != len(sources):
        raise KeyError(f"{len(findings)} findings of {len(sources)} sources")
    changes = provenance.get("changes", {})
    _refuse_other_numbers(changes, Changes._fields if changes else ())


def _refuse_other_numbers(of: dict[str, Any], keys: Iterable[str]) -> None:
    for key in sorted(keys):
        if not isinstance(of[key], int | float):
            raise TypeError(f"dwm_jax: {key} is {of[key]!r}, no number")


class Changes(NamedTuple):
    """What was recorded and is not as it was; all 0 where everything is."""

    clipped_actions: int = 0
    largest_excess: float = 0.0  # beyond [-1, 1], of the clipped entry furthest out
    cut_episodes: int = 0  # that went on behind a termination
    dropped_behind: int = 0  # steps behind the first of a run of terminations
    reward_behind: float = 0.0  # of these steps


def read(stored: Stored) -> EpisodeRows:
    """All episodes, in one block of memory per field.

    Observations are flattened in the order of `stored.observation_keys`, actions scaled to [-1, 1] by their bounds. An
    episode that goes on behind a termination is cut there, which is said (`conversion.cut_at_terminals`).

    Raises:
      ValueError: files that cannot be read, or contradict their metadata; actions out of bounds. The message names
        the folder and the episode.
    """
    rows, changes = read_and_clip(stored, may_clip=False)
    if changes.cut_episodes:
        note = notes.cutting_note(changes.cut_episodes, changes.dropped_behind, changes.reward_behind)
        say(f"{stored.dataset_id}: {note}")
    return rows


def read_actions(stored: Stored) -> Iterator[np.ndarray]:
    """The actions (L, A) of every episode as they were recorded."""
    for *_, actions, _, _ in _raw_episodes(stored):
        yield actions


def read_and_clip(stored: Stored, *, may_clip: bool) -> tuple[EpisodeRows, Changes]:
    """`read`; with `may_clip`, actions beyond their bounds are clipped and counted rather than refused."""
    changes = Changes()
    rows: EpisodeRows | None = None
    cut: list[Episode] = []  # all episodes, from the first one on that had to be cut
    num_steps = num_episodes = 0
    for index, raw in enumerate(_raw_episodes(stored)):
        interruption.raise_if_requested()
        where = f"{stored.folder}, episode {index}"
        episode, excess = _episode(stored, raw, where)
        _refuse_beyond(excess, where, may_clip)
        num_steps, num_episodes = num_steps + len(episode.actions), num_episodes + 1
        if num_steps > stored.num_steps:
            raise ValueError(f"{where}: more steps than the {stored.num_steps:,} its metadata.json promises")
        sizes = episode.observations.shape[1], episode.actions.shape[1]
        rows = rows if rows is not None else _room(stored, *sizes)
        if sizes != (rows.observations.shape[1], rows.actions.shape[1]):
            raise ValueError(f"{where}: observation and action sizes are {sizes}, unlike those before")
        terminals = raw[-1].reshape(-1).astype(bool)
        pieces, behind = [episode], np.zeros(0, bool)
        if terminals[:-1].any():
            pieces, behind = cut_at_terminals(episode, terminals)
            cut = cut or list(rows)
        changes = Changes(
            changes.clipped_actions + int((excess > 0).sum()),
            max(changes.largest_excess, float(excess.max(initial=0))),
            changes.cut_episodes + bool(len(behind)),
            changes.dropped_behind + int(behind.sum()),
            changes.reward_behind + (float(episode.rewards[behind].sum()) if len(behind) else 0.0),
        )
        if changes.cut_episodes:
            cut += pieces
        else:
            rows.append(episode)
    if rows is None:
        raise ValueError(f"{stored.folder}: holds no episode")
    if num_steps != stored.num_steps or num_episodes != stored.num_episodes:
        raise ValueError(
            f"{stored.folder}: {num_steps:,} steps in {num_episodes:,} episodes, its metadata.json promises "
            f"{stored.num_steps:,} in {stored.num_episodes:,}"
        )
    return (EpisodeRows.of(cut) if changes.cut_episodes else rows), changes


def _room(stored: Stored, observation_size: int, action_size: int) -> EpisodeRows:
    try:
        return EpisodeRows(stored.num_steps, stored.num_episodes, observation_size, action_size)
    except (MemoryError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{stored.folder}: there is no memory for the {stored.num_steps:,} steps that its metadata.json promises"
        ) from error


def _episode(stored: Stored, raw: list[np.ndarray], where: str) -> tuple[Episode, np.ndarray]:
    """The episode with its actions clipped to [-1, 1], and how far each lay beyond, shape (L,)."""
    *parts, actions, rewards, terminations = raw
    observations = concatenate_parts(parts, batch_axes=1)
    rewards, terminations = rewards.reshape(-1), terminations.reshape(-1)
    if not len(observations) - 1 == len(actions) == len(rewards) == len(terminations) or actions.ndim != 2:
        raise ValueError(
            f"{where}: {len(observations)} observations, actions of shape {actions.shape}, {len(rewards)} rewards and "
            f"{len(terminations)} terminations; L + 1, (L, size), L and L are expected"
        )
    # Without bounds of their own actions are taken for [-1, 1] already.
    if not stored.is_flat and stored.action_range.is_bounded:
        actions = stored.action_range.to_unit(actions)
    excess = np.abs(actions).max(axis=1, initial=0) - 1
    episode = Episode(observations, np.clip(actions, -1, 1), rewards, bool(len(actions) and terminations[-1]))
    return episode, excess


def _raw_episodes(stored: Stored) -> Iterator[list[np.ndarray]]:
    """Of every episode the arrays of its observations in their order, then actions, rewards, terminations."""
    keys: tuple[KeyPath, ...] = ((),) if stored.is_flat else stored.observation_keys
    paths = [*(("observations", *key) for key in keys), ("actions",), ("rewards",), ("terminations",)]
    kind, num_read = stored.metadata["data_format"], 0
    read_arrays = read_hdf5 if kind == "hdf5" else partial(read_arrow, kind=kind)
    try:
        for raw in read_arrays(stored.folder, stored.num_episodes, paths):
            yield raw
            num_read += 1
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:  # all that h5py and pyarrow raise
        raise ValueError(f"{stored.folder}, episode {num_read}: cannot be read: {error}") from error


def _refuse_beyond(excess: np.ndarray, where: str, may_clip: bool) -> None:
    beyond = excess > ACTION_TOLERANCE
    if beyond.any() and not may_clip:
        step = int(np.argmax(beyond))
        raise ValueError(
            f"{where}: actions[{step}] lies {excess[step]:g} beyond [-1, 1] in units of its bounds, and so do "
            f"{beyond.sum():,} of its {len(excess):,} actions; prepare the data under a name of its own with --file "
            f"and one of these: {REMEDIES}"
        )


def _environment(metadata: dict[str, Any]) -> tuple[str | None, str | None]:
    """(id, specification) of the environment of the evaluation: named by this package, or by Minari's keys."""
    own = metadata.get("dwm_jax", {})
    if own.get("environment") is not None:
        return own["environment"], own.get("environment_spec")
    text = metadata.get("eval_env_spec") or metadata.get("env_spec")
    if text is None:
        return None, None
    return str(json.loads(text)["id"]), text
