"""Methods that plan instead of learning a policy: nothing is trained here, only evaluated."""

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dwm_jax import processes
from dwm_jax.artifacts import TrainedMethod, TrainedModel
from dwm_jax.data.tasks import Task
from dwm_jax.evaluation import Evaluator
from dwm_jax.metrics import Results
from dwm_jax.progress import phase
from dwm_jax.results import evaluation_rows
from dwm_jax.types import Array, Key


def evaluate_planner(
    name: str,
    model_name: str,
    config: ConfigDict,
    task: Task,
    trained: TrainedModel,
    evaluator: Evaluator,
    seeds: list[int],
    workdir: Path,
) -> TrainedMethod:
    """Evaluates the planner once per seed; the seeds differ in what the planner draws, the model is one.

    Its rows in results.csv carry the model's training updates as their step; a resumed run that finds them does
    not plan again.
    """
    model: Any = trained.model
    inference, return_to_go = trained.inference, jnp.asarray(config.policy.return_to_go)

    def act(observation_O: Array, key: Key) -> Array:
        return model.act(inference, observation_O, return_to_go, key)

    @jax.jit
    def act_everywhere(observation_SEO: Array, decision: Array) -> Array:
        def one_seed(seed: Array, observation_EO: Array) -> Array:
            key = jax.random.fold_in(jax.random.key(seed), decision)
            return jax.vmap(act)(observation_EO, jax.random.split(key, observation_EO.shape[0]))

        return jax.vmap(one_seed)(jnp.asarray(seeds), observation_SEO)

    results_file = Results(workdir / "results.csv")

    def evaluate() -> None:
        if any(row.method == name for row in results_file.read()):
            return
        decisions = itertools.count()
        with phase(f"planning with {name}", 1) as progress:
            returns_SE = evaluator(lambda o: act_everywhere(o.astype(np.float32), next(decisions)))
            step = config.world_models[model_name].num_updates
            rows = evaluation_rows(name, task.name, task.reference_scores, seeds, step, returns_SE)
            results_file.append(rows)
            progress.advance(1, f"score {np.mean([row.score_0_1 for row in rows]):.2f}")

    processes.from_first(evaluate)
    return TrainedMethod(act, learnt=None, seconds=0.0)
