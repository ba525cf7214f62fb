"""The state, speed and remaining time of every run below a folder, from the files it leaves.

    python -m experiments.status runs
    python -m experiments.status runs --watch 30       again every 30 seconds, until Ctrl-C

One row per phase of a run: a world model (they lie in `world_models` beside the runs that share them), or a method.
Only files are read and no run is disturbed: it may be called at any moment, by anyone who can read the folder. A
method is "waiting" until its first update: while its world model trains, earlier methods learn, trajectories are
imagined in advance, or programs compile. "running" and "waiting" are seen on the machine that runs; from another, a
run that goes on looks stopped.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from dwm_jax.phases.kept_models import last_update, phase_name
from dwm_jax.registry import METHODS, Alone, Planning, split_names
from dwm_jax.runtime import files, own_modules, terminal
from dwm_jax.runtime.arguments import local_path
from dwm_jax.runtime.files import UnreadableError
from dwm_jax.runtime.locks import is_held
from dwm_jax.runtime.progress import duration, one_line, printable, say
from dwm_jax.runtime.row_files import OF_A_PHASE, TIMES, JsonLines, Results
from dwm_jax.types import LARGEST_INDEX

from .run_folders import UNREADABLE, run_folders
from .tables import console


class PhaseStatus(NamedTuple):
    """One row: how far a phase of a run has come."""

    run: str  # its folder, below the one asked about
    name: str
    step: int
    total: int
    updates_per_second: float | None  # between the last two checkpoints
    score: float | None  # mean of the last evaluation, on the 0-1 scale
    # "done", "running", "waiting" for its first update in a run that goes on, "stopped", "not started"; "unreadable":
    # its files are damaged
    state: str

    @property
    def seconds_left(self) -> float | None:
        """At the speed of the last two checkpoints; None where that says nothing."""
        if self.state == "done" or not self.updates_per_second:
            return None
        left = min(self.total - self.step, LARGEST_INDEX) / self.updates_per_second  # no config asks for more
        return left if math.isfinite(left) else None


@terminal.guard_output()
def main() -> None:
    parser = argparse.ArgumentParser(
        terminal.spell_commands("python -m experiments.status"),
        description=terminal.spell_commands(__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=local_path, metavar="RUNS", help="a workdir, or a folder that holds some")
    parser.add_argument(
        "--watch", type=terminal.number_between(0, 86_400), metavar="SECONDS", help="shows it again and again"
    )
    own_modules.add_flag(parser)
    options = parser.parse_args()
    try:
        own_modules.import_all(options.own_modules)
        while True:
            phases = list(find_phases(options.runs))
            if not phases:
                raise ValueError(f"{options.runs} holds no run: no config.json in it or below")
            console().print(make_table(phases))
            if options.watch is None:
                return
            time.sleep(options.watch)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def find_phases(folder: Path) -> Iterator[PhaseStatus]:
    """The phases of every run and every shared world model in `folder` or below it, by name."""
    for place in sorted(run_folders(folder)):
        name = str(place.relative_to(folder)) if place != folder else place.resolve().name
        try:
            described = files.read_json(place / "config.json")
            if "methods" in described:
                yield from list(phases_of_run(name, place, described))
            elif "num_updates" in described.get("settings", {}):
                yield phase_of_model(name, place, described)
        except UNREADABLE as error:
            reason = one_line(error)
            say(reason if isinstance(error, UnreadableError) else f"{place} cannot be read: {reason}")
            yield PhaseStatus(name, "?", 0, 0, None, None, "unreadable")


def phase_of_model(run: str, folder: Path, identity: dict[str, Any]) -> PhaseStatus:
    """The one phase of a world model's folder, from the description it is found by."""
    settings = identity["settings"]
    label, total = phase_name(identity["model"], settings), last_update(settings)
    step, speed = progress_of(folder, label, total)
    return PhaseStatus(run, label, step, total, speed, None, state_of(step >= total, step, is_held(folder / ".lock")))


def phases_of_run(run: str, folder: Path, config: dict[str, Any]) -> Iterator[PhaseStatus]:
    """One phase per method, in the order they are learnt."""
    evaluations = Results(folder / "results.csv").last_evaluations()
    goes_on = is_held(folder / ".lock")
    for name in (name for name in split_names(config["methods"]) if not isinstance(METHODS[name], Alone)):
        scores = [row.score_0_1 for row in evaluations.get(name, [])]
        if isinstance(METHODS[name], Planning):
            # A planner: it is evaluated once, after its model's training.
            step, total, speed = len(scores), config["num_seeds"] * config["evaluation"]["episodes"], None
        else:
            total = config["policy"]["num_updates"]
            step, speed = progress_of(folder, name, total)
        done = step >= total and bool(scores)
        score = float(np.mean(scores)) if scores else None
        yield PhaseStatus(run, name, step, total, speed, score, state_of(done, step, goes_on))


def progress_of(folder: Path, phase: str, total: int) -> tuple[int, float | None]:
    """(newest update, updates per second between the last two checkpoints) of a phase."""
    saved: dict[int, float] = {}
    for row in JsonLines(folder / "timing.jsonl", TIMES).find():
        if row["phase"] == phase:
            saved.setdefault(row["step"], row["seconds"])  # the end is saved again after its evaluation
    (*_, before, last) = [(0, 0.0), (0, 0.0), *saved.items()]
    speed = (last[0] - before[0]) / (last[1] - before[1]) if len(saved) > 1 and last[1] > before[1] else None
    if last[0] >= total:
        return last[0], speed
    newest = JsonLines(folder / "metrics.jsonl", OF_A_PHASE).last(phase)
    return max(last[0], newest["step"] if newest else 0), speed


def state_of(done: bool, step: int, goes_on: bool) -> str:
    """The state in words; `goes_on`: a process has the folder. A phase without updates is then "waiting"."""
    if done:
        return "done"
    if goes_on:
        return "running" if step else "waiting"
    return "stopped" if step else "not started"


def make_table(phases: list[PhaseStatus]) -> Table:
    """The phases as a table."""
    done = f"{sum(phase.state == 'done' for phase in phases)} of {len(phases)} phases done"
    table = Table(box=SIMPLE, caption=done, caption_justify="left")
    for column in ("run", "phase", "state"):
        table.add_column(column, overflow="fold")
    for column in ("step", "of", "per s", "left", "score"):
        table.add_column(column, justify="right", no_wrap=True)
    for phase in phases:
        table.add_row(
            Text(printable(phase.run)),  # Text: a name in brackets is no mark-up
            Text(printable(phase.name)),
            phase.state,
            f"{phase.step:,}",
            f"{phase.total:,}",
            "" if phase.updates_per_second is None else f"{phase.updates_per_second:,.0f}",
            "" if phase.seconds_left is None else duration(phase.seconds_left),
            "" if phase.score is None or np.isnan(phase.score) else f"{phase.score:.2f}",
        )
    return table


if __name__ == "__main__":
    main()
