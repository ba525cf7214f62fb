"""Folders of many finished runs, as a sweep of the paper's tables leaves them, made from one small real run."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dwm_jax.config import to_json
from dwm_jax.registry import split_names
from dwm_jax.runtime import files
from dwm_jax.runtime.row_files import JsonLines, Result

from ..report.reading import total_updates
from ..studies.catalogue import STUDIES
from ..studies.study import members_at
from ..sweep.plan import PlannedRun, make_links, plan_stages

SCALE = "paper"
# Of a real run, and the same in all of them: its pictures, policies and checkpoints.
COPIED = ("figures", "policies", "checkpoints")


def make_runs(folder: Path, count: int, like: Path) -> None:
    """`count` finished runs of the paper's tables in `folder`, spread over all of them.

    As many rows of metrics, checkpoints and evaluations as such runs write; scores are random numbers.

    Args:
      like: a finished run of one policy or more, whose diagnostics, pictures, policies and checkpoints all get.
    """
    runs = choose_planned(folder, count)
    for index, run in enumerate(runs):
        write_run(run, like, np.random.default_rng(index))
    make_links(runs, folder)
    members = {name: {"state": "done", "log": f"{run.name}/log.txt"} for run in runs for name in (run.name, *run.links)}
    files.write(folder / "sweep.json", json.dumps({"scale": SCALE, "members": members}) + "\n")


def choose_planned(folder: Path, count: int) -> list[PlannedRun]:
    """Runs of every study, evenly spaced among all there are."""
    members = [member for study in STUDIES.values() for member in members_at(study, SCALE)]
    _, policies = plan_stages(members, folder, SCALE)
    return [policies.runs[len(policies.runs) * index // count] for index in range(count)]


def write_run(run: PlannedRun, like: Path, rng: np.random.Generator) -> None:
    """Writes one run folder, without flushing: it only has to be readable now."""
    run.workdir.mkdir(parents=True)
    for name in COPIED:
        shutil.copytree(like / name, run.workdir / name)
    for name in ("starts.jsonl", "data.json", "diagnostics.json", "summary.md"):
        shutil.copyfile(like / name, run.workdir / name)
    (run.workdir / "config.json").write_text(to_json(run.config))
    methods = {name: total for name in split_names(run.config.methods) if (total := total_updates(name, run.config))}
    template = JsonLines(like / "metrics.jsonl").read()[-1]
    lines = {
        "metrics.jsonl": [json.dumps(row) for row in metric_rows(methods, run.config, template)],
        "timing.jsonl": [json.dumps(row) for row in timing_rows(methods, run.config)],
        "results.csv": [",".join(map(str, row)) for row in (Result._fields, *make_results(methods, run.config, rng))],
    }
    for name, rows in lines.items():
        (run.workdir / name).write_text("\n".join(rows) + "\n")


def metric_rows(methods: dict[str, int], config: ConfigDict, template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A row per seed and dispatch."""
    for name, total in methods.items():
        for step in range(config.updates_per_dispatch, total + 1, config.updates_per_dispatch):
            for seed in range(config.num_seeds):
                yield template | {"phase": name, "step": step, "seed": seed}


def timing_rows(methods: dict[str, int], config: ConfigDict) -> Iterator[dict[str, Any]]:
    """A row per checkpoint."""
    for name, total in methods.items():
        for step in range(config.checkpoint_every, total + 1, config.checkpoint_every):
            yield {"phase": name, "step": step, "seconds": step / 1000}


def make_results(methods: dict[str, int], config: ConfigDict, rng: np.random.Generator) -> Iterator[Sequence[Any]]:
    """A row per seed and episode of every evaluation."""
    evaluation = config.evaluation
    for name, total in methods.items():
        for step in (*range(evaluation.every, total, evaluation.every), total):
            for seed in range(config.num_seeds):
                for episode in range(evaluation.episodes):
                    score = round(float(rng.normal(0.5, 0.1)), 4)
                    yield Result(name, config.task, seed, step, episode, 3000 * score, score, 100 * score, 250.0, 251.0)
