"""Data from the field becomes a local Minari data set, once; the only place that touches the network."""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np

from dwm_jax.data import d4rl, download, environments, minari_reading, minari_store, tasks
from dwm_jax.data.d4rl_tasks import D4RL_TASKS
from dwm_jax.data.flat_arrays import Findings
from dwm_jax.data.minari_reading import Stored
from dwm_jax.data.minari_store import Contents
from dwm_jax.data.spaces import ActionRange
from dwm_jax.types import Episode

# (bytes so far, bytes in all where known)
Progress = Callable[[int, int | None], None]


def prepare(
    name: str,
    files: Sequence[Path],
    environment: str | None,
    *,
    on_progress: Progress = lambda done, total: None,
) -> tuple[str, bool]:
    """Makes the data called `name` ready for training, unless it is ready already.

    Safe to run many times at once and to interrupt: one process works, the others wait for it.

    Args:
      name: a D4RL name, a Minari id, or any name for files of one's own.
      files: HDF5 files in D4RL's layout, taken together in order; or one folder of Minari episodes. None: the data
        of a known name is downloaded.
      environment: Gymnasium id for the evaluation of `files`; None takes the one the files name, else the table's.

    Returns:
      (id of the local data set, whether this call made it).

    Raises:
      ValueError: nothing is known under the name, a file is not in order, the environment does not fit, the
        download failed, or other data is there under the name already.
      Interrupted: a signal asked; nothing is there under the name, and a download goes on where it stopped.
    """
    if name in tasks.MADE_TASKS:
        raise ValueError(f"{name} is made on the spot by a run, from no file and no download; there is nothing to do")
    dataset_id = minari_store.local_id(name)
    if files:
        sources = [_source(path) for path in files]
        if minari_store.exists(dataset_id):
            _refuse_other(name, dataset_id, sources, environment)
            return dataset_id, False
        return dataset_id, minari_store.make_once(dataset_id, lambda: _import(name, files, sources, environment))
    if minari_store.exists(dataset_id):
        _refuse_other(name, dataset_id, None, environment)
        return dataset_id, False
    if name in D4RL_TASKS:
        return dataset_id, minari_store.make_once(dataset_id, lambda: _download_d4rl(name, environment, on_progress))
    if name != dataset_id:
        raise ValueError(
            f"nothing is known about {name!r}: known names are {', '.join(tasks.known_names())}; a Minari id ends in "
            "its version (mujoco/hopper/medium-v0); a file of your own comes with --file"
        )
    return dataset_id, minari_store.put_once(dataset_id, lambda aside: _download_minari(dataset_id, aside))


def _import(name: str, files: Sequence[Path], sources: list[dict[str, Any]], environment: str | None) -> Contents:
    if any(path.is_dir() for path in files):
        if len(files) > 1:
            raise ValueError(
                f"--file takes HDF5 files, or one folder of Minari episodes; got {len(files)} with a folder"
            )
        return _import_folder(name, files[0], sources, environment)
    environment = _environment(name, files, environment)
    limit = environments.step_limit(environment)
    conversions = [d4rl.read(path, limit) for path in files]
    episodes = [episode for conversion in conversions for episode in conversion.episodes]
    sizes = {(e.observations.shape[1], e.actions.shape[1]) for e in episodes}
    if len(sizes) > 1:
        raise ValueError(f"{', '.join(map(str, files))}: observation and action sizes differ: {sorted(sizes)}")
    ((observation_size, action_size),) = sizes
    environments.make(
        environment,
        actions=ActionRange((-1.0,) * action_size, (1.0,) * action_size),
        observation_size=observation_size,
    ).close()
    _refuse_lost_rewards(files, [conversion.findings for conversion in conversions], episodes)
    findings = [conversion.findings._asdict() for conversion in conversions]
    provenance = {"environment": environment, "step_limit": limit, "sources": sources, "findings": findings}
    return _contents(name, episodes, _reference_scores(name, environment), "recorded elsewhere", provenance)


def _import_folder(name: str, folder: Path, sources: list[dict[str, Any]], environment: str | None) -> Contents:
    stored = minari_reading.open_stored(folder if (folder / "metadata.json").exists() else folder / "data")
    # Its specification settles arguments and clock; an environment given by hand comes with its own.
    spec = stored.environment_spec if environment is None else None
    environment = environment or stored.environment
    if environment is None:
        raise ValueError(f"{folder} names no environment; name the one to evaluate in with --env")
    if not environments.is_known(environment):
        raise ValueError(f"{environment!r} is not an environment that Gymnasium knows here; name one with --env")
    episodes = minari_reading.read(stored)
    environments.make(environment, spec, keys=stored.observation_keys, actions=stored.action_range).close()
    provenance = {
        "environment": environment,
        "environment_spec": spec,
        "step_limit": environments.step_limit(environment),
        "sources": sources,
        "observation_keys": stored.observation_keys,
        "action_range": stored.action_range,
    }
    algorithm = str(stored.metadata.get("algorithm_name", "recorded elsewhere"))
    scores = stored.reference_scores or _reference_scores(name, environment)
    return _contents(name, episodes, scores, algorithm, provenance)


def _refuse_lost_rewards(files: Sequence[Path], findings: Sequence[Findings], episodes: Sequence[Episode]) -> None:
    """Refuses files of whose rewards nothing is left: a policy would learn from zeros."""
    recorded = sum(finding.reward_recorded for finding in findings)
    if recorded and not any(episode.rewards.any() for episode in episodes):
        raise ValueError(
            f"{', '.join(map(str, files))}: the rewards add up to {recorded:,.6g} and all of them are in transitions "
            f"that cannot be kept ({sum(f.dropped_truncated for f in findings):,} rows at time-outs without "
            f"next_observations, {sum(f.dropped_behind for f in findings):,} behind a terminal); flag ends of the task "
            "as terminals, or record next_observations"
        )


def _contents(
    name: str,
    episodes: Sequence[Episode],
    scores: tuple[float, float] | None,
    algorithm: str,
    provenance: dict[str, Any],
) -> Contents:
    files = ", ".join(source["file"] for source in provenance["sources"])
    return Contents(
        episodes=episodes,
        observation_space=gym.spaces.Box(-np.inf, np.inf, episodes[0].observations.shape[1:], np.float32),
        action_space=gym.spaces.Box(-1, 1, episodes[0].actions.shape[1:], np.float32),
        reference_scores=scores,
        description=f"{name}, converted from {files}",
        algorithm=algorithm,
        provenance=provenance,
    )


def _download_d4rl(name: str, environment: str | None, on_progress: Progress) -> Contents:
    task = D4RL_TASKS[name]
    path = minari_store.path_of("") / ".downloads" / task.file
    url = None if path.exists() else download.fetch(task.urls, path, on_progress)
    source = _source(path) | ({"url": url} if url else {})
    contents = _import(name, [path], [source], environment)
    path.unlink()
    return contents


def _download_minari(dataset_id: str, aside: Path) -> None:
    # Minari takes no lock and writes to its final place: it is given another root, and the folder is moved.
    root = aside.with_name(f"{aside.name}-download")
    with _minari_root(root), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            minari.download_dataset(dataset_id)
        except Exception as error:  # whatever the remote storage raises
            raise ValueError(f"Minari could not download {dataset_id!r}: {type(error).__name__}: {error}") from error
        minari_reading.open_stored(root / dataset_id / "data")
        os.rename(root / dataset_id, aside)


@contextmanager
def _minari_root(folder: Path) -> Iterator[None]:
    """Minari's root is `folder` inside the block; the folder and what is left in it are removed after."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    shutil.rmtree(folder, ignore_errors=True)
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    try:
        yield
    finally:
        del os.environ["MINARI_DATASETS_PATH"]
        if before is not None:
            os.environ["MINARI_DATASETS_PATH"] = before
        shutil.rmtree(folder, ignore_errors=True)


def _source(path: Path) -> dict[str, Any]:
    """File name, size and SHA-256 of a file; a folder's is that of its metadata.json and its size there."""
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    if path.is_dir():
        inside = path if (path / "metadata.json").exists() else path / "data"
        file = inside / "metadata.json"
        if not file.exists():
            raise ValueError(f"{path}: a folder without Minari's metadata.json")
        return {"file": path.resolve().name, "bytes": file.stat().st_size, "sha256": download.file_digest(file)}
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": download.file_digest(path)}


def _environment(name: str, files: Sequence[Path], given: str | None) -> str:
    """The environment to evaluate in: the one given, the one the files name, or the table's."""
    table = D4RL_TASKS[name].environment if name in D4RL_TASKS else None
    named = {path.name: d4rl.environment_of(path) for path in files}
    usable = sorted({e for e in named.values() if e is not None and environments.is_known(e)})
    if given is None and len({environments.robot(e) for e in named.values() if e is not None}) > 1:
        raise ValueError(f"the files name different environments: {named}; name the one to evaluate in with --env")
    environment = given or (usable[-1] if usable else table)
    if environment is None:
        raise ValueError(
            f"{', '.join(map(str, files))}: metadata/environment names "
            f"{', '.join(sorted({str(e) for e in named.values() if e})) or 'no environment'}; name the Gymnasium "
            "environment to evaluate in with --env"
        )
    if not environments.is_known(environment):
        raise ValueError(f"{environment!r} is not an environment that Gymnasium knows here; name another with --env")
    if table is not None and environments.robot(environment) != environments.robot(table):
        raise ValueError(f"{name} is a task of {table}, the data one of {environment}; give it a name of its own")
    return environment


def _reference_scores(name: str, environment: str) -> tuple[float, float] | None:
    if name in D4RL_TASKS:
        return D4RL_TASKS[name].reference_scores
    return environments.REFERENCE_SCORES.get(environments.robot(environment))


def _refuse_other(name: str, dataset_id: str, sources: list[dict[str, Any]] | None, environment: str | None) -> None:
    """Refuses to pass data off for another that is there under the same name."""
    stored: Stored = minari_store.stored(dataset_id)
    place = f"{name} is there already, {stored.folder.parent}"
    remedy = "choose another name, or remove that folder"
    if sources is not None:
        there = [source.get("sha256") for source in stored.provenance.get("sources", [])]
        if there != [source["sha256"] for source in sources]:
            raise ValueError(f"{place}, and was made from other files; {remedy}")
    if environment is not None and environment != stored.environment:
        raise ValueError(f"{place}, and is evaluated in {stored.environment}, not {environment}; {remedy}")
