"""Any local Minari data set as episodes of flat float32 arrays: HDF5, Arrow or Parquet, Box or dict observations."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import h5py
import numpy as np
from minari.dataset.minari_dataset import MinariDataset

from dwm_jax.data.dataset import Rows
from dwm_jax.data.spaces import ActionRange, KeyPath, action_range, flatten_observations, observation_keys
from dwm_jax.types import Episode

# Beyond the bounds by no more than this: rounding, and clipped; by more: refused.
ACTION_TOLERANCE = 1e-3
EPISODES_PER_OPENING = 250


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


def open_stored(folder: Path) -> Stored:
    """Reads the metadata of the Minari data in `folder`.

    Raises:
      ValueError: the folder holds no Minari data, or data that cannot be learnt from.
    """
    try:
        dataset = MinariDataset(folder)
        metadata = dict(dataset.storage.read_raw_metadata(folder))
        environment, spec = _environment(metadata)
    except ImportError as error:
        raise ValueError(f"{folder}: {error}") from error
    except Exception as error:  # Minari and Gymnasium raise anything, asserts included, on data they do not know
        raise ValueError(f"{folder} is not a readable Minari data set: {type(error).__name__}: {error}") from error
    provenance = metadata.get("dwm_jax", {})
    keys = provenance.get("observation_keys")
    bounds = provenance.get("action_range")
    scores = (metadata.get("ref_min_score"), metadata.get("ref_max_score"))
    return Stored(
        dataset_id=str(dataset.id),
        folder=Path(folder),
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


def read(stored: Stored) -> Rows:
    """All episodes, in one block of memory per field.

    Observations are flattened in the order of `stored.observation_keys`, actions scaled to [-1, 1] by their bounds.

    Raises:
      ValueError: files that cannot be read, or contradict their metadata; actions out of bounds; a termination
        before the end of an episode. The message names the folder and the episode.
    """
    rows: Rows | None = None
    num_steps = 0
    for index, raw in enumerate(_raw_episodes(stored)):
        where = f"{stored.folder}, episode {index}"
        episode = _episode(stored, raw, where)
        num_steps += len(episode.actions)
        if num_steps > stored.num_steps:
            raise ValueError(f"{where}: more steps than the {stored.num_steps:,} its metadata.json promises")
        sizes = episode.observations.shape[1], episode.actions.shape[1]
        rows = rows if rows is not None else Rows(stored.num_steps, stored.num_episodes, *sizes)
        if sizes != (rows.observations.shape[1], rows.actions.shape[1]):
            raise ValueError(f"{where}: observation and action sizes are {sizes}, unlike those before")
        rows.append(episode)
    if rows is None:
        raise ValueError(f"{stored.folder}: holds no episode")
    if num_steps != stored.num_steps or len(rows) != stored.num_episodes:
        raise ValueError(
            f"{stored.folder}: {num_steps:,} steps in {len(rows):,} episodes, its metadata.json promises "
            f"{stored.num_steps:,} in {stored.num_episodes:,}"
        )
    return rows


def _episode(stored: Stored, raw: dict[str, Any], where: str) -> Episode:
    # Data written by this package was flattened and scaled when it was written.
    is_flat = bool(stored.provenance)
    keys: tuple[KeyPath, ...] = ((),) if is_flat else stored.observation_keys
    observations = flatten_observations(raw["observations"], keys, batch_axes=1)
    actions = np.asarray(raw["actions"])
    rewards, terminations = (np.asarray(raw[key]).reshape(-1) for key in ("rewards", "terminations"))
    if not len(observations) - 1 == len(actions) == len(rewards) == len(terminations) or actions.ndim != 2:
        raise ValueError(
            f"{where}: {len(observations)} observations, actions of shape {actions.shape}, {len(rewards)} rewards and "
            f"{len(terminations)} terminations; L + 1, (L, size), L and L are expected"
        )
    if terminations[:-1].any():
        raise ValueError(f"{where}: terminates at step {int(np.argmax(terminations))} and goes on; split it there")
    actions = _in_bounds(actions if is_flat else stored.action_range.to_unit(actions), where)
    return Episode(observations, actions, rewards, bool(len(actions) and terminations[-1]))


def _raw_episodes(stored: Stored) -> Iterator[dict[str, Any]]:
    try:
        if stored.metadata["data_format"] == "hdf5":
            yield from _raw_hdf5(stored)
        else:
            yield from _raw_arrow(stored)
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(f"{stored.folder}: cannot be read: {error}") from error


# What is read of an episode, from either kind of file; not through Minari's readers: those also decode the infos,
# which are often larger than the data (and whose one-dimensional arrays Minari's Arrow reader stumbles over).
_FIELDS = ("observations", "actions", "rewards", "terminations")


def _raw_hdf5(stored: Stored) -> Iterator[dict[str, Any]]:
    # Opened anew now and then: an open file keeps about 50 kB of HDF5's own for every episode that was read.
    for start in range(0, stored.num_episodes, EPISODES_PER_OPENING):
        with h5py.File(stored.folder / "main_data.hdf5", "r") as file:
            for index in range(start, min(start + EPISODES_PER_OPENING, stored.num_episodes)):
                group = file[f"episode_{index}"]
                yield {key: _tree(group[key]) for key in _FIELDS}


def _tree(node: Any) -> Any:
    return {key: _tree(child) for key, child in node.items()} if isinstance(node, h5py.Group) else node[()]


def _raw_arrow(stored: Stored) -> Iterator[dict[str, Any]]:
    import pyarrow.dataset  # Minari's extra "arrow"; open_stored has asked for it already

    for index in range(stored.num_episodes):
        folder, kind = stored.folder / str(index), stored.metadata["data_format"]
        files = pyarrow.dataset.dataset(folder, format=kind, ignore_prefixes=["_", ".", "metadata.json"])
        table = files.to_table(columns=list(_FIELDS))
        raw = {key: _arrow_tree(table[key].combine_chunks()) for key in _FIELDS}
        # Columns are of one length: what comes one by one with actions is padded by one row.
        yield {key: value if key == "observations" else value[:-1] for key, value in raw.items()}


def _arrow_tree(array: Any) -> Any:
    if str(array.type).startswith("struct"):
        return {field.name: _arrow_tree(array.field(field.name)) for field in array.type}
    if str(array.type).startswith("fixed_size_list"):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)
    return array.to_numpy(zero_copy_only=False)


def _in_bounds(actions: np.ndarray, where: str) -> np.ndarray:
    beyond = np.abs(actions) > 1 + ACTION_TOLERANCE
    if beyond.any():
        step, column = (int(i) for i in np.argwhere(beyond)[0])
        raise ValueError(
            f"{where}: actions[{step}, {column}] is {actions[step, column]:g} in units of its bounds, beyond [-1, 1]"
        )
    return np.clip(actions, -1, 1)


def _environment(metadata: dict[str, Any]) -> tuple[str | None, str | None]:
    """(id, specification) of the environment of the evaluation: named by this package, or by Minari's keys."""
    own = metadata.get("dwm_jax", {})
    if own.get("environment") is not None:
        return own["environment"], own.get("environment_spec")
    text = metadata.get("eval_env_spec") or metadata.get("env_spec")
    if text is None:
        return None, None
    spec = json.loads(text)
    # Written by older Gymnasium releases, refused by newer ones.
    known = gym.envs.registration.EnvSpec.__dataclass_fields__
    return str(spec["id"]), json.dumps({key: value for key, value in spec.items() if key in known})
