"""Times the package on this machine: denoiser, imagination, learners, simulator, devices.

    python -m experiments.benchmark --quick                          does it work here? toy size, about a minute
    python -m experiments.benchmark                                  quickstart's and the paper's size (hopper)
    python -m experiments.benchmark --only training,sampling --sizes all
    python -m experiments.benchmark --only first-step                how long a user waits for the first update
    python -m experiments.benchmark --only time-to-score --races hopper-medium-replay --repetitions 1
    python -m experiments.benchmark --json speed.jsonl               the same figures for a program to read

Measurements (--only):
    peak         large float32 products (bfloat16 too on accelerators): what the machine can do at most
    training     updates/s of the denoiser: batch, gradient, Adam, EMA, many in one dispatch as in a run
    parts        where the time of an update goes: updates/s with its matrix products alone, with its optimiser alone
    sampling     trajectories/s, guided and distilled beside each other, at batch 128 and in bulk
    policies     updates/s of TD3+BC and IQL: model-free, DWM drawn afresh in every update, DWM from a pool drawn
                 before (alone, and with the drawing spread over the config's updates); for 1 seed and for all of
                 them side by side. An update is one of every seed.
    evaluation   environment steps/s in maze2d-umaze (needs no data)
    engines      a dispatch that computes next to nothing by pmap and by shard_map, in one process and in two
    devices      training on 1, 2, 4, 8 virtual CPU devices: they share the same cores, so this shows overhead
    first-step   seconds from starting a run to its first finished dispatch; only when named, quickstart only
    whole-run    where each second of the quickstart goes, from starting the command; only when named
    time-to-score  seconds from starting the command to the first evaluation at or above a score, one method a
                 run (--races, --methods), "not reached" after an hour; only when named

How to read it. Everything runs on random data of the right shapes. "first call" is tracing, compiling and one run;
no other figure contains it. Things that are compared are timed in turns, repetition by repetition, with a large
matrix product among them: "of the peak" divides by the product beside it, so a busy machine lowers both. Useful
FLOP/s count only what any implementation must compute (experiments/benchmark/arithmetic.py): no taps on padding, no
norms, no optimiser; for DWM fresh those of the imagination alone. Memory is the peak of the process, or of the device
where that is known; every measurement has a process of its own, except with --quick, which also compiles without
optimising: its figures mean nothing. Run it on an idle machine; the load at the start is recorded.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from dwm_jax.runtime import cluster, files, provenance, terminal
from dwm_jax.runtime.arguments import local_path
from dwm_jax.runtime.progress import one_line, say

from .denoiser import measure_sampling, measure_training
from .engines import measure_engines
from .figures import HEADER, Figure, json_line, table_row
from .first_step import measure_first_step
from .parts import measure_training_parts
from .peak import measure_peak
from .policies import NAMES, SOURCES, measure_policy_updates
from .processes import call_in_fresh_process, measure, measure_virtual_devices
from .settings import FULL, QUICK, SIZES, Plan
from .simulator import measure_evaluation
from .whole_run import RACES, measure_time_to_score, measure_whole_run

# Whole commands are measured only when they are named.
WHOLE = ("first-step", "whole-run", "time-to-score")
SLOW = ("engines", "devices")  # not measured with --quick either
MEASUREMENTS = ("peak", "training", "parts", "sampling", "policies", "evaluation", "engines", "devices", *WHOLE)
# The measurements that an option says something to; the others read all of a plan's repetitions alone.
READ_BY = {
    "sizes": tuple(name for name in MEASUREMENTS if name not in ("peak", "time-to-score")),
    "seconds": tuple(name for name in MEASUREMENTS if name not in ("engines", *WHOLE)),
    "chunk": ("sampling", "policies"),
    "races": ("time-to-score",),
    "methods": ("time-to-score",),
}
DEFAULT_SIZES = ("quickstart", "paper-hopper")
DEFAULT_RACE = "quickstart"
# Repetitions, seconds of each, trajectories of a chunk.
MOST = 10_000_000


class Job(NamedTuple):
    """One measurement at one size."""

    label: str
    function: Callable[..., list[Figure]]
    arguments: tuple[Any, ...]
    # It starts the processes it needs; jax must not be started here for it.
    has_own_processes: bool = False


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; --help explains\n")


@terminal.guard_output()
def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.quick:
        # Before jax starts. A check spends its time compiling, and its figures mean nothing in any case.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
    try:
        cluster.find_devices()
    except cluster.ClusterError as error:
        say(f"error: {error}")
        sys.exit(2)
    circumstances = provenance.describe_circumstances()
    if circumstances["load_at_start"] > 0.5:
        say(f"note: the machine is busy (load {circumstances['load_at_start']:.1f}); figures will be low and noisy")
    learners = tuple(NAMES)[:1] if options.quick else tuple(NAMES)
    failed = False
    print(HEADER, flush=True)
    races = [(race, method) for race in options.races for method in RACES[race].methods if method in options.methods]
    for job in list_jobs(options.only, options.sizes, learners, options.plan, races):
        say(f"measuring {job.label} ...")
        try:
            figures = run(job, isolated=not options.quick)
        except (ArithmeticError, RuntimeError, ValueError, OSError, MemoryError) as error:
            failed = True
            say(f"error: {job.label}: {one_line(error) or type(error).__name__}")
            continue
        except KeyboardInterrupt:
            say("interrupted; the figures so far stand")
            sys.exit(130)
        if options.json is not None:
            files.append(options.json, "".join(json_line(figure, circumstances) for figure in figures))
        for figure in figures:
            print(table_row(figure), flush=True)
    sys.exit(1 if failed else 0)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The checked command line; `only` and `sizes` are lists of names, `plan` has repetitions and their length."""
    parser = Parser(
        "python -m experiments.benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="toy size, short repetitions, one process, TD3+BC alone")
    parser.add_argument("--sizes", help=f"all, or some of {','.join(SIZES)} (default: {','.join(DEFAULT_SIZES)})")
    parser.add_argument("--only", help=f"all, or some of {','.join(MEASUREMENTS)} (default: all but {','.join(WHOLE)})")
    parser.add_argument("--repetitions", type=int, help=f"per figure (default: {FULL.repetitions})")
    parser.add_argument("--seconds", type=float, help=f"a repetition lasts at least about (default: {FULL.seconds:g})")
    parser.add_argument("--chunk", type=int, help=f"trajectories per device in bulk (default: {FULL.chunk})")
    parser.add_argument("--races", help=f"some of {','.join(RACES)} (default: {DEFAULT_RACE})")
    parser.add_argument("--methods", help="some of the races' methods (default: all of them)")
    parser.add_argument("--json", type=local_path, metavar="FILE", help="appends one JSON line per figure")
    options = parser.parse_args(arguments)

    plan = QUICK if options.quick else FULL
    for name in ("repetitions", "seconds", "chunk"):
        value = getattr(options, name)
        if value is not None:
            if not 0 < value <= MOST:
                parser.error(f"--{name} {value}: must be above 0 and at most {MOST:,}")
            plan = plan._replace(**{name: value})
    options.plan = plan
    usual = tuple(name for name in MEASUREMENTS if name not in (*WHOLE, *(SLOW if options.quick else ())))
    options.only = parse_names(parser, "--only", options.only, MEASUREMENTS, usual)
    for flag, reading in READ_BY.items():
        if getattr(options, flag) is not None and not set(reading) & set(options.only):
            parser.error(f"--{flag} changes nothing of --only {','.join(options.only)}; {','.join(reading)} read it")
    options.sizes = parse_names(
        parser, "--sizes", options.sizes, tuple(SIZES), ("tiny",) if options.quick else DEFAULT_SIZES
    )
    options.races = parse_names(parser, "--races", options.races, tuple(RACES), (DEFAULT_RACE,))
    racing = tuple(dict.fromkeys(method for race in options.races for method in RACES[race].methods))
    options.methods = parse_names(parser, "--methods", options.methods, racing, racing)
    if options.json is not None:
        try:
            options.json.open("a").close()
        except OSError as error:
            parser.error(f"--json {options.json}: {error.strerror}")
    return options


def parse_names(
    parser: Parser, flag: str, given: str | None, known: tuple[str, ...], default: tuple[str, ...]
) -> tuple[str, ...]:
    """The names in a comma-separated list; an unknown one ends the program."""
    if given is None:
        return default
    if given == "all":
        return known
    chosen = tuple(name.strip() for name in given.split(","))
    unknown = [name for name in chosen if name not in known]
    if unknown:
        parser.error(f"{flag}: unknown {', '.join(map(repr, unknown))}; known: {', '.join(known)}, all")
    return chosen


def list_jobs(
    only: tuple[str, ...],
    sizes: tuple[str, ...],
    learners: tuple[str, ...],
    plan: Plan,
    races: Sequence[tuple[str, str]],  # (race, method)
) -> Iterator[Job]:
    """The measurements to make, in the order of MEASUREMENTS; those that do not depend on the size once."""
    if "peak" in only:
        yield Job("peak", measure_peak, (plan,))
    for size in sizes:
        if "training" in only:
            yield Job(f"training at {size}", measure_training, (size, plan))
        if "parts" in only:
            yield Job(f"parts of training at {size}", measure_training_parts, (size, plan))
        if "sampling" in only:
            yield Job(f"sampling at {size}", measure_sampling, (size, plan))
        if "policies" in only:
            for learner in learners:
                for source in SOURCES:
                    label = f"policies at {size}: {NAMES[learner]}, {source}"
                    yield Job(label, measure_policy_updates, (size, learner, source, plan))
    if "evaluation" in only:
        yield Job("evaluation", measure_evaluation, ("tiny" if sizes == ("tiny",) else "quickstart", plan))
    for size in sizes:
        if "engines" in only:
            yield Job(f"the engines' dispatches at {size}", measure_engines, (size, plan), has_own_processes=True)
        if "devices" in only:
            yield Job(f"virtual devices at {size}", measure_virtual_devices, (size, plan), has_own_processes=True)
    if "first-step" in only:
        config = "smoke" if sizes == ("tiny",) else "quickstart"
        yield Job(f"the first step of {config}", measure_first_step, (config, plan), has_own_processes=True)
    if "whole-run" in only:
        config = "smoke" if sizes == ("tiny",) else "quickstart"
        yield Job(f"a whole run of {config}", measure_whole_run, (config, plan), has_own_processes=True)
    for race, method in races if "time-to-score" in only else ():
        yield Job(
            f"time to a score: {race}, {method}", measure_time_to_score, (race, method, plan), has_own_processes=True
        )


def run(job: Job, isolated: bool) -> list[Figure]:
    """The job's figures."""
    if job.has_own_processes:
        return job.function(*job.arguments)
    if isolated:
        return call_in_fresh_process(measure, job.function, *job.arguments)
    return measure(job.function, *job.arguments)


if __name__ == "__main__":
    main()
