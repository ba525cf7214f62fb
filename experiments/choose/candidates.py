"""The finished policies below a folder, with what there is to judge them by: their data, results and world models."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from dwm_jax.data.recording import Recording
from dwm_jax.phases.phase import Run
from dwm_jax.phases.pretraining import find_finished_model
from dwm_jax.registry import METHODS, Learning
from dwm_jax.results import policy_files
from dwm_jax.results.policy_files import ExportedPolicies
from dwm_jax.runtime import files
from dwm_jax.runtime.progress import one_line, printable, say
from dwm_jax.runtime.row_files import Result
from dwm_jax.workdir import load_recording, read_config
from dwm_jax.world_models.base import TrainedModel

from ..report import reading
from ..report.found import FoundRun, drop_links, explain_no_run

# The world model that judges.
JUDGE = "dwm"


class FinishedPolicies(NamedTuple):
    """One method's policies of one run, one per seed."""

    place: str  # of the run, below RUNS
    folder: Path
    exported: ExportedPolicies
    last: tuple[Result, ...]  # the episodes of their last evaluation; none where they were never evaluated

    def mean_by_seed(self, column: str) -> np.ndarray:
        """Of a column of results.csv over those episodes: (S,); NaN where there is none."""
        by_seed = [[getattr(row, column) for row in self.last if row.seed == seed] for seed in self.exported.seeds]
        return np.array([np.mean(values) if values else np.nan for values in by_seed])


class Group(NamedTuple):
    """Runs on the same data, with the same discount: their policies can be told apart by numbers."""

    task: str
    folders: tuple[Path, ...]  # of its runs
    policies: tuple[FinishedPolicies, ...]
    left_out: tuple[str, ...]  # a line each: what cannot be judged, and why

    @property
    def title(self) -> str:
        return f"{self.task}: {len(self.folders)} run(s), {sum(len(p.exported.seeds) for p in self.policies)} policies"


def find_groups(folder: Path) -> list[Group]:
    """Every run in `folder` or below it, by data and discount.

    Raises:
      ValueError: there is no run; the message says what is wrong.
    """
    found = reading.read_all(folder, ())
    if not found.runs:
        raise ValueError(explain_no_run(folder, found))
    alike: dict[str, list[FoundRun]] = {}
    for run in drop_links(found.runs):
        try:
            alike.setdefault(json.dumps(comparison_key(run)), []).append(run)
        except LookupError as error:
            say(printable(f"{run.folder} is left out: its config.json has no {error}"))
    return [group_of(runs) for runs in alike.values()]


def comparison_key(run: FoundRun) -> tuple[Any, ...]:
    """Equal for runs whose policies can be compared."""
    recorded = files.find_json(run.folder / "data.json") or {}
    return run.task, recorded.get("fingerprint"), files.read_json(run.folder / "config.json")["gamma"]


def group_of(runs: Sequence[FoundRun]) -> Group:
    """Runs on the same data."""
    policies, left_out = [], []
    for run in runs:
        for path in sorted((run.folder / "policies").glob("*.npz")):
            try:
                exported = policy_files.load(path)
            except ValueError as error:
                left_out.append(one_line(error))
                continue
            if not isinstance(METHODS.get(exported.method), Learning):
                left_out.append(
                    f"{path}: {exported.method} plans at every step, here too slowly to be asked everywhere"
                )
                continue
            policies.append(
                FinishedPolicies(run.place, run.folder, exported, last_evaluation(run.results, exported.method))
            )
    return Group(runs[0].task, tuple(run.folder for run in runs), tuple(policies), tuple(left_out))


def last_evaluation(results: Sequence[Result], method: str) -> tuple[Result, ...]:
    """The episodes of a method's last evaluation."""
    mine = [row for row in results if row.method == method]
    step = max((row.step for row in mine), default=0)
    return tuple(row for row in mine if row.step == step)


def load_run(folder: Path) -> tuple[ConfigDict, Recording]:
    """A run's config and the data it names, as a run of the world model alone would read them: without a simulator.

    Raises:
      ValueError: the data is not there, or another than the run's.
    """
    config = read_config(folder)
    _, recording = load_recording(without_policies(config))
    known = (files.find_json(folder / "data.json") or {}).get("fingerprint", recording.fingerprint)
    if known != recording.fingerprint:
        raise ValueError(f"{folder}: {config.task} now holds other data than the run learnt from; bring its data back")
    return config, recording


def without_policies(config: ConfigDict) -> ConfigDict:
    """The config of a run that trains the judging world model alone, without a policy."""
    config = config.copy_and_resolve_references()
    config.methods = "DWM"
    return config


def find_judge(group: Group, recording: Recording, runs_folder: Path) -> tuple[Run, TrainedModel] | None:
    """The first run of the group whose diffusion world model is trained and kept, and the model.

    It lies where the run's config says or, if the runs were moved, in `world_models` in a folder above the run's, up to
    the folder that all runs are in.
    """
    for folder in group.folders:
        config = without_policies(read_config(folder))
        above = [parent for parent in folder.resolve().parents if parent.is_relative_to(runs_folder.resolve().parent)]
        for place in (config.world_model_dir, *(str(parent / "world_models") for parent in above)):
            config.world_model_dir = place
            run = Run(config, folder, task=None, recording=recording, evaluator=None)  # type: ignore[arg-type]
            trained = find_finished_model(run, JUDGE)
            if trained is not None:
                return run, trained
    return None
