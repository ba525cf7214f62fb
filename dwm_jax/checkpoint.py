"""Checkpoints of one phase of a run: the newest two and the final one, saved whole or not at all."""

from pathlib import Path

import jax
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
        self._manager.save(step, args=ocp.args.StandardSave(state), force=True)
        self._manager.wait_until_finished()

    def restore(self, like: PyTree) -> tuple[int, PyTree] | None:
        """(step, state) of the newest checkpoint, None where there is none.

        Args:
          like: a tree of the structure, shapes and types that were saved; restored onto its devices.
        """
        step = self.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return step, self._manager.restore(step, args=ocp.args.StandardRestore(abstract))

    def close(self) -> None:
        self._manager.close()
