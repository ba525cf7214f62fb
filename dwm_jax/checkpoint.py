"""Checkpoints of one phase of a run: the newest two and the final one, saved whole or not at all."""

from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from dwm_jax.types import PyTree

NUM_KEPT = 2


class Checkpoints:
    """Saves and restores one pytree per step in a folder of its own (orbax).

    Saving is synchronous: when `save` returns, the checkpoint is on disk; orbax writes aside and renames, so an
    interrupted save leaves the older checkpoints as they were.
    """

    def __init__(self, directory: Path):
        self.directory = directory.resolve()
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.LatestN(NUM_KEPT),
                enable_async_checkpointing=False,
            ),
        )

    def latest_step(self) -> int | None:
        """The newest step saved, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: PyTree) -> None:
        """Saves `state` (no device axis) under `step`; a step that is there already is left alone."""
        if step in self._manager.all_steps():
            return
        self._manager.save(step, args=ocp.args.StandardSave(jax.tree.map(np.asarray, state)), force=True)
        self._manager.wait_until_finished()

    def restore(self, like: PyTree) -> tuple[int, PyTree] | None:
        """(step, state) of the newest checkpoint, None where there is none.

        Args:
          like: a tree of the structure, shapes and types that were saved.
        """
        step = self.latest_step()
        if step is None:
            return None
        # Host arrays carry no devices: what eight devices saved opens on one, and a GPU's on a CPU.
        on_host = jax.tree.map(np.asarray, like)
        return step, self._manager.restore(step, args=ocp.args.StandardRestore(on_host))

    def restore_raw(self) -> PyTree:
        """The newest checkpoint as nested dictionaries of host arrays, whatever its structure; to look inside."""
        return self._manager.restore(self.latest_step(), args=ocp.args.StandardRestore())

    def close(self) -> None:
        self._manager.close()
