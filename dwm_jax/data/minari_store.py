"""Episodes in and out of Minari's local folder. Reading never touches the network.

A data set is a folder in Minari's own layout. What Minari has no key for is kept under "dwm_jax" in its
metadata.json: the environment of the evaluation, where the data came from, and what its conversion found.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_dataset import DATASET_ID_RE
from minari.dataset.minari_storage import MinariStorage
from minari.storage.datasets_root_dir import get_dataset_path

from dwm_jax.data import minari_reading
from dwm_jax.data.minari_reading import Stored
from dwm_jax.runtime import files, interruption
from dwm_jax.runtime.locks import exclusive
from dwm_jax.runtime.progress import say, show_progress
from dwm_jax.types import Episode

PREPARE = "python -m dwm_jax.data prepare"
# Bytes that HDF5 adds to an episode's arrays, at the most: 14 to 18 thousand were found.
GROUPS_OF_EPISODE = 24_576


@dataclass(frozen=True)
class Contents:
    """What a new local data set will hold."""

    episodes: Sequence[Episode]
    observation_space: gym.spaces.Box
    action_space: gym.spaces.Box
    reference_scores: tuple[float, float] | None  # (min, max) return of the normalised score
    description: str
    algorithm: str
    requirements: Sequence[str] = ()
    # Kept under "dwm_jax" in the metadata: environment, sources, findings ... (JSON).
    provenance: Mapping[str, Any] = field(default_factory=dict)


def local_id(name: str) -> str:
    """The Minari id under which the data called `name` is kept: Minari wants a version, `-v0` where there is none.

    Raises:
      ValueError: a name that Minari would refuse.
    """
    match = DATASET_ID_RE.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} cannot name a data set: letters, digits, - and _, with / between namespaces")
    return name if match["version"] is not None else f"{name}-v0"


def path_of(dataset_id: str) -> Path:
    """The folder of a local data set, there or not."""
    named = os.environ.get("MINARI_DATASETS_PATH")
    if named == "":
        raise ValueError("MINARI_DATASETS_PATH is empty; name a folder for data sets, or unset it for Minari's own")
    files.refuse_tilde(Path(named or ""))  # Minari makes the folder as it is asked
    try:
        return Path(get_dataset_path(dataset_id))
    except OSError as error:
        raise ValueError(
            f"no folder for data sets: {error.filename or 'the home folder'}: {error.strerror or error}; name one that "
            "can be written with MINARI_DATASETS_PATH"
        ) from error


def exists(dataset_id: str) -> bool:
    """Whether the data set is there; it is complete then. Opens no file."""
    return (path_of(dataset_id) / "data").is_dir()


def make_once(dataset_id: str, make: Callable[[], Contents]) -> bool:
    """Makes the local data set `dataset_id` unless it is there already.

    Safe to call from many processes and to interrupt: one process makes it, the others wait; it is written
    under another name and renamed when whole, so a data set that exists is complete.

    Args:
      dataset_id: a Minari id, with its version.
      make: () -> contents; called only when the data set is missing.

    Returns:
      Whether this call made it.
    """

    def write(aside: Path) -> None:
        _write(aside, dataset_id, make())

    return put_once(dataset_id, write)


def put_once(dataset_id: str, write: Callable[[Path], None]) -> bool:
    """`make_once` for anyone who writes the folder himself: `write` gets the path of a folder to make."""
    path = path_of(dataset_id)
    if exists(dataset_id):
        return False
    with _locked(path):
        if exists(dataset_id):
            return False
        if path.exists():
            raise ValueError(f"{path} is there already and holds no data set of that name; choose another name")
        # Only the holder of the lock writes here: what is there was left by a process that died.
        aside = path.parent / f".partial-{path.name}"
        shutil.rmtree(aside, ignore_errors=True)
        try:
            with files.named_in_errors(path):
                write(aside)
                files.put_in_place(aside, path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return True


def read_stored(dataset_id: str) -> Stored:
    """What a local data set says about itself, without its episodes.

    Raises:
      ValueError: it is not there, cannot be read, or holds what cannot be learnt from; the message says what to do.
    """
    if not exists(dataset_id):
        name = dataset_id.removesuffix("-v0")
        raise ValueError(f"no data set {dataset_id!r} in {path_of('')}; make it with: {PREPARE} {name}")
    there = minari_reading.open_stored(path_of(dataset_id) / "data")
    findings = there.provenance.get("findings", [])
    if any("reward_kept" not in finding and finding["next_observations"] != "used" for finding in findings):
        raise ValueError(
            f"{dataset_id} was converted by an earlier version, which dropped the last transition of every episode and "
            f"its reward; remove {there.folder.parent} and prepare it again from its files"
        )
    return there


def read_episodes(dataset_id: str) -> Sequence[Episode]:
    """All episodes of a local Minari data set: observations flattened, actions in [-1, 1], float32.

    Raises:
      ValueError: as `read_stored` and `minari_reading.read`.
    """
    return minari_reading.read(read_stored(dataset_id))


def read_made(dataset_id: str, make: Callable[[], object]) -> Sequence[Episode]:
    """`read_episodes` of data that `make` makes, always the same: what is there and damaged is made again.

    Raises:
      ValueError: it cannot be read when it has just been made.
    """
    make()
    try:
        return read_episodes(dataset_id)
    except ValueError as error:
        say(f"{error}; it is made again")
    with _locked(path_of(dataset_id)):
        try:
            return read_episodes(dataset_id)  # another process was here before
        except ValueError:
            shutil.rmtree(path_of(dataset_id))
    make()
    return read_episodes(dataset_id)


def local_ids() -> list[str]:
    """The ids of all local data sets, sorted. Lists folders, opens no file.

    A data set's folder ends in its version; one without is a namespace, `data` too.
    """
    root = path_of("")
    ids = []
    for folder, subfolders, _ in os.walk(root):
        name = Path(folder).relative_to(root).as_posix()
        match = DATASET_ID_RE.fullmatch(name)
        if "data" in subfolders and match is not None and match["version"] is not None:
            ids.append(name)
            subfolders.clear()
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
    return sorted(ids)


def raw_metadata(dataset_id: str) -> dict[str, Any]:
    """The metadata.json of a local data set."""
    return dict(MinariStorage.read_raw_metadata(path_of(dataset_id) / "data"))


def _locked(path: Path) -> AbstractContextManager[None]:
    """Only one process makes, or removes, the data set at `path`."""
    return exclusive(path.parent / f".{path.name}.lock", wait=True)


def _write(folder: Path, dataset_id: str, contents: Contents) -> None:
    # Minari's own storage, not its create function: that one drops scores where no environment is recorded, keeps
    # all buffers in memory and wants the final place to write to.
    (folder / "data").mkdir(parents=True)
    storage = MinariStorage.new(
        folder / "data", observation_space=contents.observation_space, action_space=contents.action_space
    )
    metadata: dict[str, Any] = {
        "dataset_id": dataset_id,
        "minari_version": minari.__version__,
        "algorithm_name": contents.algorithm,
        "description": contents.description,
        "requirements": list(contents.requirements),
        "dwm_jax": json.loads(json.dumps(contents.provenance)),
    }
    if contents.reference_scores is not None:
        metadata |= dict(zip(("ref_min_score", "ref_max_score"), contents.reference_scores, strict=True))
    environment = contents.provenance.get("environment")
    if environment in gym.registry:
        # For Minari's other users. Whoever registers a class itself, or functions as arguments, has no JSON of it.
        with suppress(TypeError, ValueError):
            metadata["eval_env_spec"] = gym.spec(environment).to_json()
    storage.update_metadata(metadata)
    files.require_room(folder, _size_of(contents.episodes))
    # A hundred thousand episodes take HDF5 minutes, however short they are.
    with show_progress(f"writing {dataset_id}", len(contents.episodes), unit="episode", stays=False) as progress:
        storage.update_episodes(_buffers(contents.episodes, progress.advance))


def _size_of(episodes: Sequence[Episode]) -> int:
    """Bytes of the HDF5 file that episodes become, at the most: their arrays, and the groups around them."""
    arrays = (array.nbytes for one in episodes for array in (one.observations, one.actions, one.rewards))
    return sum(arrays) + sum(2 * len(one.rewards) + GROUPS_OF_EPISODE for one in episodes) + GROUPS_OF_EPISODE


def _buffers(episodes: Sequence[Episode], on_episode: Callable[[int], None]) -> Iterator[EpisodeBuffer]:
    for index, episode in enumerate(episodes):
        interruption.raise_if_requested()
        on_episode(index)
        yield EpisodeBuffer(
            id=index,
            observations=episode.observations,  # type: ignore[arg-type]
            actions=episode.actions,  # type: ignore[arg-type]
            rewards=episode.rewards,  # type: ignore[arg-type]
            terminations=_only_last(len(episode.actions), episode.terminated),  # type: ignore[arg-type]
            truncations=_only_last(len(episode.actions), not episode.terminated),  # type: ignore[arg-type]
        )


def _only_last(length: int, value: bool) -> np.ndarray:
    flags = np.zeros(length, bool)
    flags[-1] = value
    return flags
