"""Checkpoints of one phase of a run: the two newest, saved whole or not at all, checked when read."""

import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy
from orbax.checkpoint.options import MultiprocessingOptions

from dwm_jax.runtime import files, processes
from dwm_jax.runtime.progress import printable, say
from dwm_jax.types import PyTree

NUM_KEPT = 2
# Of a disk, in bytes: what a file takes beside its content, about.
BLOCK = 4096
# Of what is written below; a checkpoint of another format is refused.
FORMAT = 1
# Of a path: orbax saves below a folder with one of these in its name, and then finds nothing there.
UNREADABLE_CHARACTERS = "[]\\*?"
# Part of the name of what orbax is still writing.
UNFINISHED = ".orbax-checkpoint-tmp"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; one line says which and what to do. Nothing was deleted."""


def refuse_place(folder: Path | str) -> None:
    """Refuses a folder in which checkpoints could not be kept, before anything is computed.

    Raises:
      ValueError: not a local path, one whose ~ nobody has expanded, a link to nowhere, or one that orbax cannot
        write to or read from.
    """
    # Path("gs://bucket/x") is the local folder gs:/bucket/x.
    if "://" in str(folder) or ":/" in str(folder):
        raise ValueError(f"{folder} is not a local path; name a folder of this machine, or one that is mounted on it")
    files.refuse_tilde(Path(folder))
    files.refuse_dangling(str(folder), Path(folder))
    path = str(Path(folder).resolve())
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{printable(path)} is not a path in UTF-8: checkpoints below it cannot be saved; rename it, or set "
            "PYTHONUTF8=1 where the locale is another"
        ) from error
    wrong = sorted(set(path) & set(UNREADABLE_CHARACTERS))
    if wrong:
        raise ValueError(f"{folder} has {' '.join(wrong)} in its path: checkpoints below it cannot be read; rename it")


class Checkpoints:
    """Saves and restores one pytree per step in a folder of its own (orbax).

    Saving is synchronous: when `save` returns, the checkpoint is on disk; orbax writes aside and renames, so an
    interrupted or failed save leaves the older checkpoints as they were. Beside the arrays lie their SHA-256 and
    shapes: damage is noticed and never trained on.

    Of a run's processes the first saves, without waiting for the others, and restores for them
    (`processes.call_on_first`); elsewhere nothing is read or written, and nothing found.
    """

    def __init__(self, directory: Path, *, read_only: bool = False):
        """With `read_only` nothing there is written, removed or renamed, and a folder that is not there is refused.

        Raises:
          CheckpointError: `read_only`, and there is no such folder.
        """
        self.directory = directory.resolve()
        self._read_only = read_only
        self._was_read_back = False
        self._manager = self._open()

    def _open(self) -> Any:
        if not processes.is_first():
            return _NotHere()
        refuse_place(self.directory)
        if self._read_only:
            if not self.directory.is_dir():
                raise CheckpointError(f"there are no checkpoints in {self.directory}")
        else:
            # Orbax makes the folder only where all processes take part.
            files.make_folder(self.directory)
            self._drop_unfinished()
        return ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.LatestN(NUM_KEPT),
                enable_async_checkpointing=False,
                create=False,
                multiprocessing_options=MultiprocessingOptions(active_processes={0}),
            ),
        )

    def latest_step(self) -> int | None:
        """The newest step saved, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: PyTree) -> None:
        """Saves `state` (no device axis) under `step`; a step that is there already is left alone.

        The first one is read back at once: what this disk does not keep is not found out hours later.

        Raises:
          CheckpointError: the disk is full, or cannot be written.
        """
        if not processes.is_first() or step in self._manager.all_steps():
            return
        state = jax.tree.map(np.asarray, state)
        description = {"format": FORMAT, "shapes": _shapes(state), "sha256": _digest(state)}
        try:
            self._refuse_too_little_room(state)
            with _without_log():
                self._manager.save(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardSave(state), description=ocp.args.JsonSave(description)
                    ),
                    force=True,
                )
                self._manager.wait_until_finished()
            files.flush_tree(self.directory / str(step))
            files.flush(self.directory)
            if not self._was_read_back:
                self._read(step, state)
                self._was_read_back = True
        except Exception as error:
            # Orbax and the libraries below it raise whatever they like.
            self._drop_unfinished()
            raise CheckpointError(
                f"could not save step {step} in {self.directory}: {_line(error)}; the checkpoints before it are whole, "
                f"make room and start the same command again"
            ) from error

    def _refuse_too_little_room(self, state: PyTree) -> None:
        """Threads of a save that runs out of room print tracebacks of their own; some disks count nothing and say 0."""
        free = shutil.disk_usage(self.directory).free
        if 0 < free < sum(leaf.nbytes + BLOCK for leaf in jax.tree.leaves(state)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fingerprint(self) -> str:
        """SHA-256 of the newest checkpoint's arrays, as it says itself; `restore` proves it.

        Raises:
          CheckpointError: there is none, or one that does not say so.
        """
        step = self.latest_step()
        if step is None:
            raise CheckpointError(f"there are no checkpoints in {self.directory}")
        try:
            return str(self._described(step)["sha256"])
        except Exception as error:
            raise CheckpointError(f"checkpoint {step} in {self.directory} is damaged: {_line(error)}") from error

    def restore(self, like: PyTree) -> tuple[int, PyTree] | None:
        """(step, state) of the newest checkpoint that is whole, None where there is none at all.

        A damaged one is said and set aside under another name, and the one before it is taken.

        Args:
          like: a tree of the structure, shapes and types that were saved; its values are not looked at.

        Raises:
          CheckpointError: none can be read, or they hold something else than `like`.
        """
        # Host arrays carry no devices: what eight devices saved opens on one, and a GPU's on a CPU.
        like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        steps = sorted(self._manager.all_steps(), reverse=True)
        for position, step in enumerate(steps):
            try:
                state = self._read(step, like)
            except CheckpointError:
                raise
            except Exception as error:
                say(f"checkpoint {step} in {self.directory} is damaged: {_line(error)}")
                continue
            self._set_aside(steps[:position])
            return step, state
        if steps:
            raise CheckpointError(
                f"no checkpoint in {self.directory} can be read; nothing was deleted. Move the folder away to restart"
            )
        return None

    def _read(self, step: int, like: PyTree) -> PyTree:
        description = self._described(step)
        if description["format"] != FORMAT:
            raise CheckpointError(
                f"checkpoint {step} in {self.directory} has format {description['format']}, this version reads {FORMAT}"
            )
        if description["shapes"] != _shapes(like):
            raise CheckpointError(
                f"checkpoint {step} in {self.directory} holds other arrays than this run: "
                f"{_first_difference(description['shapes'], _shapes(like))}"
            )
        state = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like))).state
        if _digest(state) != description["sha256"]:
            raise ValueError("the arrays are not the ones that were saved")
        return state

    def _described(self, step: int) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(description=ocp.args.JsonRestore())).description

    def _set_aside(self, steps: list[int]) -> None:
        """Renames damaged checkpoints, so that their steps can be saved anew."""
        if not steps or self._read_only:
            return
        self._manager.close()
        for step in steps:
            name = f"{self.directory.name}.damaged-{step}"
            places = map(self.directory.with_name, (name, *(f"{name}-{again}" for again in range(2, 1_000))))
            aside = next(place for place in places if not place.exists())
            (self.directory / str(step)).rename(aside)
            say(f"set aside as {aside}")
        self._manager = self._open()

    def _drop_unfinished(self) -> None:
        """Removes what saves that were killed, or failed, have left; whoever saves here holds the folder's lock."""
        for path in self.directory.glob(f"*{UNFINISHED}*"):
            shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        self._manager.close()


class _NotHere:
    """Stands for the manager on a process that has no checkpoints."""

    def latest_step(self) -> None:
        return None

    def all_steps(self) -> list[int]:
        return []

    def close(self) -> None:
        pass


@contextmanager
def _without_log() -> Iterator[None]:
    """Nothing is logged inside the block: orbax's threads log what they raise, and it arrives here, too."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _shapes(state: PyTree) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _digest(state: PyTree) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _first_difference(saved: dict[str, str], wanted: dict[str, str]) -> str:
    name = next(key for key in sorted(saved.keys() | wanted.keys()) if saved.get(key) != wanted.get(key))
    there, here = saved.get(name, "absent"), wanted.get(name, "absent")
    # Float64 and int64 are jax's only under this variable.
    of_bits = there.replace("64[", "32[") == here.replace("64[", "32[")
    return f"{name} is {there}, wanted {here}" + ("; set JAX_ENABLE_X64 as it was before" if of_bits else "")


def _line(error: Exception) -> str:
    """The first line of an exception's text, not too long; its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
