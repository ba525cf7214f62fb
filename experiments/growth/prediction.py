"""What the paper's tables cost on machines that are not at hand: from shapes, published peaks and a simulator's speed.

The time of an update is the sum of four, none of which hides another:

    operations / (devices x peak) + bytes / bandwidth + kernels x seconds of one + gradients over the links

Operations are those that any implementation needs (experiments/benchmark/arithmetic.py), bytes those of the
optimiser's passes over the parameters, kernels those that XLA leaves in the program it compiles for a CPU, more than a
GPU's would be, where it fuses more. What a kernel costs is no published figure: it is assumed, and everything is also
given without it, which nothing can be below.
"""

import csv
import heapq
import os
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from dwm_jax.imagination.pool import CHUNK
from dwm_jax.registry import METHODS, Alone, Learning, split_names

from ..benchmark.arithmetic import training_flop, trajectory_flop
from ..report import markdown
from ..studies.catalogue import STUDIES
from ..studies.study import members_at
from ..sweep.plan import PlannedRun, plan_stages
from .points import Point

PEAKS = Path(__file__).with_name("peaks.csv")
SCALE = "paper"
TABLES = ("main", "model_free")
# Over parameters, gradients and both moments (PERFORMANCE.md, "The limits, and where we stand").
OPTIMISER_PASSES = 10
# Observation and action sizes; recorded steps in thousands, by kind of data (D4RL).
ROBOTS = {"hopper": (11, 3, "Hopper-v4"), "walker2d": (17, 6, "Walker2d-v4"), "halfcheetah": (17, 6, "HalfCheetah-v4")}
STEPS_OF_DATA = {"medium": 1_000_000, "medium-expert": 2_000_000}
STEPS_OF_REPLAY = {"hopper": 402_000, "walker2d": 302_000, "halfcheetah": 202_000}
EPISODE = 1_000
DEVICES = (1, 2, 4, 8, 16, 32, 64)


class Machine(NamedTuple):
    """A line of peaks.csv, in FLOP/s, bytes, bytes/s and seconds."""

    name: str
    devices: int
    devices_per_run: int
    flops: float
    bandwidth: float
    link: float
    memory: float
    kernel_seconds: float
    source: str


class Work(NamedTuple):
    """One update, or one trajectory of a bulk."""

    flop: float
    optimiser_bytes: float = 0.0
    kernels: float = 0.0
    gradient_bytes: float = 0.0


def read_machines() -> list[Machine]:
    """The machines of peaks.csv."""
    with PEAKS.open(newline="") as file:
        return [
            Machine(
                row["machine"],
                int(row["devices"]),
                int(row["devices_per_run"]),
                1e12 * float(row["tflops"]),
                1e9 * float(row["memory_gb_per_s"]),
                1e9 * float(row["link_gb_per_s"]),
                1e9 * float(row["memory_gb"]),
                1e-6 * float(row["kernel_us"]),
                row["source"],
            )
            for row in csv.DictReader(file)
        ]


def estimate_seconds(work: Work, machine: Machine, devices: int, with_kernels: bool = True) -> float:
    """Seconds of one unit of work split over devices: its operations are divided, its optimiser and kernels are not."""
    compute = work.flop / (devices * machine.flops)
    optimiser = work.optimiser_bytes / machine.bandwidth
    kernels = work.kernels * machine.kernel_seconds if with_kernels else 0.0
    # A ring sends every gradient twice, less one part in n.
    links = 2 * work.gradient_bytes * (devices - 1) / devices / machine.link
    return compute + optimiser + kernels + links


class Costs(NamedTuple):
    """Seconds of a run by purpose."""

    world_models: float = 0.0
    imagination: float = 0.0
    updates: float = 0.0
    evaluation: float = 0.0

    def __add__(self, other: "Costs") -> "Costs":  # type: ignore[override]
        return Costs(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Counts:
    """The measured points that a prediction needs, by name."""

    def __init__(self, curves: Mapping[str, Sequence[Point]]):
        self._curves = curves

    def __getitem__(self, curve: str) -> float:
        if curve not in self._curves:
            raise ValueError(f"no point of {curve!r}: `measure --only programs,environments` makes it")
        return self._curves[curve][-1].cost


def denoiser_update_work(config: ConfigDict, counts: Counts) -> Work:
    """The work of one update of a run's diffusion world model."""
    settings, (observation, action, _, _) = config.world_models.dwm, robot_of(config.task)
    shape = {"length": settings.sequence_length, "row_size": observation + 1, "action_size": action}
    flop = settings.batch_size * training_flop(**shape, width=settings.width, multipliers=settings.multipliers)
    size = 4 * counts["parameters, denoiser"]
    return Work(flop, OPTIMISER_PASSES * size, counts["kernels, update of the denoiser"], size)


def trajectory_work(config: ConfigDict, counts: Counts) -> Work:
    """The work of one trajectory of a bulk, which shares the kernels: those of the loop once per sampling step."""
    settings, (observation, action, _, _) = config.world_models.dwm, robot_of(config.task)
    flop = trajectory_flop(
        length=settings.sequence_length,
        row_size=observation + 1,
        action_size=action,
        width=settings.width,
        multipliers=settings.multipliers,
        num_sampling_steps=settings.num_sampling_steps,
        guided=settings.guidance_weight != 1,
    )
    return Work(flop, kernels=settings.num_sampling_steps * counts[f"kernels, {CHUNK} trajectories"] / CHUNK)


def policy_update_work(learner: str, num_seeds: int, counts: Counts) -> Work:
    """The work of one update of all seeds side by side, which share the kernels."""
    return Work(num_seeds * counts[f"operations, update of {learner}"], kernels=counts[f"kernels, update of {learner}"])


def estimate_costs(run: PlannedRun, machine: Machine, counts: Counts, with_kernels: bool) -> Costs:
    """Of one run of the plan.

    World models of single steps are left out, as are the methods' own networks beside the policies: they are small.
    """
    config, per_run = run.config, machine.devices_per_run
    *_, robot, num_steps = robot_of(config.task)
    total = Costs()
    for name in split_names(config.methods):
        method = METHODS[name]
        if isinstance(method, Alone) and method.model == "dwm":
            update = estimate_seconds(denoiser_update_work(config, counts), machine, per_run, with_kernels)
            total += Costs(world_models=config.world_models.dwm.num_updates * update)
        if not isinstance(method, Learning):
            continue
        update = estimate_seconds(
            policy_update_work(method.learner, config.num_seeds, counts), machine, per_run, with_kernels
        )
        evaluations = -(-config.policy.num_updates // config.evaluation.every)
        steps = evaluations * config.num_seeds * config.evaluation.episodes * EPISODE
        imagined = config.policy.imagined_per_pair * num_steps if method.model == "dwm" else 0
        drawn = estimate_seconds(trajectory_work(config, counts), machine, per_run, with_kernels)
        total += Costs(
            imagination=imagined * drawn,
            updates=config.policy.num_updates * update,
            evaluation=steps * counts[f"a step of {robot}"],
        )
    return total


def robot_of(task: str) -> tuple[int, int, str, int]:
    """(observation size, action size, simulator, recorded steps) of a locomotion task."""
    robot, _, kind = task.removesuffix("-v2").partition("-")
    return *ROBOTS[robot], STEPS_OF_REPLAY[robot] if kind == "medium-replay" else STEPS_OF_DATA[kind]


def estimate_hours(stages: Sequence[Sequence[float]], places: int) -> float:
    """Hours of stages of runs on so many places, longest runs first; a stage starts when the one before has ended."""
    total = 0.0
    for stage in stages:
        free = [0.0] * places
        for run in sorted(stage, reverse=True):
            heapq.heappush(free, heapq.heappop(free) + run)
        total += max(free)
    return total / 3600


@cache
def plan_of(table: str) -> tuple[tuple[PlannedRun, ...], ...]:
    """The stages of a table on locomotion: world models, then policies."""
    members = [member for member in members_at(STUDIES[table], SCALE) if member.task.partition("-")[0] in ROBOTS]
    # Where no run can be: what is done in some folder changes no prediction.
    return tuple(stage.runs for stage in plan_stages(members, Path(os.devnull, "runs"), SCALE))


def make_page(curves: Mapping[str, Sequence[Point]]) -> str:
    """The page, as Markdown."""
    counts, text = Counts(curves), [HEAD]
    rows = []
    for table in TABLES:
        plan = plan_of(table)
        for machine in read_machines():
            places = machine.devices // machine.devices_per_run
            spent = [[estimate_costs(run, machine, counts, True) for run in stage] for stage in plan]
            least = [[sum(estimate_costs(run, machine, counts, False)) for run in stage] for stage in plan]
            parts = [sum(column) / 3600 for column in zip(*(cost for stage in spent for cost in stage), strict=True)]
            whole = estimate_hours([[sum(cost) for cost in stage] for stage in spent], places)
            cells = [
                STUDIES[table].title,
                machine.name,
                str(sum(map(len, plan))),
                f"{estimate_hours(least, places):,.1f}",
            ]
            rows.append([*cells, f"{whole:,.1f}", *(f"{part:,.1f}" for part in parts)])
    head = [
        "table",
        "machine",
        "runs",
        "hours, no kernel costs anything",
        "hours",
        *(name.replace("_", " ") for name in Costs._fields),
    ]
    text += [markdown.table(head, rows), SCALING]
    run = plan_of("main")[0][0]
    rows = [
        scaling(what, work, machine)
        for what, work in list_works(run.config, counts).items()
        for machine in distinct_machines()
    ]
    text.append(markdown.table(["what", "machine", *(f"on {n}" for n in DEVICES), "stops at"], rows))
    text += [
        "## Peaks and assumptions\n",
        markdown.table(
            ["machine", "seconds of a kernel, assumed", "source"],
            [[machine.name, f"{1e6 * machine.kernel_seconds:g} us", machine.source] for machine in read_machines()],
        ),
    ]
    return "\n".join(text)


def list_works(config: ConfigDict, counts: Counts) -> dict[str, Work]:
    """What may be split over devices; 1,024 trajectories stand for a bulk."""
    one = trajectory_work(config, counts)
    return {
        "update of the denoiser": denoiser_update_work(config, counts),
        f"{CHUNK} trajectories": Work(CHUNK * one.flop, kernels=CHUNK * one.kernels),
        "update of TD3+BC, 5 seeds": policy_update_work("td3_bc", 5, counts),
    }


def distinct_machines() -> list[Machine]:
    """Each kind of device once."""
    return list({machine.flops: machine for machine in read_machines()}.values())


def scaling(what: str, work: Work, machine: Machine) -> list[str]:
    """Milliseconds by the number of devices, and the number beyond which twice as many save less than a tenth."""
    times = [estimate_seconds(work, machine, devices) for devices in DEVICES]
    saving = [before / after for before, after in pairwise(times)]
    stops = next((DEVICES[index] for index, ratio in enumerate(saving) if ratio < 1 / 0.9), DEVICES[-1])
    return [what, machine.name, *(f"{1000 * time:.3g} ms" for time in times), str(stops)]


HEAD = f"""# What the paper's tables cost elsewhere

Predicted, not measured: no accelerator was at hand. Written by `python -m experiments.growth predict`; how, in the
docstring of `experiments/growth/prediction.py`. At scale "{SCALE}", as published but with imagined trajectories from a
pool, on the nine locomotion tasks. *hours* is from start to end with a run on every device (of the TPU on every host,
with its 8 chips); the columns after it are hours of all runs together, by what they go to. Compiling, reading, and
world models of single steps are not counted. Evaluation is on one core as measured here, one simulator after the other.
Kernels are counted in the programs for a CPU, which has more of them than a GPU: the truth lies between both columns.
"""
SCALING = """
## Where it stops scaling

One run over several devices, by the same sum: operations and trajectories are split, the optimiser and the kernels are
not, gradients travel. *Stops at*: twice as many devices would save less than a tenth. So a table is to be spread by
runs, which need nothing of each other, until there are as many devices as runs; then the longest run is what is left.
"""
