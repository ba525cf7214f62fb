"""Measures how cost grows on this machine, draws it, and predicts from it what the paper's tables cost elsewhere.

    python -m experiments.growth measure --only data,seeds --jsonl growth.jsonl    a line per point, appended
    python -m experiments.growth measure --only data --largest 1000000 --jsonl growth.jsonl      stops at that size
    python -m experiments.growth draw --jsonl growth.jsonl -o figures              a picture per kind of size
    python -m experiments.growth predict -o PREDICTION.md                          from environments and programs

What is measured (--only): data (10^5 to 10^7 recorded steps: reading, fitting, memory, imagining), networks (T, width,
ensemble members), seeds (1 to 20 policies side by side), devices (1 to 8 virtual ones), runs (1 to 500 of a sweep:
planning, status, report), environments (a step of each simulator), programs (operations and kernels of an update).

Costs are processor seconds, the least of three repetitions: so a busy machine does not show, except through its caches.
Every picture has the straight line through the points in logarithms beside them: cost = factor * size ^ exponent.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from dwm_jax.runtime import files, provenance, terminal
from dwm_jax.runtime.arguments import local_path
from dwm_jax.runtime.progress import say
from dwm_jax.runtime.row_files import JsonLines

from . import prediction
from .drawing import draw_all
from .of_data import growth_of_data
from .of_environments import cost_of_environments
from .of_networks import growth_of_devices, growth_of_networks, growth_of_seeds
from .of_programs import parts_of_programs
from .of_runs import growth_of_runs
from .points import Point, group_by_curve

# What a line of points has.
OF_A_POINT = {
    "kind": (str,),
    "curve": (str,),
    "against": (str,),
    "size": (int, float),
    "cost": (int, float),
    "unit": (str,),
}

# Each kind that --only can name, and the function that yields its points up to the largest size.
KINDS: dict[str, Callable[[int], Iterator[Point]]] = {
    "data": growth_of_data,
    "networks": lambda largest: growth_of_networks(),
    "seeds": lambda largest: growth_of_seeds(),
    "devices": lambda largest: growth_of_devices(),
    "runs": growth_of_runs,
    "environments": lambda largest: cost_of_environments(),
    "programs": lambda largest: parts_of_programs(),
}
SIZED = ("data", "runs")  # the kinds with a largest size
LARGEST = 10_000_000
MEASURED = Path(__file__).parents[1] / "measured" / "growth" / "points.jsonl"


@terminal.guard_output()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        terminal.spell_commands("python -m experiments.growth"),
        description=terminal.spell_commands(__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="measure|draw|predict")
    measuring = commands.add_parser("measure", help="appends a line per point")
    measuring.add_argument("--only", default=",".join(KINDS), metavar="KIND[,KIND...]", help="default: all")
    measuring.add_argument("--largest", type=int, help=f"size of {' or '.join(SIZED)} (default: {LARGEST:,})")
    measuring.add_argument("--jsonl", type=local_path, required=True, metavar="FILE", help="where the points go")
    for name, output in (("draw", "FOLDER"), ("predict", "FILE")):
        reading = commands.add_parser(name, help=f"from measured points into a {output.lower()}")
        reading.add_argument(
            "--jsonl", type=local_path, default=MEASURED, metavar="FILE", help="points (default: the shipped)"
        )
        reading.add_argument("-o", "--output", type=local_path, required=True, metavar=output)
    options = parser.parse_args(arguments)
    try:
        if options.command == "measure":
            measure(parser, options)
        else:
            show(parser, options)
    except (ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:  # files may hold anything
        parser.error(f"{type(error).__name__}: {error}")


def measure(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Appends a line per point."""
    chosen = options.only.split(",")
    if unknown := [kind for kind in chosen if kind not in KINDS]:
        parser.error(f"--only: unknown {', '.join(unknown)}; known: {', '.join(KINDS)}")
    if options.largest is not None and not set(SIZED) & set(chosen):
        parser.error(f"--largest is a size of {' or '.join(SIZED)}, and --only names neither")
    largest = LARGEST if options.largest is None else options.largest
    if largest < 1:
        parser.error("--largest must be at least 1")
    options.jsonl.open("a").close()  # before anything is measured
    circumstances = provenance.describe_circumstances()
    for kind in chosen:
        for point in KINDS[kind](largest):
            say(f"{point.curve}: {point.size:,g} {point.against}: {point.cost:.4g} {point.unit}")
            files.append(options.jsonl, json.dumps({"kind": kind, **point._asdict(), **circumstances}) + "\n")


def show(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Draws the points, or predicts from them."""
    rows = JsonLines(options.jsonl, OF_A_POINT).read()
    if not rows:
        parser.error(f"--jsonl {options.jsonl} holds no points")
    if options.command == "draw":
        for path in draw_all(rows, options.output):
            say(f"drawn: {path}")
        return
    try:
        page = prediction.make_page(group_by_curve(rows))
    except ValueError as error:
        parser.error(f"--jsonl {options.jsonl}: {error}")
    files.write(options.output, page)


if __name__ == "__main__":
    main()
