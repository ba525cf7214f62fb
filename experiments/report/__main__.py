"""A report of every run below a folder, beside the paper's figures.

    python -m experiments.report RUNS -o report

RUNS holds the folders of `python -m experiments.sweep` (study/task/variant), or any runs of `dwm_jax.train`. It writes

    report.md          the report, with its pictures in figures/
    report.html        the same as one file, pictures and all: for a phone, a mail, a printer
    comparison.csv     the tables' figures, unrounded, ours beside the paper's
    evaluations.csv    every evaluation of every seed: mean over its episodes

It reads files alone and may be repeated while runs go on: what is missing, unfinished or broken is listed.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from dwm_jax.runtime import files, own_modules, terminal
from dwm_jax.runtime.arguments import local_path

from ..studies.catalogue import STUDIES
from ..tables import write_csv
from . import document, markdown, reading, sections
from .found import Found, explain_no_run, make_evaluation_rows
from .markdown import make_page


@terminal.guard_output()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        terminal.spell_commands("python -m experiments.report"),
        description=terminal.spell_commands(__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=local_path, metavar="RUNS", help="a workdir, or a folder that holds some")
    parser.add_argument(
        "-o", "--output", type=local_path, metavar="DIR", required=True, help="the report's folder; made"
    )
    own_modules.add_flag(parser)
    options = parser.parse_args(arguments)
    if find_spec("markdown_it") is None:
        print("error: report.html needs markdown-it-py: pip install markdown-it-py", file=sys.stderr)
        sys.exit(2)
    try:
        own_modules.import_all(options.own_modules)
        files.refuse_unwritable(f"-o {options.output}", options.output)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    found = reading.read_all(options.runs, list(STUDIES))
    if not found.runs:
        print(f"error: {explain_no_run(options.runs, found)}", file=sys.stderr)
        sys.exit(2)
    try:
        write(found, options.runs, options.output)
    except OSError as error:
        print(f"error: cannot write the report: {error}", file=sys.stderr)
        sys.exit(2)
    runs = "1 run" if len(found.runs) == 1 else f"{len(found.runs)} runs"
    print(f"{options.output / 'report.html'}: {runs}, {len(found.gaps)} missing")


def write(found: Found, runs: Path, folder: Path) -> None:
    """Writes everything the report is made of."""
    made = document.make_sections(found, folder)
    text = document.write(found, made, runs)
    remove_earlier(folder, text)
    files.write(folder / "report.md", text)
    files.write(folder / "report.html", make_page(text, document.title(found), folder))
    write_csv(folder / "comparison.csv", sections.raw_rows(made))
    write_csv(folder / "evaluations.csv", (row for run in found.runs for row in make_evaluation_rows(run)))


def remove_earlier(folder: Path, text: str) -> None:
    """Removes the pictures that the earlier report in `folder` shows and `text` does not, and nothing else."""
    try:
        earlier = (folder / "report.md").read_text("utf-8")
    except (FileNotFoundError, ValueError):
        return
    for name in markdown.pictures_in(earlier) - markdown.pictures_in(text):
        (folder / markdown.PICTURES / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
