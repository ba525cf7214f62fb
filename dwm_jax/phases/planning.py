"""Methods that plan instead of learning a policy: nothing is trained here, only evaluated and exported."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.data.tasks import Sizes
from dwm_jax.learners.policies import TrainedMethod
from dwm_jax.phases.phase import Run
from dwm_jax.registry import Planning
from dwm_jax.results import policy_files
from dwm_jax.results.scores import describe_evaluation, evaluation_rows
from dwm_jax.runtime import mirrors, processes
from dwm_jax.runtime.progress import show_progress
from dwm_jax.runtime.row_files import Results
from dwm_jax.types import Array, Key, PyTree
from dwm_jax.world_models.base import TrainedModel


def evaluate_planner(run: Run, name: str, method: Planning, trained: TrainedModel) -> TrainedMethod:
    """Evaluates the planner once per seed; the seeds differ in what the planner draws, the model is one.

    Its rows in results.csv carry the model's training updates as their step; a resumed run that finds them does
    not plan again.
    """
    planner: Any = trained.model
    seeds, task = run.seeds, run.task
    inference, return_to_go = trained.inference, float(run.config.policy.return_to_go)

    results_file = Results(run.workdir / "results.csv")

    def evaluate() -> None:
        if sum(row.method == name for row in results_file.read()) == len(seeds) * run.config.evaluation.episodes:
            return
        results_file.cut(name, -1)  # rows of a start that was killed while it wrote them
        plan = policy_files.make_plan_everywhere(planner, inference, return_to_go, seeds)
        decisions = itertools.count()
        with show_progress(f"planning with {name}", run.evaluator.longest()) as progress:
            # A planner samples at every step, which takes minutes where a policy takes seconds.
            episodes = run.evaluator(
                lambda o: np.asarray(plan(o.astype(np.float32), next(decisions))), on_step=progress.advance
            )
            step = run.config.world_models[method.model].num_updates
            rows = evaluation_rows(name, task.name, task.reference_scores, seeds, step, episodes)
            results_file.append(rows)
            mirrors.show_evaluation(rows)
            progress.advance(run.evaluator.longest(), describe_evaluation(rows))

    processes.call_on_first(evaluate)
    header = policy_files.PolicyHeader(name, task.name, seeds, task.evaluated_in)
    file = run.workdir / "policies" / f"{name}.npz"
    dataset = run.recording.dataset
    sizes = Sizes(dataset.observations.shape[1], dataset.actions.shape[1])
    policy_files.save_planner(file, header, method.model, trained, sizes, return_to_go)

    @jax.jit
    def plan_once(inference: PyTree, observation_O: Array, key: Key) -> Array:
        return planner.act(inference, observation_O, jnp.asarray(return_to_go), key)

    return TrainedMethod(partial(plan_once, jax.device_put(inference)), learnt=None, seconds=0.0)
