"""What a run is, what a phase of it is, and how often things happen: the records that `train.run_phase` works on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from ml_collections import ConfigDict

from dwm_jax.config import methods_of, models_of
from dwm_jax.data.recording import Recording
from dwm_jax.data.tasks import Task
from dwm_jax.registry import Method
from dwm_jax.results.evaluator import Evaluator
from dwm_jax.runtime.parallel import PMAP, Engine, Updates
from dwm_jax.types import PyTree

Left = TypeVar("Left")


class RunError(RuntimeError):
    """A run cannot go on; one line says why and what to do."""


class Cadence(NamedTuple):
    """After how many updates something is due; all are multiples of the first."""

    updates_per_dispatch: int
    checkpoint_every: int
    evaluate_every: int

    def next_dispatch(self, step: int, num_updates: int) -> range:
        """The updates of the dispatch that begins at `step`: up to the next multiple, and never beyond the last one.

        A shared world model may have been begun by a run with another number of updates in a dispatch.
        """
        each = self.updates_per_dispatch
        return range(step, min((step // each + 1) * each, num_updates))


class Run(NamedTuple):
    """What all phases of a run share."""

    config: ConfigDict
    workdir: Path
    task: Task
    recording: Recording
    evaluator: Evaluator
    engine: Engine = PMAP

    @property
    def seeds(self) -> list[int]:
        """The policies' seeds, learnt side by side."""
        return [self.config.seed + index for index in range(self.config.num_seeds)]

    @property
    def methods(self) -> dict[str, Method]:
        """What is trained, by the paper's names."""
        return methods_of(self.config)

    @property
    def models(self) -> list[str]:
        """Keys of `registry.MODELS` that the methods need, each once."""
        return models_of(self.config)

    @property
    def cadence(self) -> Cadence:
        config = self.config
        return Cadence(config.updates_per_dispatch, config.checkpoint_every, config.evaluation.every)


class Evaluation(NamedTuple):
    """The measurement after every `Cadence.evaluate_every` updates and after the last one."""

    # (state, step) -> a note for the progress; writes its rows.
    run: Callable[[PyTree, int], str]
    # step that a run begins at -> whether its rows are there, whole; drops all that came after.
    resume: Callable[[int], bool]


def checkpoints_of(folder: Path, phase_name: str) -> Path:
    """Where the checkpoints of a phase lie in its folder."""
    return folder / "checkpoints" / phase_name


class Phase(NamedTuple, Generic[Left]):
    """Updates of one state on the same data, or on data made anew now and then. Nothing in it has a device axis."""

    name: str  # in progress and metrics
    folder: Path  # gets metrics.jsonl, timing.jsonl and `checkpoints_of`
    updates: Updates
    # The first state; where there is a checkpoint only its shapes are asked for.
    make_state: Callable[[], PyTree]
    # (state, step) -> (state, what `updates` reads): before the first update that is left to do, and at every refresh.
    # The state it returns is what it has to remember to make the same data again.
    make_data: Callable[[PyTree, int], tuple[PyTree, PyTree]]
    num_updates: int
    # (the last state, wall seconds of making data, compiling, updates, evaluations) -> what the phase leaves
    finish: Callable[[PyTree, float], Left]
    # Updates after which the data are made anew, from a checkpoint; 0: they stay.
    refresh_every: int = 0
    evaluation: Evaluation | None = None
    # Whose numbers the metrics hold; empty where they have no axis of seeds.
    seeds: Sequence[int] = ()

    def refreshes_at(self, step: int) -> bool:
        """Whether the data are made anew after `step` updates."""
        return self.refresh_every > 0 and step % self.refresh_every == 0

    def saves_at(self, step: int, cadence: Cadence) -> bool:
        """Whether a checkpoint is due."""
        return step % cadence.checkpoint_every == 0 or step == self.num_updates or self.refreshes_at(step)

    def evaluates_at(self, step: int, cadence: Cadence) -> bool:
        """Whether an evaluation is due."""
        is_last = step == self.num_updates
        return self.evaluation is not None and step > 0 and (step % cadence.evaluate_every == 0 or is_last)
