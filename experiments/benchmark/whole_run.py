"""The real command from its start: where each second of a run goes, and how long it takes to a score."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from dwm_jax.config_files import load
from dwm_jax.data.tasks import MADE_TASKS
from dwm_jax.runtime import provenance
from dwm_jax.runtime.row_files import JsonLines, Results

from .figures import Figure
from .processes import call_in_fresh_process
from .settings import Plan

PATIENCE_SECONDS = 3_600.0
POLL_SECONDS = 0.2
# What a start of a run does not know of itself: Python's start, imports, and leaving.
AROUND = "starting and leaving"


class Race(NamedTuple):
    """A config's methods, each by itself from nothing to a score."""

    config: str
    score: float  # of an evaluation, mean over its seeds and episodes, on the 0-1 scale
    methods: tuple[str, ...]
    overrides: Mapping[str, str] = MappingProxyType({})  # of the config, by dotted key


RACES = {
    "smoke": Race("smoke", -1.0, ("TD3+BC",)),  # any score will do
    "quickstart": Race("quickstart", 0.3, ("DWM-TD3BC", "TD3+BC", "OneStep-TD3BC")),
    "hopper-medium-replay": Race(
        "locomotion:hopper-medium-replay",
        0.5,
        ("DWM-TD3BC", "DWM-IQL", "TD3+BC", "IQL", "OneStep-TD3BC", "OneStep-IQL"),
        # A third of the config's: enough for this score.
        {"world_models.dwm.num_updates": "10000", "world_models.one_step.num_updates": "5000"},
    ),
}


class Started(NamedTuple):
    """How a command went."""

    seconds: float  # until it ended, or until what was waited for
    by_purpose: dict[str, float]  # of the whole, ending included
    reached: bool


def measure_whole_run(config: str, plan: Plan) -> list[Figure]:
    """Seconds of a whole run of a shipped config by what they are for; no data, nothing compiled before."""
    started = [follow(config, {}, lambda workdir: False) for _ in range(plan.repetitions)]
    device = call_in_fresh_process(provenance.describe_devices)
    purposes = dict.fromkeys(purpose for one in started for purpose in one.by_purpose)
    rows = {purpose: tuple(one.by_purpose.get(purpose, 0.0) for one in started) for purpose in purposes}
    rows["all"] = tuple(one.seconds for one in started)
    return [
        Figure("whole-run", config, f"whole run, {purpose}", "s", seconds, device=device)
        for purpose, seconds in rows.items()
    ]


def measure_time_to_score(race: str, method: str, plan: Plan) -> list[Figure]:
    """Seconds from the command to the first evaluation at or above a race's score; or that none was, in an hour."""
    config, score, _, overrides = RACES[race]
    device = call_in_fresh_process(provenance.describe_devices)
    started = [
        follow(config, {"methods": method, **overrides}, lambda workdir: has_reached(workdir, score))
        for _ in range(plan.repetitions)
    ]
    missed = "" if all(one.reached for one in started) else ", not reached by all"
    settings = {"by_purpose": [one.by_purpose for one in started], "reached": [one.reached for one in started]}
    seconds = tuple(one.seconds for one in started)
    name = f"{method} to {score:g}{missed}"
    return [Figure("time-to-score", race, name, "s", seconds, settings, device=device)]


def has_reached(workdir: Path, score: float) -> bool:
    """Whether the newest evaluation of a run's only method is at or above a score."""
    for rows in Results(workdir / "results.csv").last_evaluations().values():
        if sum(row.score_0_1 for row in rows) / len(rows) >= score:
            return True
    return False


def follow(config: str, overrides: Mapping[str, str], is_enough: Callable[[Path], bool]) -> Started:
    """Runs the command in an empty folder until it ends; stops it when it has done enough or takes too long.

    Data that can be made is made anew; other data has to be prepared.

    Raises:
      RuntimeError: it failed; the message has its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder, "runs", "run")
        command = [sys.executable, "-m", "dwm_jax.train", "--config", config, "--workdir", str(workdir)]
        command += [f"--config.{key}={value}" for key, value in overrides.items()]
        environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "true"
        if load(config).task in MADE_TASKS:
            environment["MINARI_DATASETS_PATH"] = str(Path(folder, "minari"))
        log = Path(folder, "log")
        start = time.perf_counter()
        with log.open("wb") as said, subprocess.Popen(command, env=environment, stdout=said, stderr=said) as process:
            try:
                reached = wait(process, lambda: is_enough(workdir), start + PATIENCE_SECONDS)
                seconds = time.perf_counter() - start
                process.send_signal(signal.SIGTERM)
                code = process.wait()
            finally:
                process.kill()
        whole = time.perf_counter() - start
        if code not in (0, 128 + signal.SIGTERM):
            lines = log.read_text().strip().splitlines() or ["without a word"]
            raise RuntimeError(f"{' '.join(command)} left with {code}: {lines[-1]}")
        spent = next((row for row in JsonLines(workdir / "timing.jsonl").read() if row["phase"] == "run"), None)
        by_purpose = spent["by_purpose"] if spent else {}
        return Started(seconds, by_purpose | {AROUND: whole - sum(by_purpose.values())}, reached)


def wait(process: subprocess.Popen[bytes], is_enough: Callable[[], bool], until: float) -> bool:
    """Until the process has ended, has done enough (True), or time is up."""
    while process.poll() is None and time.perf_counter() < until:
        if is_enough():
            return True
        time.sleep(POLL_SECONDS)
    return is_enough()
