"""Trains world models, then policies on what these imagine (or on recorded steps), and evaluates the policies.

    python -m dwm_jax.train --config experiments/configs/quickstart.py --workdir runs/quickstart
    python -m dwm_jax.train --config quickstart --workdir runs/quickstart           the same: it is shipped by name

Any field of the config can be overridden: --config.policy.horizon=5 --config.methods=DWM-TD3BC,TD3+BC
A config that serves many tasks takes one as its argument: --config maze2d:medium, recommended:TASK, paper:TASK

Phases: data -> one pretraining per model the methods need, then its distillation where asked -> per method how far its
world model is trusted, its imagination (drawn in bulk where the world model allows) and its policy, evaluated as it
learns -> diagnostics, table and pictures. Start the same command again to resume; it goes on from the last checkpoint
and ends as if it had never stopped. The same command with more methods adds them to what is there.

The run folder: config.json, data.json, starts.jsonl, metrics.jsonl, results.csv, summary.md, diagnostics.json,
timing.jsonl, world_models.json, horizons.json, policies/, checkpoints/, figures/.
"""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dwm_jax.learners.policies import TrainedMethod
from dwm_jax.phases.phase import Cadence, Left, Phase, RunError
from dwm_jax.phases.planning import evaluate_planner
from dwm_jax.phases.policy_learning import policy_learning
from dwm_jax.phases.pretraining import pretraining, teacher_run
from dwm_jax.phases.records import Records
from dwm_jax.phases.summary import write_summary
from dwm_jax.registry import Learning, Planning
from dwm_jax.runtime import interruption, mirrors, non_finite, parallel, processes, terminal
from dwm_jax.runtime.progress import say, show_progress
from dwm_jax.runtime.stopwatch import spending
from dwm_jax.types import PyTree
from dwm_jax.workdir import open_run
from dwm_jax.world_models.base import TrainedModel


def train(
    config: ConfigDict, workdir: Path, shown_in: Sequence[mirrors.Open] = (), engine: parallel.Engine = parallel.PMAP
) -> None:
    """The whole run. `config` must have passed `config.check`; `shown_in` are mirrors of its numbers.

    The engine is no part of what the run is: another one may resume it.
    """
    # ---- data: the task and its recorded episodes, in a workdir that holds this run or none
    with open_run(config, workdir, shown_in, engine) as run:
        # ---- phase one: world models, each shared with all runs beside this workdir
        models: dict[str, TrainedModel] = {}
        for name in run.models:
            teacher = None
            if (before := teacher_run(run, name)) is not None:
                with pretraining(before, name) as phase, spending("world models"):
                    teacher = run_phase(phase, run.cadence, engine)
            with pretraining(run, name, teacher) as phase, spending("world models"):
                models[name] = run_phase(phase, run.cadence, engine)

        # ---- phase two: policies, all seeds of a method side by side
        finished: dict[str, TrainedMethod] = {}
        for name, method in run.methods.items():
            if isinstance(method, Learning):
                with spending("policies"):
                    finished[name] = run_phase(policy_learning(run, name, method, models), run.cadence, engine)
            elif isinstance(method, Planning):
                with spending("evaluation"):
                    finished[name] = evaluate_planner(run, name, method, models[method.model])
        run.evaluator.close()

        # ---- what it shows: diagnostics of all world models, pictures, the table
        with spending("diagnostics and pictures"):
            processes.call_on_first(lambda: terminal.show(write_summary(run, models, finished)))
        say(f"done: {workdir} holds the table, figures, every evaluation episode and the checkpoints")


def run_phase(phase: Phase[Left], cadence: Cadence, engine: parallel.Engine = parallel.PMAP) -> Left:
    """From the last checkpoint, or the first state, to `phase.num_updates`; returns what the phase leaves.

    A checkpoint vouches for the metric rows up to its step. An evaluation comes after the checkpoint of its step
    and is made up for where it is missing, so it may be interrupted like anything else.

    Raises:
      RunError: a metric or a number of the state is not finite; the last checkpoint stays. Inside
        `non_finite.searching` the line names the operation that made it.
      Interrupted: a signal asked; the state is saved.
    """
    records = Records(phase)
    step, state = records.step, records.state
    note = evaluate_if_missing(phase, state, step, cadence)
    if step == phase.num_updates:
        records.close()
        return phase.finish(state, records.seconds)
    if step:
        say(f"{phase.name}: resuming from step {step:,}")

    on_devices, data = parallel.replicate(state, engine), None
    dispatch_of = cache(partial(parallel.make_dispatch, phase.updates, engine=engine))
    with show_progress(phase.name, phase.num_updates, step) as shown:
        while step < phase.num_updates:
            if data is None or phase.refreshes_at(step):
                data = None  # makes room
                state, fresh_data = phase.make_data(parallel.unreplicate(on_devices), step)
                on_devices, data = (parallel.replicate(tree, engine) for tree in (state, fresh_data))

            # ---- many updates, one dispatch; the state passed in is gone
            before = parallel.unreplicate(on_devices) if non_finite.is_searched() else None
            steps = cadence.next_dispatch(step, phase.num_updates)
            on_devices, metrics_on_device = dispatch_of(len(steps))(on_devices, data, step)
            metrics = {key: np.asarray(value) for key, value in metrics_on_device.items()}
            wrong = non_finite.find_first_number(metrics, on_devices, steps)
            if wrong is not None:
                cause = non_finite.find_cause(phase.updates, before, data, steps)
                raise RunError(f"{phase.name}: {wrong}; stopped. {cause}; {records.last_good}")
            step = steps.stop

            # ---- what is due: metrics always, the checkpoint that vouches for them, the evaluation
            means = {key: value.mean(axis=0) for key, value in metrics.items()}
            records.append(step, means)
            if phase.saves_at(step, cadence) or interruption.is_requested():
                records.save(step, parallel.unreplicate(on_devices))
            interruption.raise_if_requested()
            if phase.evaluates_at(step, cadence):
                note = evaluate(phase, parallel.unreplicate(on_devices), step)
            loss_name, loss = next(iter(means.items()))
            shown.advance(step, f"{loss_name} {np.mean(loss):.4g}  {note}")
    state = parallel.unreplicate(on_devices)
    records.save(step, state)  # once more, for the time of the last evaluation
    records.close()
    return phase.finish(state, records.seconds)


def evaluate(phase: Phase, state: PyTree, step: int) -> str:
    """Runs the phase's evaluation, on the first process; returns its note."""
    assert phase.evaluation is not None
    evaluation = phase.evaluation
    with spending("evaluation"):
        return processes.call_on_first(lambda: evaluation.run(state, step))


def evaluate_if_missing(phase: Phase, state: PyTree, step: int, cadence: Cadence) -> str:
    """Drops evaluations after `step`, and makes up for one that is due there and missing or torn."""
    if phase.evaluation is None:
        return ""
    evaluation = phase.evaluation
    is_there = processes.call_on_first(lambda: evaluation.resume(step))
    return evaluate(phase, state, step) if phase.evaluates_at(step, cadence) and not is_there else ""


def main(config: str | None = None, usage: str | None = None) -> None:
    """The command; a config file that calls it runs itself, with all of the command's flags.

    Args:
      config: the path of that file.
      usage: what its --help says.
    """
    from dwm_jax.command_line import run

    with terminal.guard_output():
        run(train, usage or __doc__, config)


if __name__ == "__main__":
    main()
