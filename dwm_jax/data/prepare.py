"""Data from the field becomes a local Minari data set, once; the only place that touches the network."""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import minari

from dwm_jax.data import download, environments, minari_reading, minari_store, tasks, trust
from dwm_jax.data.d4rl_tasks import D4RL_TASKS, checksums
from dwm_jax.data.importing import NOWHERE, Wishes, read_contents
from dwm_jax.data.minari_reading import Stored
from dwm_jax.data.minari_store import Contents

# (bytes so far, bytes in all where known)
Progress = Callable[[int, int | None], None]
NOTHING_SAID = Wishes()


def prepare(
    name: str,
    files: Sequence[Path] = (),
    wishes: Wishes = NOTHING_SAID,
    *,
    on_progress: Progress = lambda done, total: None,
) -> tuple[str, bool]:
    """Makes the data called `name` ready for training, unless it is ready already.

    Safe to run many times at once and to interrupt: one process works, the others wait for it.

    Args:
      name: a D4RL name, a Minari id, or any name for files of one's own.
      files: HDF5 files in D4RL's layout, taken together in order; or one folder of Minari episodes. None: the data
        of a known name is downloaded.
      wishes: what the files do not say.

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
    if wishes.environment is not None and (module := environments.module_of(wishes.environment)):
        trust.allow(module)
    sources: list[dict[str, Any]] | None = None
    if files:
        known = sources = [_source(path) for path in files]
        made = minari_store.make_once(dataset_id, lambda: read_contents(name, files, known, wishes))
    elif name in D4RL_TASKS:
        made = minari_store.make_once(dataset_id, lambda: _download_d4rl(name, wishes, on_progress))
    elif name == dataset_id:
        made = minari_store.put_once(dataset_id, lambda aside: _download_minari(dataset_id, aside))
    else:
        raise ValueError(
            f"nothing is known about {name!r}: known names are {', '.join(tasks.known_names())}; a Minari id ends in "
            "its version (mujoco/hopper/medium-v0); a file of your own comes with --file"
        )
    if not made:
        # There already, or made by another process while this one waited for it.
        _refuse_other(name, dataset_id, sources, wishes)
    return dataset_id, made


def _download_d4rl(name: str, wishes: Wishes, on_progress: Progress) -> Contents:
    task = D4RL_TASKS[name]
    path = minari_store.path_of("") / ".downloads" / task.file
    known = checksums().get(task.file)
    if path.exists() and known is not None and (path.stat().st_size, download.file_digest(path)) != known:
        path.unlink()
    url = None if path.exists() else download.fetch(task.urls, path, on_progress, known)
    source = _source(path) | ({"url": url} if url else {})
    contents = read_contents(name, [path], [source], wishes)
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


def _refuse_other(name: str, dataset_id: str, sources: list[dict[str, Any]] | None, wishes: Wishes) -> None:
    """Refuses to pass data off for another that is there under the same name."""
    stored: Stored = minari_store.stored(dataset_id)
    place = f"{name} is there already, {stored.folder.parent}"
    remedy = "choose another name, or remove that folder"
    if sources is not None:
        there = [source.get("sha256") for source in stored.provenance.get("sources", [])]
        if there != [source["sha256"] for source in sources]:
            raise ValueError(f"{place}, and was made from other files; {remedy}")
    wanted = None if wishes.environment == NOWHERE else wishes.environment
    if wishes.environment is not None and wanted != stored.environment:
        raise ValueError(f"{place}, and is evaluated in {stored.environment or 'nothing'}, not {wanted}; {remedy}")
    for wish in ("timeouts", "actions", "max_episode_steps"):
        said, unsaid = getattr(wishes, wish), getattr(NOTHING_SAID, wish)
        there = stored.provenance.get(wish, unsaid)
        if said not in (unsaid, there):
            raise ValueError(f"{place}, and was made with {wish.replace('_', ' ')} {there}, not {said}; {remedy}")
