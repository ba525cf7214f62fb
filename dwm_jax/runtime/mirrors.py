"""Mirrors of a run in TensorBoard or Weights & Biases: what is written to its files is shown there too.

The files stay authoritative. A resumed run repeats rows, bit for bit: TensorBoard is told to forget them, and to
Weights & Biases, which forgets nothing, they are not sent twice. A mirror that fails is dropped, and the run goes on.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from dwm_jax.runtime import files, processes
from dwm_jax.runtime.progress import one_line, say
from dwm_jax.runtime.row_files import Result, Row

# Names by which metric rows say where they belong.
PLACE = ("phase", "step", "seed")


class Shown(NamedTuple):
    """The numbers of one phase at one step."""

    phase: str
    kind: str  # "metrics" or "evaluation"
    step: int
    by_seed: dict[int | None, dict[str, float]]  # None: of all seeds, as a world model has them


class Mirror(Protocol):
    """Where numbers are shown."""

    def resume(self, phase: str, step: int) -> None:
        """What `phase` showed after `step` is void and will be shown again."""

    def show(self, shown: Shown) -> None:
        """Shows the numbers."""

    def close(self) -> None:
        """Ends it; nothing is shown afterwards."""


# (workdir, the whole config) -> an open mirror
Open = Callable[[Path, dict[str, Any]], Mirror]


def choose_mirrors(tensorboard: bool, wandb_project: str | None) -> list[Open]:
    """The mirrors that were asked for.

    Raises:
      ValueError: the package of one is not installed, the message has the command; or a project has no name.
    """
    wanted: list[Open] = []
    if tensorboard:
        _require("tensorboardX", "--tensorboard")
        wanted.append(lambda workdir, description: TensorBoard(workdir / "tensorboard"))
    if wandb_project is not None:
        if not wandb_project.strip():
            raise ValueError("--wandb needs the name of a project: --wandb=PROJECT; leave it out to log nowhere")
        _require("wandb", "--wandb")
        wanted.append(lambda workdir, description: WeightsAndBiases(workdir, wandb_project, description))
    return wanted


def _require(package: str, flag: str) -> None:
    if find_spec(package) is None:
        raise ValueError(f"{flag} needs the package {package}, which is not installed: pip install {package}")


# Those of this process.
_open: list[Mirror] = []


@contextmanager
def open_mirrors(wanted: Sequence[Open], workdir: Path, description: dict[str, Any]) -> Iterator[None]:
    """Shows what is written inside the block; of a run's processes only the first does."""
    try:
        _open.extend(open_mirror(workdir, description) for open_mirror in (wanted if processes.is_first() else ()))
        yield
    finally:
        _tell(lambda mirror: mirror.close())
        _open.clear()


def resume(phase: str, step: int) -> None:
    """`phase` goes on after `step`."""
    _tell(lambda mirror: mirror.resume(phase, step))


def show_metrics(rows: Sequence[Row]) -> None:
    """Rows of metrics.jsonl, of one phase and step."""
    by_seed = {row.get("seed"): {name: row[name] for name in row if name not in PLACE} for row in rows}
    shown = Shown(rows[0]["phase"], "metrics", rows[0]["step"], by_seed)
    _tell(lambda mirror: mirror.show(shown))


def show_evaluation(rows: Sequence[Result]) -> None:
    """Rows of results.csv, of one evaluation: means over its episodes. A score that a task has not got is left out."""
    by_seed: dict[int | None, dict[str, float]] = {}
    for seed in dict.fromkeys(row.seed for row in rows):
        episodes = [row for row in rows if row.seed == seed]
        means = {name: float(np.mean([getattr(row, name) for row in episodes])) for name in ("return_raw", "score_0_1")}
        by_seed[seed] = {f"evaluation/{name}": value for name, value in means.items() if not np.isnan(value)}
    shown = Shown(rows[0].method, "evaluation", rows[0].step, by_seed)
    _tell(lambda mirror: mirror.show(shown))


def _tell(word: Callable[[Mirror], None]) -> None:
    for mirror in list(_open):
        try:
            word(mirror)
        except Exception as error:  # of whatever kind: a mirror that fails must not stop the run
            _open.remove(mirror)
            reason = one_line(error)
            say(f"logging to {type(mirror).__name__} failed and is off for the rest of this run: {reason}")


class TensorBoard:
    """Event files in `folder`: a line per phase and seed."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._resumed: dict[str, int] = {}
        self._writers: dict[tuple[str, int | None], Any] = {}

    def resume(self, phase: str, step: int) -> None:
        self._resumed[phase] = step

    def show(self, shown: Shown) -> None:
        for seed, values in shown.by_seed.items():
            writer = self._writer(shown.phase, seed)
            for name, value in values.items():
                writer.add_scalar(name, value, shown.step)
            writer.flush()  # before the checkpoint that vouches for the rows

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, phase: str, seed: int | None) -> Any:
        if (phase, seed) not in self._writers:
            folder = self._folder / phase / ("" if seed is None else f"seed{seed}")
            # TensorBoard forgets what earlier files have from this step on. The files' own names tell seconds apart.
            first = self._resumed.get(phase, 0) + 1
            make = import_module("tensorboardX").SummaryWriter
            self._writers[phase, seed] = make(str(folder), purge_step=first, filename_suffix=f".from{first}")
        return self._writers[phase, seed]


class WeightsAndBiases:
    """One run of a project, resumed by the id that is kept in the workdir's wandb.json.

    Its mode (online, offline, disabled), entity and so on are the package's own business, by its environment
    variables.

    Raises:
      RuntimeError: the package refuses, for want of a login for example.
    """

    def __init__(self, workdir: Path, project: str, description: dict[str, Any]):
        wandb = import_module("wandb")
        self._path = workdir / "wandb.json"
        kept = files.find_json(self._path) or {}
        self._id = kept.get("id") or os.urandom(4).hex()
        self._sent: dict[str, int] = kept.get("sent", {})
        try:
            self._run = wandb.init(
                project=project,
                id=self._id,
                name=workdir.resolve().name,
                resume="allow",
                dir=str(workdir),
                config=description,
                settings=wandb.Settings(console="off"),  # the live bar is nothing to record
            )
        except Exception as error:
            raise RuntimeError(f"--wandb: {error}") from error
        self._keep()

    def resume(self, phase: str, step: int) -> None:
        """Nothing to do: what comes again is known by its step."""

    def show(self, shown: Shown) -> None:
        stream = f"{shown.phase} {shown.kind}"
        if shown.step <= self._sent.get(stream, 0):
            return
        if stream not in self._sent:
            # Phases count their updates each from 0.
            self._run.define_metric(f"{shown.phase}/*", step_metric=f"{shown.phase}/update")
        numbers = {
            "/".join(filter(None, (shown.phase, name, "" if seed is None else f"seed{seed}"))): value
            for seed, values in shown.by_seed.items()
            for name, value in values.items()
        }
        self._run.log({f"{shown.phase}/update": shown.step, **numbers})
        self._sent[stream] = shown.step
        self._keep()

    def close(self) -> None:
        self._run.finish()

    def _keep(self) -> None:
        files.write(self._path, json.dumps({"id": self._id, "sent": self._sent}, indent=2) + "\n")
