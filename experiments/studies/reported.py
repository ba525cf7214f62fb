"""The paper's figures, files of experiments/studies/paper, its peers', and which of their tasks stands for ours.

The paper's baselines are its own runs. Other implementations of the same methods reach more in places - TD3+BC on
maze2d and on average, say - and so peers.csv has theirs, to stand beside the paper's.
"""

import csv
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from dwm_jax.data.d4rl_tasks import D4RL_TASKS, GENUINE, OTHER

PAPER = Path(__file__).with_name("paper")
PEERS = Path(__file__).with_name("peers.csv")
# The peer whose figures stand in a column of their own: it has the model-free learners here.
CORL = "CORL"


class Reported(NamedTuple):
    """A mean and a standard deviation over seeds."""

    mean: float
    std: float


class Counterpart(NamedTuple):
    """The paper's task beside ours."""

    task: str
    # Whether ours is D4RL's data, as the paper's is: by its checksum; None where that cannot be told.
    is_same_data: bool | None

    def heading(self, source: str = "paper") -> str:
        """For the head of a column of `source`'s figures."""
        if self.is_same_data is None:
            return f"{source} (our data is unverified)"
        return source if self.is_same_data else f"{source}, on other data ({self.task})"

    @property
    def label(self) -> str:
        """For a legend, where room is scarce."""
        return "paper, other data" if self.is_same_data is False else "paper"


def read_rows(file: str | Path) -> list[dict[str, str]]:
    """The rows of one file, of the paper's where it has no folder; lines that begin with # are remarks."""
    with open(PAPER / file, newline="") as lines:
        return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def read_remark(file: str) -> str:
    """What the file says of its figures."""
    with open(PAPER / file) as lines:
        return " ".join(line.lstrip("# ").strip() for line in lines if line.startswith("#"))


def read_scores(file: str, *columns: str) -> dict[tuple[str, ...], Reported]:
    """Means and standard deviations by method, task and further `columns` (as they are written)."""
    keys = ("method", "task", *columns)
    return {tuple(row[key] for key in keys): Reported(float(row["mean"]), float(row["std"])) for row in read_rows(file)}


def read_peers() -> dict[tuple[str, str], dict[str, Reported]]:
    """What others report on D4RL's data, by (source, method) and task, on the paper's 0-1 scale; std NaN if unknown."""
    found: dict[tuple[str, str], dict[str, Reported]] = {}
    for row in read_rows(PEERS):
        std = float(row["std"]) / 100 if row["std"] else float("nan")
        by_task = found.setdefault((row["source"], row["method"]), {})
        by_task[row["task"]] = Reported(float(row["mean"]) / 100, std)
    return found


def find_counterpart(task: str, reported_tasks: Collection[str], origin: str | None) -> Counterpart | None:
    """The paper's task with the figures to show beside `task`; None where it has none.

    A D4RL name stands for the same data where the file's checksum is D4RL's. Under its name without the version stand
    data of the same kind that were made or prepared here: maze2d-umaze beside maze2d-umaze-v1, hopper-medium beside
    hopper-medium-v2.

    Args:
      origin: what our runs say of their data (`d4rl_tasks.find_origin`); None where they say nothing.
    """
    if task in reported_tasks:
        is_same = {GENUINE: True, OTHER: False}.get(origin or "") if task in D4RL_TASKS else False
        return Counterpart(task, is_same)
    siblings = [name for name in reported_tasks if name.rpartition("-v")[0] == task]
    return Counterpart(siblings[0], False) if siblings else None
