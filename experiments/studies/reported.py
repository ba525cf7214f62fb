"""The paper's figures, files of experiments/studies/paper, and which of their tasks stands for ours."""

import csv
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from dwm_jax.data.d4rl_tasks import D4RL_TASKS

PAPER = Path(__file__).with_name("paper")


class Reported(NamedTuple):
    """A mean and a standard deviation over seeds."""

    mean: float
    std: float


class Counterpart(NamedTuple):
    """The paper's task beside ours."""

    task: str
    is_same_data: bool

    @property
    def heading(self) -> str:
        """For the head of a column."""
        return "paper" if self.is_same_data else f"paper, on other data ({self.task})"

    @property
    def label(self) -> str:
        """For a legend, where room is scarce."""
        return "paper" if self.is_same_data else "paper, other data"


def rows(file: str) -> list[dict[str, str]]:
    """The rows of one file; lines that begin with # are remarks."""
    with open(PAPER / file, newline="") as lines:
        return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def remark(file: str) -> str:
    """What the file says of its figures."""
    with open(PAPER / file) as lines:
        return " ".join(line.lstrip("# ").strip() for line in lines if line.startswith("#"))


def scores(file: str, *columns: str) -> dict[tuple[str, ...], Reported]:
    """Means and standard deviations by method, task and further `columns` (as they are written)."""
    keys = ("method", "task", *columns)
    return {tuple(row[key] for key in keys): Reported(float(row["mean"]), float(row["std"])) for row in rows(file)}


def counterpart(task: str, reported_tasks: Collection[str]) -> Counterpart | None:
    """The paper's task with the figures to show beside `task`; None where it has none.

    A D4RL name stands for the same data. Under its name without the version stand data of the same kind that were
    made or prepared here: maze2d-umaze beside maze2d-umaze-v1, hopper-medium beside hopper-medium-v2.
    """
    if task in reported_tasks:
        return Counterpart(task, task in D4RL_TASKS)
    siblings = [name for name in reported_tasks if name.rpartition("-v")[0] == task]
    return Counterpart(siblings[0], False) if siblings else None
