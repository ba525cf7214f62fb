"""Runs the paper's tables and figures, or any of them, or says what there is to run.

    python -m experiments.sweep all --scale smoke                   every study in minutes; the scores mean nothing
    python -m experiments.sweep main --scale small --tasks hopper-medium --methods DWM-TD3BC,OneStep-TD3BC
    python -m experiments.sweep main --scale small --variants '*-H7*'
    python -m experiments.sweep main --scale small --tasks my-robot         data of your own, once prepared
    python -m experiments.sweep main,model_free --scale paper --dry-run

Each run is one `python -m dwm_jax.train` in RUNS/STUDY/TASK/VARIANT, with what it printed in its log.txt;
RUNS/sweep.json says how each stands, and `python -m experiments.status RUNS` how far it is. World models are trained
first, each once for all runs that want it. Runs that studies share are run once; their other folders are links.

Start the same command again at any time: it runs what is to do or failed, and resumes what was stopped. A run that
fails stops no other. Ctrl-C and SIGTERM reach the runs, which save and leave.

Launchers: "local" runs them here: one on each GPU; one at a time on a CPU, or --workers, each on its share of the
cores. "slurm" submits an array of jobs that go back into the queue when they are stopped (pip install submitit); called
again, it submits all that is not done, what is still in the queue too. "print" prints the commands and writes them to
RUNS/launch, with a script for TPU pods, Kubernetes Jobs (a pod a run), JobSets (a run on several hosts, GPU nodes or
a TPU slice) and tasks of SkyPilot (spot machines); each says in its first lines how it is used.

Exit codes: 0 all is done (submitted, printed), 1 something failed, 2 the command is wrong, 75 the folder, or some of
its runs, are in use by other processes, 129, 130 and 143 interrupted.
"""

import argparse
import os
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn

from dwm_jax.config import ConfigError, check
from dwm_jax.data import tasks as data_tasks
from dwm_jax.registry import split_names
from dwm_jax.runtime import checkpoints, locks, terminal
from dwm_jax.runtime.arguments import local_path
from dwm_jax.runtime.locks import InUseError, exclusive
from dwm_jax.runtime.progress import one_line, say

from ..studies.catalogue import STUDIES
from ..studies.scales import OF_OWN_DATA, SCALES
from ..studies.study import Member, members_at, tasks_at
from . import launch_files, local, slurm
from .local import Devices
from .plan import PlannedRun, Stage, make_links, plan_stages
from .record import Progress, Record


@terminal.guard_output()
def main() -> None:
    options = parse_command_line()
    try:
        members = list(choose_members(options.studies, options.tasks, options.methods, options.variants, options.scale))
        named = options.runs or Path("runs") / f"sweep-{options.scale}"
        checkpoints.refuse_place(named)
        runs_folder = named.resolve()
        for place in (runs_folder, *runs_folder.parents):
            if place.exists() and not place.is_dir():
                raise ConfigError(f"--runs {runs_folder}: {place} is no folder")
        if options.launcher == "print" and any(character.isspace() for character in str(runs_folder)):
            raise ConfigError(f"--runs {runs_folder} has a space in its path, which manifests cannot hold; rename it")
        stages = plan_stages(members, runs_folder, options.scale)
        record = Record(runs_folder, options.scale)
        if options.dry_run:
            show(stages, record)
        else:
            launch(options, stages, record)
    except InUseError as error:
        leave(locks.EXIT_CODE, f"error: {error}")
    except (ConfigError, ValueError) as error:
        leave(2, f"error: {one_line(error)}")
    except OSError as error:
        leave(1, f"error: {one_line(error)}")


def launch(options: argparse.Namespace, stages: Sequence[Stage], record: Record) -> None:
    """Hands what is to do to whoever runs it."""
    runs = [run for stage in stages for run in stage.runs]
    to_do = [Stage(name, tuple(run for run in runs if not run.is_done())) for name, runs in stages]
    to_do = [stage for stage in to_do if stage.runs]
    if options.launcher == "local":
        found = local.find_devices()
        refuse_what_cannot_run([run for stage in to_do for run in stage.runs], found.per_run)
    elif options.launcher == "slurm":
        parameters = dict(parameter.split("=", 1) for parameter in options.slurm)
        executor = slurm.slurm_executor(record.folder / "slurm", parameters, options.workers)
    for run in runs:
        if run.damage is not None:
            say(f"{run.name} counts as not done: {run.damage}")
    with exclusive(record.folder / ".lock", wait=False):
        record.set(runs)
        make_links(runs, record.folder)
        if options.launcher == "print":
            write_commands(to_do, record.folder, options.workers)
        elif options.launcher == "slurm":
            jobs = slurm.submit(executor, to_do)
            say(f"submitted {len(jobs)} jobs: {', '.join(jobs)}")
        else:
            run_here(to_do, found, options.workers, Progress(record, runs))


def parse_command_line() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        terminal.spell_commands("python -m experiments.sweep"),
        description=terminal.spell_commands(__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("studies", metavar="STUDY[,STUDY...]|all", help=", ".join(STUDIES))
    parser.add_argument("--scale", choices=SCALES, default="smoke", help="default: smoke")
    parser.add_argument(
        "--tasks", metavar="TASK[,TASK...]",
        help="tasks of this scale (default: all); at scale small also your own prepared data sets",
    )  # fmt: skip
    parser.add_argument(
        "--methods", metavar="METHOD[,METHOD...]",
        help="only runs whose methods are all in this list (default: all runs)",
    )  # fmt: skip
    parser.add_argument(
        "--variants", metavar="PATTERN[,PATTERN...]",
        help="only runs whose folder name matches one of these patterns, e.g. '*-H7*'",
    )  # fmt: skip
    parser.add_argument("--runs", type=local_path, metavar="RUNS", help="where the runs go; default: runs/sweep-SCALE")
    parser.add_argument("--dry-run", action="store_true", help="lists every run, its command and whether it is done")
    parser.add_argument("--launcher", choices=("local", "slurm", "print"), default="local", help="default: local")
    parser.add_argument("--workers", type=int, metavar="N", help="how many runs (Slurm jobs, pods) at a time")
    parser.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of submitit's AutoExecutor, e.g. timeout_min=1440; may be repeated",
    )
    options = parser.parse_args()
    if options.workers is not None and options.workers < 1:
        parser.error("--workers must be at least 1")
    if any("=" not in given for given in options.slurm):
        parser.error("--slurm takes NAME=VALUE")
    if options.slurm and options.launcher != "slurm":
        parser.error("--slurm goes with --launcher slurm")
    return options


def choose_members(
    studies: str, tasks: str | None, methods: str | None, variants: str | None, scale: str
) -> Iterator[Member]:
    """What the command asks for.

    Raises:
      ValueError: an unknown study, or a task, method or variant that none of them has at this scale.
    """
    asked_studies = split_list("STUDY", studies)
    if unknown := [name for name in asked_studies if name not in (*STUDIES, "all")]:
        raise ValueError(f"unknown study {', '.join(unknown)}; known: {', '.join(STUDIES)}, or all")
    names = list(STUDIES) if "all" in asked_studies else asked_studies
    known = list(dict.fromkeys(task for name in names for task in tasks_at(STUDIES[name], scale)))
    chosen = known if tasks is None else split_list("--tasks", tasks)
    own = [task for task in chosen if task not in known]
    if unknown := [task for task in own if scale != OF_OWN_DATA or not data_tasks.is_known(task)]:
        prepared = " and whatever is prepared (python -m dwm_jax.data list)" if scale == OF_OWN_DATA else ""
        raise ValueError(f"--tasks {', '.join(unknown)}: at scale {scale} the tasks are {', '.join(known)}{prepared}")
    members = [member for name in names for member in members_at(STUDIES[name], scale, own) if member.task in chosen]
    learnt = list(dict.fromkeys(method for member in members for method in member.methods))
    asked = learnt if methods is None else split_list("--methods", methods)
    if unknown := [method for method in asked if method not in learnt]:
        raise ValueError(f"--methods {', '.join(unknown)}: the methods there are {', '.join(learnt)}")
    kept = [member for member in members if set(asked).issuperset(member.methods)]
    if not kept:
        shared = "; ".join(dict.fromkeys(",".join(member.methods) for member in members))
        raise ValueError(
            f"--methods {methods}: at scale {scale} no run has these alone; ask for all of a run: {shared}"
        )
    patterns = ["*"] if variants is None else split_list("--variants", variants)
    alike = [member for member in kept if any(fnmatchcase(member.variant, pattern) for pattern in patterns)]
    if not alike:
        there = ", ".join(dict.fromkeys(member.variant for member in kept))
        raise ValueError(f"--variants {variants}: the variants there are {there}")
    return iter(alike)


def split_list(flag: str, text: str) -> list[str]:
    """The names of a list with commas, each once.

    Raises:
      ValueError: there are none.
    """
    names = list(dict.fromkeys(split_names(text)))
    if not names:
        raise ValueError(f"{flag} {text!r} names nothing; it is a list with commas, or left out")
    return names


def show(stages: Sequence[Stage], record: Record) -> None:
    """Every run with its state, its command and the other places it is found under."""
    states = Counter(record.state(run) for stage in stages for run in stage.runs)
    for stage in stages:
        print(f"# {stage.name}: {len(stage.runs)} runs")
        for run in stage.runs:
            print(f"{record.state(run):8}{run.name}{''.join(f' = {link}' for link in run.links)}")
            print(f"        {shlex.join(run.command)}")
    print(f"# {', '.join(f'{count} {state}' for state, count in sorted(states.items()))}")
    if absent := find_unprepared(run for stage in stages for run in stage.runs):
        print(f"# no data here yet of {', '.join(absent)}; {data_tasks.how_to_prepare(absent[0])}")
    if states.total() > states["done"]:
        print("# the same command without --dry-run runs what is not done")


def find_unprepared(runs: Iterable[PlannedRun]) -> list[str]:
    """The tasks whose data is not here, each once."""
    named = dict.fromkeys(run.config.task for run in runs)
    return [name for name in named if not (name in data_tasks.MADE_TASKS or is_prepared(name))]


def refuse_what_cannot_run(runs: Sequence[PlannedRun], num_devices: int) -> None:
    """Looks at every config and every task's data before anything runs.

    Raises:
      ValueError: naming the first run that is wrong, or all tasks that are not prepared.
    """
    if absent := find_unprepared(runs):
        how = data_tasks.how_to_prepare(absent[0])
        raise ValueError(f"no data of {', '.join(absent)} here; {how} (so each); or choose tasks with --tasks")
    for run in runs:
        try:
            check(run.config, num_devices)
        except ConfigError as error:
            raise ValueError(f"{run.name}: {error}") from None


def is_prepared(task: str) -> bool:
    try:
        data_tasks.read_stored_data(task)
    except ValueError:
        return False
    return True


def write_commands(to_do: Sequence[Stage], runs_folder: Path, at_a_time: int | None) -> None:
    """Prints them, and writes the files of the launcher "print"."""
    for stage in to_do:
        print("\n".join(shlex.join(run.command) for run in stage.runs))
    for path in launch_files.write(to_do, runs_folder / "launch", runs_folder, at_a_time):
        say(f"written: {path}")


def run_here(to_do: Sequence[Stage], found: Devices, workers: int | None, progress: Progress) -> None:
    """Runs them on this machine, with a line at every start and end; leaves with 1 if any failed."""
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(progress.record.folder / ".compiled")}
    places = [
        place._replace(environment={**compiled, **place.environment})
        for place in local.make_places(found, workers, os.environ.get("CUDA_VISIBLE_DEVICES"), local.usable_cores())
    ]
    say(f"{len(places)} run(s) at a time on {found.number} {found.backend} device(s); {progress.counts()}")
    for stage in to_do:
        if (number := local.run_all(stage.runs, places, progress.started, progress.ended)) is not None:
            reason = signal.Signals(number).name
            leave(128 + number, f"stopped by {reason}: {progress.counts()}; start the same command again to go on")
    for run in progress.failed:
        say(f"failed: {run.name}: {run.log}")
    code = 1 if progress.failed else locks.EXIT_CODE if progress.elsewhere else 0
    leave(code, f"{progress.counts()}: {progress.record.folder}")


def leave(code: int, line: str) -> NoReturn:
    """Says one line and leaves."""
    say(line)
    sys.exit(code)


if __name__ == "__main__":
    main()
