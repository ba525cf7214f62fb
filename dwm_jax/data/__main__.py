"""Data for dwm_jax: prepared once, kept in Minari's local folder, used by any number of runs without network.

examples
  python -m dwm_jax.data list                                  what there is
  python -m dwm_jax.data prepare hopper-medium-v2              D4RL's file, downloaded and converted
  python -m dwm_jax.data prepare hopper-medium-v2 --file hopper_medium-v2.hdf5       the same without network
  python -m dwm_jax.data prepare hopper-medium-expert --file medium.hdf5 --file expert.hdf5
  python -m dwm_jax.data prepare my-robot --file mine.hdf5 --env Hopper-v5           a file of your own
  python -m dwm_jax.data prepare my-robot --file mine.hdf5 --env my_package:Mine-v0   and an environment of your own
  python -m dwm_jax.data prepare my-robot --file mine.hdf5 --env none --actions clip  for world models alone
  python -m dwm_jax.data prepare my-maze --file folder-of-minari-episodes --env PointMaze_UMaze-v3
  python -m dwm_jax.data prepare antmaze-large-navigate-singletask-task1-v0 --file antmaze-large-navigate-v0.npz
  python -m dwm_jax.data prepare mujoco/hopper/medium-v0       any Minari id
  python -m dwm_jax.data check hopper-medium-v2                a verdict, question by question
  python -m dwm_jax.data show hopper-medium-v2                 its card and a picture
  python -m dwm_jax.train --config ... --config.task=hopper-medium-v2

A file is HDF5 in D4RL's layout: flat arrays observations (N, O), actions (N, A) in [-1, 1], rewards (N,),
terminals (N,) where the task ended, timeouts (N,) where the clock did; next_observations (N, O) where there are.
Without next_observations the last transition of every timed-out episode is dropped, because its next state is unknown.
Consecutive terminals count as one episode end; the rows after the first are dropped. OGBench's .npz files are read too.
Data goes to MINARI_DATASETS_PATH, or ~/.minari/datasets.

exit codes: 0 fine, 1 failed or something is wrong with the data (one line says what), 2 wrong usage, 130 interrupted
from the keyboard, 143 by SIGTERM, 129 by a terminal that was closed; after the last three the same command goes on.
A data set that is listed is always complete.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dwm_jax.data import actions, card, dataset, minari_store, notes, tasks
from dwm_jax.data.check import Verdict, check_all, check_environment
from dwm_jax.data.d4rl_tasks import D4RL_TASKS
from dwm_jax.data.importing import ImportOptions
from dwm_jax.data.prepare import DEFAULTS, prepare
from dwm_jax.data.tasks import Task
from dwm_jax.runtime import interruption, terminal
from dwm_jax.runtime.arguments import local_path, non_empty
from dwm_jax.runtime.keys import NUM_SEEDS
from dwm_jax.runtime.locks import InUseError
from dwm_jax.runtime.progress import one_line
from dwm_jax.types import LARGEST_INDEX

MARKS = {"ok": "  ok    ", "note": "  note  ", "wrong": "  WRONG "}


@terminal.guard_output()
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    refuse_meaningless(parser, options)
    try:
        with interruption.listening():
            return int(options.run(options))
    except (ValueError, MemoryError, OSError, InUseError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except interruption.Interrupted as stop:
        more = ", a download where it stopped" if options.command == "prepare" else ""
        print(f"{stop}{more}", file=sys.stderr)
        return stop.exit_code


def make_parser() -> argparse.ArgumentParser:
    """The commands and their options, each with the function that runs it."""
    parser = argparse.ArgumentParser(
        prog=terminal.spell_commands("python -m dwm_jax.data"),
        description=terminal.spell_commands(__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{list,prepare,check,show}")
    commands.add_parser("list", help="names, and what is prepared").set_defaults(run=run_list)
    prepare_parser = commands.add_parser("prepare", help="download or import data, once")
    prepare_parser.add_argument("name", help="a D4RL name, a Minari id, or a name of your own for --file")
    prepare_parser.add_argument(
        "--file", action="append", default=[], type=local_path, metavar="F",
        help="HDF5 in D4RL's layout (give it again for each of several), or a folder of Minari episodes",
    )  # fmt: skip
    prepare_parser.add_argument(
        "--env", type=non_empty, metavar="ID",
        help="Gymnasium id to evaluate in, MODULE:ID to import a module of your own first, or none, for world models "
        "alone; default: the file's own",
    )  # fmt: skip
    prepare_parser.add_argument(
        "--actions", choices=actions.HANDLINGS, default=DEFAULTS.actions,
        help="what to do with actions beyond [-1, 1]: refuse them (default), clip them, or scale all of them by the "
        "bounds of the environment's actions, or by the recorded ones where it has none",
    )  # fmt: skip
    prepare_parser.add_argument(
        "--timeouts", choices=("end", "clock", "none"), default=DEFAULTS.timeouts,
        help="end (default): every timeout ends an episode; in D4RL's maze2d files timeouts mark reached goals, so "
        "returns-to-go stop at the next goal. clock: a timeout after which the recording continues is ignored, and "
        "episodes are cut at the environment's time limit. none: the file has no timeouts; terminals mark every "
        "episode end",
    )  # fmt: skip
    prepare_parser.add_argument(
        "--max-episode-steps", type=int, metavar="N",
        help="time limit of evaluation episodes, in steps; needed where the environment has none",
    )  # fmt: skip
    prepare_parser.set_defaults(run=run_prepare)
    for name, run, text in (
        ("check", run_check, "validate data"),
        ("show", run_show, "print the card and save the picture"),
    ):
        sub = commands.add_parser(name, help=text)
        sub.add_argument("name", help="a name from `list`")
        sub.add_argument(
            "--num-steps", type=int, help=f"of data made on the spot (maze2d); default: {tasks.NUM_STEPS:,}"
        )
        sub.add_argument("--seed", type=int, help="of data made on the spot (maze2d); default: 0")
        sub.set_defaults(run=run)
    sub.add_argument("--picture", type=local_path, metavar="PNG", help="default: card.png in the data set's folder")
    return parser


def refuse_meaningless(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Leaves with a line about an option that would change nothing."""
    if options.command in ("check", "show"):
        for flag, value in (("--num-steps", options.num_steps), ("--seed", options.seed)):
            if value is not None and options.name not in tasks.MADE_TASKS:
                parser.error(f"{flag} goes with data made on the spot: {', '.join(tasks.MADE_TASKS)}")
        if options.num_steps is not None and not 1 <= options.num_steps <= LARGEST_INDEX:
            parser.error(f"--num-steps must be at least 1 and at most {LARGEST_INDEX:,}")
        if options.seed is not None and not 0 <= options.seed < NUM_SEEDS:
            parser.error(f"--seed must be from 0 to {NUM_SEEDS - 1:,}")
    if options.command != "prepare":
        return
    if not options.file and options.name not in D4RL_TASKS:
        for flag, is_given in (
            ("--env", options.env is not None),
            ("--actions", options.actions != DEFAULTS.actions),
            ("--timeouts", options.timeouts != DEFAULTS.timeouts),
            ("--max-episode-steps", options.max_episode_steps is not None),
        ):
            if is_given:
                parser.error(f"{flag} goes with --file, or with a D4RL name: other data brings its own")
    if options.max_episode_steps is not None and options.max_episode_steps < 1:
        parser.error("--max-episode-steps must be at least 1")


def run_list(options: argparse.Namespace) -> int:
    for name in tasks.known_names():
        state = "made on the spot" if name in tasks.MADE_TASKS else "not prepared"
        if name in D4RL_TASKS and D4RL_TASKS[name].environment is None:
            state += ", for world models alone"
        dataset_id = minari_store.local_id(name)
        if name not in tasks.MADE_TASKS and minari_store.exists(dataset_id):
            state = _size_of(dataset_id)
        print(f"{name:<32}{state}")
    print(f"in {minari_store.path_of('')}")
    return 0


def _size_of(dataset_id: str) -> str:
    try:
        metadata = minari_store.raw_metadata(dataset_id)
        return f"{int(metadata['total_steps']):,} steps in {int(metadata['total_episodes']):,} episodes"
    except Exception as error:  # a folder that somebody else has left there may hold anything
        return f"unreadable: {type(error).__name__}: {one_line(error)}; remove {minari_store.path_of(dataset_id)}"


def run_prepare(options: argparse.Namespace) -> int:
    import_options = ImportOptions(options.env, options.timeouts, options.actions, options.max_episode_steps)
    dataset_id, made = prepare(options.name, options.file, import_options, on_progress=_print_progress())
    stored = minari_store.read_stored(dataset_id)
    print(
        f"{options.name}: {'made' if made else 'there already'}, {stored.num_steps:,} steps in "
        f"{stored.num_episodes:,} episodes, {stored.folder.parent}"
    )
    print(f"  evaluated in {stored.environment or 'no environment: for world models alone'}")
    provenance = stored.provenance
    for note in notes.collect_notes(provenance):
        print(f"  {note}")
    look = terminal.spell_commands("python -m dwm_jax.data check")
    print(f"  train with --config.task={options.name}; validate with: {look} {options.name}")
    return 0


def run_check(options: argparse.Namespace) -> int:
    try:
        task, provenance, _ = _find(options)
        episodes = task.load_episodes()
        verdicts = [*check_all(episodes, provenance), check_environment(task, episodes)]
    except ValueError as error:
        if not tasks.is_known(options.name):
            raise
        verdicts = [Verdict("wrong", "reading", str(error))]
    for verdict in verdicts:
        print(f"{MARKS[verdict.mark]}{verdict.question:<20}  {verdict.answer}")
    wrong = [verdict.question for verdict in verdicts if verdict.mark == "wrong"]
    print(f"{options.name}: {'wrong: ' + ', '.join(wrong) if wrong else 'in order'}")
    return 1 if wrong else 0


def run_show(options: argparse.Namespace) -> int:
    task, provenance, folder = _find(options)
    place = provenance.get("environment") or "none named; it trains world models"
    if task.name in tasks.MADE_TASKS:
        place = task.name
    elif not provenance:
        place = tasks.read_stored_data(task.name).environment or place
    flat, scale = dataset.flatten(task.load_episodes(), dataset.DISCOUNT, task.return_scale)
    print(card.describe_dataset(task.name, flat, scale, dataset.DISCOUNT, task.reference_scores, place, provenance))
    path = options.picture or folder / "card.png"
    card.draw_histograms(path, task.name, flat, scale, task.reference_scores)
    print(f"picture: {path}")
    return 0


def _find(options: argparse.Namespace) -> tuple[Task, dict[str, Any], Path]:
    """(task, provenance, where its picture goes)."""
    if options.name in tasks.MADE_TASKS:
        task = tasks.get_task(options.name, num_steps=options.num_steps or tasks.NUM_STEPS, seed=options.seed or 0)
        return task, {}, minari_store.path_of(f".{options.name}")
    stored = tasks.read_stored_data(options.name)
    return tasks.make_local_task(options.name, stored), stored.provenance, stored.folder.parent


def _print_progress() -> Any:
    shown = -1

    def on_progress(done: int, total: int | None) -> None:
        nonlocal shown
        percent = 100 * done // total if total else done >> 24
        if percent // 5 != shown:
            shown = percent // 5
            whole = f" of {total:,}" if total else ""
            print(f"downloaded {done:,}{whole} bytes", file=sys.stderr, flush=True)

    return on_progress


if __name__ == "__main__":
    sys.exit(main())
