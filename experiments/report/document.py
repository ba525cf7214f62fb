"""The whole report: what was found, a section per study, what is missing, and where every figure comes from."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..studies.catalogue import STUDIES
from ..studies.study import Study
from . import markdown, sections, timing
from .found import CIRCUMSTANCES, Found, FoundRun, FoundStart, Gap, drop_links, group_by_task
from .sections import Section
from .together import compare_methods

# Runs that lie in no study's folder.
OTHERS = Study("", "Other runs", "", "returns.csv", "returns", (), lambda task, scale: ())

# A longer list of gaps opens on demand.
NUM_SHOWN = 20

HOW_TO_READ = """\
**Mean of last 3**, the figure that is compared, is each seed's mean over its last three evaluations, then mean ±
standard deviation over seeds; **last** is the same at the last evaluation alone. Scores are on the paper's 0-1 scale
(1: D4RL's expert) where a task has reference scores, raw returns elsewhere. **Difference** is the mean of the last 3
less the paper's mean, which the paper gives over 5 seeds of 10 episodes. Where a column head says "on other data", the
paper's figure was measured on another data set of the same kind, and the difference says little; "our data is
unverified" where nothing says whether ours is D4RL's file.

**CORL** has the last scores of CORL's TD3+BC, IQL and ReBRAC on D4RL's data, mean ± standard deviation over its seeds
(its README). The paper's baselines are runs of its authors, in places far below CORL's; a method is beside both. Below
the tables stand methods that only others report.

Where a horizon or a return-to-go was searched, a method is shown with the variant whose mean of the last 3 is **best**,
chosen by its evaluation as in the paper; that flatters. "All variants" below a table shows the search.
"""


def make_sections(found: Found, folder: Path) -> list[Section]:
    """A section per study that has runs; pictures go to `folder`/figures."""
    by_study = {study: group_by_task(found.runs, study.name) for study in (*STUDIES.values(), OTHERS)}
    made = {study: sections.make_section(study, by_task, folder) for study, by_task in by_study.items() if by_task}
    if OTHERS in made and not made[OTHERS].lines:
        del made[OTHERS]  # world models by themselves: their commands are listed
    returns = [section.lines for study, section in made.items() if study.kind == "returns"]
    others = [section.lines for study, section in made.items() if study.kind != "returns"]
    everything = compare_methods(returns, others, folder)
    return [*([Section("All methods together", everything, {}, ())] if everything else []), *made.values()]


def write(found: Found, made: Sequence[Section], runs_folder: Path) -> str:
    """The report's Markdown.

    Args:
      found: what `runs_folder` holds.
      made: the sections of the studies.
    """
    parts = [(section.heading, section.text) for section in made]
    parts.append(("What is missing", list_gaps(found.gaps)))
    costs = [timing.learning(drop_links(found.runs)), timing.pretraining(found.models)]
    parts.append(("Wall times", "\n".join(cost for cost in costs if cost) or "No run has a timing.jsonl.\n"))
    parts.append(("Commands, commits and machines", describe_origin(found, runs_folder)))
    heading = [f"# {markdown.escape(title(found))}\n", summary(found), HOW_TO_READ]
    contents = [f"- [{name}](#{markdown.anchor(name)})" for name, _ in parts]
    return "\n".join([*heading, *contents, ""] + [f"\n## {name}\n\n{text}" for name, text in parts])


def title(found: Found) -> str:
    """Of the report."""
    return "Diffusion World Model: runs" + (f" at scale {found.scale}" if found.scale else "")


def summary(found: Found) -> str:
    """What there is, in two lines."""
    runs = drop_links(found.runs)
    methods = sum(len(run.curves) for run in runs)
    tasks = sorted({markdown.escape(run.task) for run in found.runs})
    gaps = f"{len(found.gaps)} thing(s) are" if found.gaps else "nothing is"
    scale = f' of a sweep at scale "{markdown.escape(found.scale)}"' if found.scale else ""
    rows = (
        " Raw rows: [comparison.csv](comparison.csv) (the tables, unrounded), [evaluations.csv](evaluations.csv) "
        "(every evaluation)."
    )
    return (
        f"{len(runs)} run(s){scale}, with {methods} finished trainings of a method on {len(tasks)} "
        f"task(s): {', '.join(tasks)}. {gaps[0].upper() + gaps[1:]} [missing](#{markdown.anchor('What is missing')})."
        f"{rows if methods else ''}\n"
    )


def list_gaps(gaps: Sequence[Gap]) -> str:
    """Every gap, by run."""
    if not gaps:
        return "Nothing: every run that was found, or that the sweep was asked for, is finished.\n"
    table = markdown.table(["run", "state"], gaps)
    return table if len(gaps) <= NUM_SHOWN else markdown.fold(f"All {len(gaps)}", table)


def describe_origin(found: Found, runs_folder: Path) -> str:
    """Circumstances, then every command."""
    text = [list_circumstances(found.runs), "`RUNS` stands for the folder of the runs.\n"]
    for study in (*STUDIES.values(), OTHERS):
        runs = [run for run in found.runs if run.study == study.name]
        if runs:
            text.append(markdown.fold(f"{study.title}: {len(runs)} run(s)", list_commands(runs, runs_folder)))
    return "\n".join(text)


def list_circumstances(runs: Sequence[FoundRun]) -> str:
    """The commits, versions and machines that the runs ran on; how many starts of each."""
    counts: dict[tuple[str, ...], int] = {}
    for run in drop_links(runs):
        for start in run.starts:
            key = tuple(known or markdown.NOTHING for known in start.circumstances)
            counts[key] = counts.get(key, 0) + 1
    if not counts:
        return "No run has a starts.jsonl: commits and machines are not known.\n"
    return markdown.table([*CIRCUMSTANCES, "starts"], [[*key, str(count)] for key, count in counts.items()])


def list_commands(runs: Sequence[FoundRun], folder: Path) -> str:
    """The commands of every start of every run; paths below `folder` are written from RUNS on."""
    lines = []
    for run in runs:
        itself = run.folder.resolve() == folder.resolve() / run.place
        place = run.place + ("" if itself else f": {_from_runs(str(run.folder.resolve()), folder)}")
        lines.append(f"# {markdown.one_line(place)}")
        lines += [command(start, folder) for start in run.starts] or ["# not recorded: no starts.jsonl"]
    return markdown.fenced(lines, "sh")


def command(start: FoundStart, folder: Path) -> str:
    """One start: its command line and, as a comment, when and at which commit.

    The interpreter is named without its folder, which is the machine's and not the run's.
    """
    interpreter, *arguments = start.command
    shown = [Path(interpreter).name, *(_from_runs(argument, folder) for argument in arguments)]
    flags = f"XLA_FLAGS={shlex.quote(start.xla_flags)} " if start.xla_flags else ""
    remark = markdown.one_line(f"{start.time}, commit {start.circumstances[0] or 'unknown'}")
    return f"{flags}{shlex.join(shown)}  # {remark}"


def _from_runs(argument: str, folder: Path) -> str:
    """`--flag=FOLDER/x` and `FOLDER/x` as `RUNS/x`."""
    flag, separator, path = argument.rpartition("=")
    for parent in {str(folder), str(folder.resolve())}:
        if path.startswith(f"{parent}/"):
            return flag + separator + "RUNS" + path.removeprefix(parent)
    return argument
