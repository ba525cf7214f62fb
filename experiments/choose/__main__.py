"""Which of the finished policies to take, without asking the simulator.

    python -m experiments.choose runs                          every run below a folder, the table on the terminal
    python -m experiments.choose runs -o choice                and choice/policies.csv, rankings.csv, a picture per task
    python -m experiments.choose runs --updates 50000          critics that are fitted for longer
    python -m experiments.choose runs/dwm --auto               horizon and return-to-go for a new data set

Policies of one data set are ranked by three estimates of their discounted return, each a column of the table:

    fitted Q     critics are fitted to the policy on all recorded transitions, those it learnt from included, and asked
                 at the recorded initial states. It takes most of the time; --updates says how long.
    imagined     what the diffusion world model imagines after the policy's first action at these states, H steps and
                 no further. It needs a world model that one of the runs has trained, found where the run kept it.
    own critic   what the method's own critics predicted for the initial states of its last evaluation (results.csv).
                 Not comparable between methods: pessimistic methods predict less.

Where the policies were evaluated, "score" says what they turned out to be worth, and the second table how good each
ranking was: Spearman's correlation of estimate and score, and what is lost, in score, by taking the policy that is
ranked first (regret@1) or the best of the first three (regret@3) instead of the best of all. None of the estimates
looks at a score. Planners (DD) are left out.

--auto reads what a run measured of its world model on held-out data (a run of the method "DWM" is enough) and prints
overrides for the train command: the largest horizon at which errors and spread are within bounds, and a high quantile
of the recorded returns-to-go. The rule and its bounds are in experiments/choose/automatic.py.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dwm_jax.config import ConfigError
from dwm_jax.runtime import cluster, files, own_modules, terminal
from dwm_jax.runtime.arguments import local_path
from dwm_jax.runtime.keys import NUM_SEEDS
from dwm_jax.runtime.progress import one_line, printable
from dwm_jax.types import LARGEST_INDEX

from ..report import markdown
from ..tables import write_csv
from . import automatic, candidates, judging, showing
from .candidates import Group
from .fitted_q import Settings
from .judging import Judged, Quality


@terminal.guard_output()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        terminal.spell_commands("python -m experiments.choose"),
        description=terminal.spell_commands(__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=local_path, metavar="RUNS", help="a workdir, or a folder that holds some")
    parser.add_argument(
        "-o", "--output", type=local_path, metavar="OUT", help="folder for the CSV files and pictures; made"
    )
    parser.add_argument("--updates", type=int, help=f"of the fit (default: {Settings().num_updates:,})")
    parser.add_argument("--seed", type=int, help=f"of fitted critics and their batches (default: {Settings().seed})")
    parser.add_argument("--auto", action="store_true", help="horizon and return-to-go instead of a ranking")
    own_modules.add_flag(parser)
    options = parser.parse_args(arguments)
    asked = {"num_updates": options.updates, "seed": options.seed}
    settings = Settings()._replace(**{name: value for name, value in asked.items() if value is not None})
    if not 1 <= settings.num_updates <= LARGEST_INDEX:
        parser.error(f"--updates must be at least 1 and at most {LARGEST_INDEX:,}")
    if not 0 <= settings.seed < NUM_SEEDS:
        parser.error(f"--seed must be from 0 to {NUM_SEEDS - 1:,}")
    if options.auto and options.output:
        parser.error("--auto prints what it finds: leave -o out")
    if options.auto and any(value is not None for value in asked.values()):
        parser.error("--auto fits no critics: leave --updates and --seed out")
    try:
        cluster.find_devices()
        own_modules.import_all(options.own_modules)
        if options.output is not None:  # before the critics are fitted
            files.refuse_unwritable(f"-o {options.output}", options.output)
        groups = candidates.find_groups(options.runs)
        if options.auto:
            advise(groups, options.runs)
        else:
            rank(groups, options.runs, settings, options.output)
    except (ConfigError, MemoryError, OSError, ValueError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)


def rank(groups: Sequence[Group], runs: Path, settings: Settings, output: Path | None) -> None:
    """Ranks the policies of every group.

    Raises:
      ValueError: there are none, or the data of a group is not there.
    """
    if not any(group.policies for group in groups):
        raise ValueError(f"{runs} holds no finished policy: no policies/*.npz in a run (or in one, see --auto)")
    policies, rankings = [], []
    for number, group in enumerate(group for group in groups if group.policies):
        judged = judging.judge(group, runs, settings)
        found = judging.rate_rankings(judged)
        policies += [one.as_row() for one in judged]
        rankings += [one.as_row(group.task) for one in found]
        if output is not None:  # before it is shown, which may fail
            showing.draw_estimates(output / markdown.picture_file(f"{number}", group.task), group.task, judged)
            write_csv(output / "policies.csv", policies)
            write_csv(output / "rankings.csv", rankings)
        show(group, judged, found)
    if output is not None:
        print(f"{output}: policies.csv{', rankings.csv' if rankings else ''}, figures/")


def show(group: Group, judged: Sequence[Judged], found: Sequence[Quality]) -> None:
    """One group's tables."""
    print(f"\n{printable(group.title)}")
    showing.print_table(*showing.policies_table(judged))
    if found:
        showing.print_table(*showing.quality_table(found))
    else:
        print("How good these rankings are is not known: fewer than two of the policies were evaluated.")
    for line in group.left_out:
        print(printable(f"left out: {line}"))


def advise(groups: Sequence[Group], runs: Path) -> None:
    """Prints overrides for every group that has measured a world model.

    Raises:
      ValueError: none has.
    """
    found = 0
    for group in groups:
        for folder in group.folders:
            measured = automatic.read_measured(folder)
            if measured is not None:
                _, recording = candidates.load_run(folder)
                print(f"\n{printable(group.task)}, the world model of {printable(str(folder))}")
                showing.print_table(*automatic.horizon_table(measured))
                print(automatic.explain_overrides(measured, automatic.labels_of(recording), recording.measured_on))
                found += 1
    if not found:
        raise ValueError(f"no run in {runs} has measured a diffusion world model: train one with --config.methods=DWM")


if __name__ == "__main__":
    main()
