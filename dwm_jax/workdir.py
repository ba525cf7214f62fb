"""A run's folder: opened for one process, refused where it holds another run, and what is written as a run begins."""

import datetime
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ml_collections import ConfigDict

from dwm_jax.config import ConfigError, differences, to_json
from dwm_jax.data import dataset as data
from dwm_jax.data.recording import Recording
from dwm_jax.data.tasks import Task, get_task
from dwm_jax.phases.phase import Run
from dwm_jax.results.evaluator import Evaluator
from dwm_jax.runtime import mirrors, processes, provenance
from dwm_jax.runtime.locks import exclusive
from dwm_jax.runtime.progress import say
from dwm_jax.runtime.row_files import JsonLines


@contextmanager
def opened(config: ConfigDict, workdir: Path, shown_in: Sequence[mirrors.Open]) -> Iterator[Run]:
    """The run that `config` describes, with its task and data, begun or to be resumed in `workdir`.

    Of the run's processes the first reads the data for all.

    Raises:
      InUseError: another process trains in this workdir.
      ConfigError: the workdir holds a run with another config or on other data.
    """
    with exclusive(workdir / ".lock", wait=False):
        task, recording = processes.from_first(lambda: begin(config, workdir))
        with mirrors.watching(shown_in, workdir, config.to_dict()):
            evaluator = Evaluator(task.make_env, config.num_seeds, config.evaluation.episodes, config.evaluation.seed)
            yield Run(config, workdir, task, recording, evaluator)


def begin(config: ConfigDict, workdir: Path) -> tuple[Task, Recording]:
    """The task and its data, in a workdir that holds this run or none."""
    refuse_other_config(config, workdir)
    task, recording = load_recording(config)
    refuse_other_data(recording, workdir)
    (workdir / "config.json").write_text(to_json(config))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    start = {"time": now, "command": sys.orig_argv, **provenance.circumstances(), **provenance.devices()}
    JsonLines(workdir / "starts.jsonl").append([start])
    return task, recording


def load_recording(config: ConfigDict) -> tuple[Task, Recording]:
    """The task and its data, made on the spot where it can be."""
    task = get_task(config.task, num_steps=config.data.num_steps, seed=config.data.seed)
    dataset, return_scale = data.flatten(task.load_episodes(), config.gamma, task.return_scale)
    training, heldout = data.split_episodes(dataset, config.data.holdout_fraction, config.data.seed)
    say(
        f"{task.name}: {len(data.transition_rows(dataset)):,} steps in {data.num_episodes(dataset):,} episodes, "
        f"mean return {data.episode_returns(dataset).mean():.1f}, returns-to-go in units of {return_scale:.1f}"
    )
    return task, Recording(dataset, return_scale, training, heldout, data.fingerprint(dataset))


def refuse_other_config(config: ConfigDict, workdir: Path) -> None:
    """Refuses a workdir that holds a run with another config, and prints the difference."""
    path = workdir / "config.json"
    changed = differences(config, path.read_text()) if path.exists() else []
    if changed:
        raise ConfigError(
            f"{workdir} holds a run with another config; choose another --workdir. Different: {'; '.join(changed)}"
        )


def refuse_other_data(recording: Recording, workdir: Path) -> None:
    """Refuses to go on in a workdir whose run began on other data under the same name."""
    path = workdir / "data.json"
    identity = {"fingerprint": recording.fingerprint, "steps": len(data.transition_rows(recording.dataset))}
    if path.exists():
        earlier = json.loads(path.read_text())
        if earlier != identity:
            raise ConfigError(
                f"{workdir} holds a run on other data: {earlier['steps']:,} steps with the fingerprint "
                f"{earlier['fingerprint'][:12]}, now {identity['steps']:,} with {recording.fingerprint[:12]}; "
                "choose another --workdir, or bring the data back"
            )
    path.write_text(json.dumps(identity) + "\n")
