"""Where the figures come from: every run's commands, commits, versions and machine, as its starts.jsonl has them."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from experiments.report import markdown
from experiments.report.reading import CIRCUMSTANCES, Run, Start, distinct


def circumstances(runs: Sequence[Run]) -> str:
    """The commits, versions and machines that the runs ran on; how many starts of each."""
    counts: dict[tuple[str, ...], int] = {}
    for run in distinct(runs):
        for start in run.starts:
            key = tuple(known or markdown.NOTHING for known in start.circumstances)
            counts[key] = counts.get(key, 0) + 1
    if not counts:
        return "No run has a starts.jsonl: commits and machines are not known.\n"
    return markdown.table([*CIRCUMSTANCES, "starts"], [[*key, str(count)] for key, count in counts.items()])


def commands(runs: Sequence[Run], folder: Path) -> str:
    """Every start of every run, to be repeated; paths below `folder` are written from RUNS on."""
    lines = []
    for run in runs:
        itself = run.folder.resolve() == folder.resolve() / run.place
        lines.append(f"# {run.place}" + ("" if itself else f": {_from_runs(str(run.folder.resolve()), folder)}"))
        lines += [command(start, folder) for start in run.starts] or ["# not recorded: no starts.jsonl"]
    return "```sh\n" + "\n".join(lines) + "\n```\n"


def command(start: Start, folder: Path) -> str:
    """One start: its command line and, as a comment, when and at which commit.

    The interpreter is named without its folder, which is the machine's and not the run's.
    """
    interpreter, *arguments = start.command
    shown = [Path(interpreter).name, *(_from_runs(argument, folder) for argument in arguments)]
    flags = f"XLA_FLAGS={shlex.quote(start.xla_flags)} " if start.xla_flags else ""
    return f"{flags}{shlex.join(shown)}  # {start.time}, commit {start.circumstances[0] or 'unknown'}"


def _from_runs(argument: str, folder: Path) -> str:
    """`--flag=FOLDER/x` and `FOLDER/x` as `RUNS/x`."""
    flag, separator, path = argument.rpartition("=")
    for parent in {str(folder), str(folder.resolve())}:
        if path.startswith(f"{parent}/"):
            return flag + separator + "RUNS" + path.removeprefix(parent)
    return argument
