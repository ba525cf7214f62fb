"""Trains a world model, then policies inside their own imagination, and evaluates them.

    python -m dwm_jax.train --config experiments/configs/quickstart.py --workdir runs/quickstart

Any field of the config can be overridden: --config.policy.horizon=5 --config.methods=DWM-TD3BC,TD3+BC
A config that serves many tasks takes one as its argument: --config experiments/configs/maze2d.py:medium

Phases: data -> one pretraining per model the methods need -> per method its imagination (drawn in bulk where the
world model allows) and its policy, evaluated as it learns -> diagnostics, table and pictures. Start the same
command again to resume; it goes on from the last checkpoint and ends as if it had never stopped.

The run folder: config.json, data.json, starts.jsonl, metrics.jsonl, results.csv, summary.md, diagnostics.json,
timing.jsonl, policies/, checkpoints/, figures/.
"""

import datetime
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ml_collections import ConfigDict

from dwm_jax.config import ConfigError, differences, methods_of, to_json
from dwm_jax.data import dataset as data
from dwm_jax.data.recording import Recording
from dwm_jax.data.tasks import Task, get_task
from dwm_jax.learners.policies import TrainedMethod
from dwm_jax.phases.planning import evaluate_planner
from dwm_jax.phases.policy_learning import learn_policy
from dwm_jax.phases.pretraining import pretrain
from dwm_jax.registry import Method
from dwm_jax.results.evaluator import Evaluator
from dwm_jax.results.summary import write_report
from dwm_jax.runtime import mirrors, processes, provenance
from dwm_jax.runtime.locks import exclusive
from dwm_jax.runtime.progress import say
from dwm_jax.runtime.row_files import JsonLines
from dwm_jax.world_models.base import Planner


def train(config: ConfigDict, workdir: Path, shown_in: Sequence[mirrors.Open] = ()) -> None:
    """The whole run. `config` must have passed `config.check`; `shown_in` are mirrors of its numbers."""
    with exclusive(workdir / ".lock", wait=False), ExitStack() as to_the_end:
        methods = methods_of(config)
        task, recording = processes.from_first(lambda: begin(config, workdir))
        to_the_end.enter_context(mirrors.watching(shown_in, workdir, config.to_dict()))

        # ------------------------------------------------------------------------ models
        needed = dict.fromkeys(method.model for method in methods.values() if method.model)
        models = {name: pretrain(name, config, recording, workdir) for name in needed}

        # ---------------------------------------------------------------------- policies
        seeds = [config.seed + index for index in range(config.num_seeds)]
        evaluator = Evaluator(task.make_env, len(seeds), config.evaluation.episodes, config.evaluation.seed)

        def finish(name: str, method: Method) -> TrainedMethod | None:
            if method.learner is not None:
                return learn_policy(name, method, config, task, recording, models, evaluator, seeds, workdir)
            assert method.model is not None
            trained = models[method.model]
            if isinstance(trained.model, Planner):
                return evaluate_planner(name, method.model, config, task, recording, trained, evaluator, seeds, workdir)
            return None  # a world model by itself: measured below

        finished = {name: finish(name, method) for name, method in methods.items()}
        acting = {name: method for name, method in finished.items() if method is not None}
        evaluator.close()

        # ------------------------------------------------- diagnostics, table and pictures
        processes.from_first(lambda: print(write_report(config, workdir, task, recording, models, acting)))
        say(f"done: {workdir} holds the table, figures, every evaluation episode and the checkpoints")


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


if __name__ == "__main__":
    from dwm_jax.command_line import run

    run(train, __doc__)
