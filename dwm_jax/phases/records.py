"""The files of one phase: metric rows, wall times and the checkpoints that vouch for them."""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from dwm_jax.phases.phase import Phase, RunError, checkpoints_of
from dwm_jax.runtime import mirrors, processes
from dwm_jax.runtime.checkpoints import Checkpoints
from dwm_jax.runtime.progress import say
from dwm_jax.runtime.row_files import OF_A_PHASE, TIMES, JsonLines, refuse_unreadable
from dwm_jax.runtime.stopwatch import spending
from dwm_jax.types import Metrics, PyTree


class Records:
    """Opens them and goes on from the last checkpoint: what was written after it is cut, and comes again.

    Attributes:
      step, state: where the phase goes on from; the first state where there is no checkpoint.
      seconds: wall time of the phase up to its newest checkpoint, earlier starts included.
    """

    def __init__(self, phase: Phase):
        self._phase = phase
        self._metrics = JsonLines(phase.folder / "metrics.jsonl", OF_A_PHASE)
        self._timing = JsonLines(phase.folder / "timing.jsonl", TIMES)
        self._checkpoints = Checkpoints(checkpoints_of(phase.folder, phase.name))
        refuse_unreadable(self._metrics)
        self._timing.renew()
        self.step, self.state = processes.call_on_first(self._begin)
        for file in (self._metrics, self._timing):
            file.cut(phase.name, self.step)
        self._say_what_is_lost()
        mirrors.resume(phase.name, self.step)
        rows = [row for row in self._timing.find() if row["phase"] == phase.name]
        self.seconds = self._earlier_seconds = max([row["seconds"] for row in rows], default=0.0)
        self._start = time.monotonic()

    def _begin(self) -> tuple[int, PyTree]:
        if self._checkpoints.latest_step() is None:
            return 0, self._phase.make_state()
        restored = self._checkpoints.restore(jax.eval_shape(self._phase.make_state))
        assert restored is not None
        if restored[0] > self._phase.num_updates:
            raise RunError(
                f"{self._phase.name}: checkpoint {restored[0]:,} in {self._checkpoints.directory} lies beyond the "
                f"{self._phase.num_updates:,} updates asked for; move {self._phase.folder} away to train it anew"
            )
        return restored

    def _say_what_is_lost(self) -> None:
        """A checkpoint comes after the row of its update: without that one, metrics.jsonl was removed or cut."""
        if not self.step or not processes.is_first():
            return
        last = self._metrics.last(self._phase.name)
        if last is None or last["step"] != self.step:
            say(
                f"{self._phase.name}: {self._metrics.path} has no row of update {self.step:,}; its metrics up to there "
                "are lost and not made again"
            )

    def append(self, step: int, means: Metrics) -> None:
        """The metrics of the updates up to `step`."""
        rows = make_metric_rows(self._phase.name, step, means, self._phase.seeds)
        self._metrics.append(rows)
        mirrors.show_metrics(rows)

    def save(self, step: int, state: PyTree) -> None:
        """A checkpoint, which vouches for the rows so far, and the time it took to get there."""
        with spending("checkpoints"):
            self._checkpoints.save(step, state)
        self.seconds = round(self._earlier_seconds + time.monotonic() - self._start, 1)
        self._timing.append([{"phase": self._phase.name, "step": step, "seconds": self.seconds}])

    @property
    def last_good(self) -> str:
        """The newest checkpoint, for the user."""
        step = self._checkpoints.latest_step()
        found = "none yet" if step is None else f"update {step:,}"
        return f"last good checkpoint: {found}, in {self._checkpoints.directory}"

    def close(self) -> None:
        self._checkpoints.close()


def make_metric_rows(name: str, step: int, means: Metrics, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Metric rows of one dispatch: one, or one per seed where the metrics have an axis of seeds."""
    if not seeds:
        return [{"phase": name, "step": step} | {key: float(value) for key, value in means.items()}]
    return [
        {"phase": name, "step": step, "seed": seed} | {key: float(np.asarray(value)[s]) for key, value in means.items()}
        for s, seed in enumerate(seeds)
    ]
