"""A run's folder: opened for one process, refused where it holds another run, and what is written as a run begins."""

import datetime
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from ml_collections import ConfigDict

from dwm_jax.config import (
    ConfigError,
    check,
    default_config,
    differences,
    methods_of,
    models_of,
    settings_at,
    to_json,
    without_places,
)
from dwm_jax.data import dataset as data
from dwm_jax.data import minari_store
from dwm_jax.data.recording import Recording
from dwm_jax.data.tasks import Sizes, Task, get_task, refuse_other_sizes, try_environment
from dwm_jax.imagination.sources import prefix_of_ask
from dwm_jax.limits import is_used, value_at
from dwm_jax.phases import kept_models
from dwm_jax.phases.held_out import HORIZONS
from dwm_jax.phases.phase import Run, checkpoints_of
from dwm_jax.registry import MODELS, Alone, make_model, split_names
from dwm_jax.results.evaluator import Evaluator
from dwm_jax.runtime import files, locks, mirrors, processes, provenance, stopwatch
from dwm_jax.runtime.locks import exclusive
from dwm_jax.runtime.parallel import Engine
from dwm_jax.runtime.progress import one_line, say
from dwm_jax.runtime.row_files import OF_A_PHASE, TIMES, JsonLines, Results, refuse_unreadable

Checked = TypeVar("Checked")

# What a run keeps in its folder, beside the policies and checkpoints that bear the methods' names.
OWN_FILES = (
    "config.json",
    "data.json",
    "starts.jsonl",
    "timing.jsonl",
    "metrics.jsonl",
    "results.csv",
    "diagnostics.json",
    "summary.md",
    kept_models.FOLDERS,
    kept_models.TAKEN_OVER,
    HORIZONS,
)
OWN_FOLDERS = ("checkpoints", "policies", "figures")


@contextmanager
def open_run(config: ConfigDict, workdir: Path, shown_in: Sequence[mirrors.Open], engine: Engine) -> Iterator[Run]:
    """The run that `config` describes, with its task and data, begun or to be resumed in `workdir`.

    Of the run's processes the first reads the data for all.

    Raises:
      InUseError: another process trains in this workdir.
      ConfigError: the workdir holds a run with another config or on other data.
    """
    with exclusive(workdir / ".lock", wait=False), stopwatch.started() as watch:
        with stopwatch.spending("data"):
            task, recording = processes.call_on_first(lambda: begin_run(config, workdir))
        try:
            with mirrors.open_mirrors(shown_in, workdir, config.to_dict()):
                yield Run(config, workdir, task, recording, make_evaluator(config, task), engine)
        except BaseException:
            with suppress(OSError):  # what stopped the run is what has to be said
                record_seconds(watch.seconds(), workdir)
            raise
        record_seconds(watch.seconds(), workdir)


def record_seconds(by_purpose: dict[str, float], workdir: Path) -> None:
    """A row of timing.jsonl for this start of the run: where its seconds went, those of importing not among them."""
    if not processes.is_first():
        return
    row = {"phase": "run", "step": 0, "seconds": round(sum(by_purpose.values()), 1)}
    rounded = {purpose: round(seconds, 2) for purpose, seconds in by_purpose.items()}
    JsonLines(workdir / "timing.jsonl").append([row | {"by_purpose": rounded}])


def reopen_run(workdir: Path) -> Run:
    """The run that a workdir holds, to look into; nothing is written there.

    Raises:
      ValueError: it holds none, or one that this version does not know how to read, or whose data is not here.
    """
    config = read_config(workdir)
    check(config, num_devices=1)
    task, recording = load_recording(config)
    return Run(config, workdir, task, recording, make_evaluator(config, task))


def read_config(workdir: Path) -> ConfigDict:
    """The config of the run that a workdir holds.

    Raises:
      ValueError: it holds none, or one that this version does not know how to read.
    """
    config = default_config()
    try:
        config.update(files.read_json(workdir / "config.json"))
    except FileNotFoundError as error:
        raise ValueError(f"{workdir} holds no run: it has no config.json") from error
    except (AttributeError, KeyError, TypeError) as error:  # as ml_collections refuses what does not fit
        reason = one_line(str(error).partition(" Other fields")[0])
        raise ValueError(
            f"{workdir / 'config.json'} is not a config of this version: {reason}; what comes from a module of "
            "your own is known once that is imported"
        ) from error
    return config


def make_evaluator(config: ConfigDict, task: Task) -> Evaluator:
    """What evaluates the policies of all seeds."""
    return Evaluator(task.make_env, config.num_seeds, config.evaluation.episodes, config.evaluation.seed, config.gamma)


def begin_run(config: ConfigDict, workdir: Path) -> tuple[Task, Recording]:
    """The task and its data, in a workdir that holds this run or none."""
    refuse_blocked(config, workdir)
    refuse_other_config(config, workdir)
    refuse_read_only(workdir)
    check_row_files(workdir)
    task, recording = load_recording(config)
    refuse_other_data(task, recording, workdir)
    kept_models.check_pretrained(config, recording, workdir)
    files.write(workdir / "config.json", to_json(config))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    start = {
        "time": now,
        "command": sys.orig_argv,
        **provenance.describe_circumstances(),
        **provenance.describe_devices(),
    }
    start |= {"config": digest(config), "data": recording.fingerprint}
    JsonLines(workdir / "starts.jsonl").append([start])
    return task, recording


def refuse_blocked(config: ConfigDict, workdir: Path) -> None:
    """Refuses a workdir where something else has a name that the run will need, some of them at its very end.

    Raises:
      ConfigError: naming the first, and what to do.
    """
    methods = methods_of(config)
    folders = [*(workdir / name for name in OWN_FOLDERS), kept_models.models_folder(config, workdir)]
    folders += [checkpoints_of(workdir, name) for name in methods]
    own_files = [*(workdir / name for name in OWN_FILES), *(workdir / "policies" / f"{name}.npz" for name in methods)]
    remedy = "move it away, or choose another --workdir"
    for path in folders:
        if os.path.lexists(path) and not path.is_dir():
            raise ConfigError(f"{path} is no folder, and the run keeps one under that name; {remedy}")
    for path in own_files:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is no file, and the run writes one under that name; {remedy}")


def refuse_read_only(workdir: Path) -> None:
    """Refuses a folder that cannot be written, before data is read: every start of a run is recorded there.

    Raises:
      ConfigError: with the reason, and the table of a finished run.
    """
    try:
        files.refuse_unwritable(f"--workdir {workdir}", workdir)
    except ValueError as error:
        if getattr(error.__cause__, "errno", None) in locks.READ_ONLY:  # a full disk says so as it is written to
            table = workdir / "summary.md"
            raise ConfigError(f"{error}" + (f"; its table is {table}" if table.exists() else "")) from error


def check_row_files(workdir: Path) -> None:
    """Finds out about files of rows that cannot be read before anything is computed; those that only inform begin anew.

    Raises:
      UnreadableError: metrics or evaluations cannot be read; the line says what to do.
    """
    refuse_unreadable(JsonLines(workdir / "metrics.jsonl", OF_A_PHASE))
    refuse_unreadable(Results(workdir / "results.csv"))
    JsonLines(workdir / "starts.jsonl").renew()
    JsonLines(workdir / "timing.jsonl", TIMES).renew()


def load_recording(config: ConfigDict) -> tuple[Task, Recording]:
    """The task and its data, made on the spot where it can be.

    Raises:
      ConfigError: the data cannot be read or learnt from; or a method acts, and the environment of its evaluation is
        not there, does not run, does not fit the data or might never end an episode. World models by themselves need
        none.
    """
    _checked(lambda: minari_store.path_of(""))  # where data lies, or is made
    task = get_task(config.task, num_steps=config.data.num_steps, seed=config.data.seed)
    acts = any(not isinstance(method, Alone) for method in methods_of(config).values())
    sizes = _checked(lambda: try_environment(task)) if acts else None  # before any data is read
    dataset, return_scale = _flattened(task, config.gamma)
    if sizes is not None:
        of_data = Sizes(dataset.observations.shape[1], dataset.actions.shape[1])
        _checked(lambda: refuse_other_sizes(task, sizes, of_data))
    training, heldout = data.split_episodes(dataset, config.data.holdout_fraction, config.data.seed)
    refuse_too_little(config, dataset, training)
    say(
        f"{task.name}: {len(data.transition_rows(dataset)):,} steps in {data.num_episodes(dataset):,} episodes, "
        f"mean return {data.episode_returns(dataset).mean():.1f}, returns-to-go in units of {return_scale:.1f}"
    )
    print_asked_return(config, dataset)
    return task, Recording(dataset, return_scale, training, heldout, data.fingerprint(dataset))


def _flattened(task: Task, gamma: float) -> tuple[data.Dataset, float]:
    try:
        return data.flatten(task.load_episodes(), gamma, task.return_scale_at(gamma))
    except ValueError as error:
        raise ConfigError(f"the data of {task.name} is not in order: {error}") from error


def print_asked_return(config: ConfigDict, dataset: data.Dataset) -> None:
    """Prints where the return-to-go that policies ask for lies among the data's; beyond them a model extrapolates."""
    if any(MODELS[name].is_return_conditioned for name in models_of(config)):
        labels, asked = dataset.returns_to_go[data.transition_rows(dataset)], config.policy.return_to_go
        bound = prefix_of_ask(config.policy.ask)
        guessed = not bound and asked > labels.max()
        beyond = "; the world model extrapolates" if guessed else ""
        say(
            f"policies ask for a return-to-go of {bound}{asked:g}; {np.mean(labels >= asked):.1%} of the recorded ones "
            f"are as high, the largest is {labels.max():.2f}{beyond}"
        )


def refuse_too_little(config: ConfigDict, dataset: data.Dataset, training: np.ndarray) -> None:
    """Refuses what asks for more of the data than there is.

    Raises:
      ConfigError: naming the key.
    """
    pairs, asked = len(data.transition_rows(dataset)), config.policy.imagined_pairs
    if asked > pairs and is_used("policy.imagined_pairs", config, methods_of(config).values()):
        raise ConfigError(f"policy.imagined_pairs={asked:,} is not allowed: the data has {pairs:,}; 0 takes all")
    if is_used("policy.batch_size", config, methods_of(config).values()):
        refuse_larger_batch("policy.batch_size", config, pairs, "transitions")
    for name in models_of(config):
        length = make_model(name, **settings_at(config, f"world_models.{name}")).sequence_length
        try:
            segments = len(data.segment_rows(dataset, length, config.data.pad, training))
        except ValueError as error:
            raise ConfigError(
                f"data.pad={config.data.pad!r} is not allowed for the world model {name}, which is trained on segments "
                f"of {length} rows: {error}"
            ) from error
        refuse_larger_batch(f"world_models.{name}.batch_size", config, segments, "segments to learn from")


def refuse_larger_batch(key: str, config: ConfigDict, number: int, what: str) -> None:
    """Refuses a batch that would hold every one of them several times.

    Raises:
      ConfigError: naming the key.
    """
    batch_size = value_at(config, key)
    if batch_size > number:
        raise ConfigError(
            f"{key}={batch_size:,} is not allowed: the data has {number:,} {what}; ask for no more, or record more"
        )


def _checked(check: Callable[[], Checked]) -> Checked:
    try:
        return check()
    except ValueError as error:
        raise ConfigError(str(error)) from error


def refuse_other_config(config: ConfigDict, workdir: Path) -> None:
    """Refuses a workdir that holds a run with another config, and prints the difference.

    Methods may be added: each learns by itself, whatever others there are. Where config.json cannot be read, the starts
    say whether it was another.
    """
    earlier = files.find_json(workdir / "config.json")
    if earlier is None:
        refuse_other_start(workdir, "config", digest(config))
        return
    methods = earlier.get("methods")
    keeps_all = isinstance(methods, str) and set(split_names(methods)) <= methods_of(config).keys()
    changed = differences(config, earlier | {"methods": config.methods} if keeps_all else earlier)
    if changed:
        raise ConfigError(
            f"{workdir} holds a run with another config; choose another --workdir. Different: {'; '.join(changed)}"
        )


def refuse_other_data(task: Task, recording: Recording, workdir: Path) -> None:
    """Refuses to go on in a workdir whose run began on other data under the same name.

    data.json also says whether the data is D4RL's own, for whoever compares the run with others.
    """
    path = workdir / "data.json"
    identity = {"fingerprint": recording.fingerprint, "steps": len(data.transition_rows(recording.dataset))}
    earlier = files.find_json(path)
    if earlier is None:
        refuse_other_start(workdir, "data", recording.fingerprint)
    elif {key: earlier.get(key) for key in identity} != identity:
        steps, known = earlier.get("steps"), str(earlier.get("fingerprint"))[:12]
        before = f"{steps:,}" if isinstance(steps, int) else "an unknown number of"
        raise ConfigError(
            f"{workdir} holds a run on other data: {before} steps with the fingerprint {known}, now "
            f"{identity['steps']:,} with {recording.fingerprint[:12]}; "
            "choose another --workdir, or bring the data back"
        )
    files.write(path, json.dumps(identity | {"origin": task.origin}) + "\n")


def refuse_other_start(workdir: Path, key: str, value: str) -> None:
    """Refuses a workdir whose last start had another config, or other data, by the digest that it left."""
    try:
        earlier = [row[key] for row in JsonLines(workdir / "starts.jsonl").read() if key in row]
    except files.UnreadableError as error:
        raise ConfigError(
            f"{error}; there is no readable {key}.json either, so {workdir} may hold another run; choose another "
            "--workdir, or move that file away if the run is the same"
        ) from error
    if earlier and earlier[-1] != value:
        raise ConfigError(
            f"{workdir} holds a run with another {key}; its {key}.json, which says what is different, cannot be read; "
            "choose another --workdir"
        )


def digest(config: ConfigDict) -> str:
    """SHA-256 of the settings in which different runs differ: all but places."""
    return hashlib.sha256(to_json(without_places(config)).encode()).hexdigest()
