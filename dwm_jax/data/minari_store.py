"""Episodes in and out of Minari's local folder. Reading never touches the network."""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer
from minari.storage.datasets_root_dir import get_dataset_path

from dwm_jax.locks import exclusive
from dwm_jax.types import Episode


def write_once(
    dataset_id: str,
    make_episodes: Callable[[], Sequence[Episode]],
    *,
    observation_space: gym.spaces.Box,
    action_space: gym.spaces.Box,
    reference_scores: tuple[float, float] | None,
    description: str,
    algorithm: str,
    requirements: Sequence[str],
) -> None:
    """Makes the local data set `dataset_id` unless it is there already.

    Safe to call from many processes and to interrupt: one process makes it, the others wait; it is written
    under another name and renamed when whole, so a data set that exists is complete.

    Args:
      dataset_id: a Minari id without a namespace.
      make_episodes: () -> sequence of `Episode`; called only when the data set is missing.
      reference_scores: (min, max) returns of the normalised score, kept in the metadata.
    """
    path = get_dataset_path(dataset_id)
    if path.exists():
        return
    with exclusive(path.parent / ".dwm_jax.lock", wait=True):
        if path.exists():
            return
        scores: dict[str, float] = {}
        if reference_scores is not None:
            scores = {"ref_min_score": reference_scores[0], "ref_max_score": reference_scores[1]}
        buffers = [
            EpisodeBuffer(
                id=index,
                observations=episode.observations,  # type: ignore[arg-type]
                actions=episode.actions,  # type: ignore[arg-type]
                rewards=episode.rewards,  # type: ignore[arg-type]
                terminations=_only_last(len(episode.actions), episode.terminated),  # type: ignore[arg-type]
                truncations=_only_last(len(episode.actions), not episode.terminated),  # type: ignore[arg-type]
            )
            for index, episode in enumerate(make_episodes())
        ]
        with _datasets_root(path.parent / f".partial-{os.getpid()}") as aside, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Minari asks for authors and links
            minari.create_dataset_from_buffers(
                dataset_id,
                buffers,
                observation_space=observation_space,
                action_space=action_space,
                algorithm_name=algorithm,
                description=description,
                requirements=list(requirements),
                **scores,
            )
            os.rename(aside / dataset_id, path)


def read_episodes(dataset_id: str) -> list[Episode]:
    """All episodes of a local Minari data set with flat Box observations."""
    return [
        Episode(
            observations=np.asarray(episode.observations),
            actions=np.asarray(episode.actions),
            rewards=np.asarray(episode.rewards),
            terminated=bool(episode.terminations[-1]),
        )
        for episode in minari.load_dataset(dataset_id).iterate_episodes()
    ]


@contextmanager
def _datasets_root(folder: Path) -> Iterator[Path]:
    """Minari's root is `folder` inside the block; the folder and what is left in it are removed after."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    try:
        yield folder
    finally:
        del os.environ["MINARI_DATASETS_PATH"]
        if before is not None:
            os.environ["MINARI_DATASETS_PATH"] = before
        shutil.rmtree(folder, ignore_errors=True)


def _only_last(length: int, value: bool) -> np.ndarray:
    flags = np.zeros(length, bool)
    flags[-1] = value
    return flags
