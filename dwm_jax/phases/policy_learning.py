"""Phase two: one method's policies, all seeds side by side, learnt from recorded or imagined trajectories.

A method is put together here: learner, data pairs, where trajectories come from, what becomes of them.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dwm_jax.data.recording import Recording
from dwm_jax.data.tasks import Task
from dwm_jax.imagination.relabelling import relabelling
from dwm_jax.imagination.supply import Data, supply_of, units_of
from dwm_jax.learners.base import Learner
from dwm_jax.learners.policies import Learnt, Policies, TrainedMethod
from dwm_jax.maths.value_expansion import expansion
from dwm_jax.phases.loop import Evaluation, run_updates
from dwm_jax.phases.policy_updates import UpdatePolicy, drawing_ahead, drawing_inside, update_policy, updates_of_seeds
from dwm_jax.registry import LEARNERS, Method
from dwm_jax.results import policy_files
from dwm_jax.results.evaluator import Evaluator
from dwm_jax.results.scores import evaluation_rows
from dwm_jax.runtime import mirrors
from dwm_jax.runtime.row_files import Results
from dwm_jax.types import Array, Key, Metrics
from dwm_jax.world_models.base import TrainedModel


def learn_policy(
    name: str,
    method: Method,
    config: ConfigDict,
    task: Task,
    recording: Recording,
    models: dict[str, TrainedModel],
    evaluator: Evaluator,
    seeds: list[int],
    workdir: Path,
) -> TrainedMethod:
    """Learns, evaluates as it learns, and resumes."""
    assert method.learner is not None
    dataset = recording.dataset
    settings = {
        "observation_size": dataset.observations.shape[1],
        "action_size": dataset.actions.shape[1],
        **config.learners[method.learner].to_dict(),
    }
    learner = LEARNERS[method.learner](**settings)
    units = units_of(learner, recording)
    supply = supply_of(name, method, learner, config, recording, units, models, seeds)
    expand, batch_size = expansion(config.policy.lambda_[method.learner]), config.policy.batch_size
    if supply.is_drawn_inside:
        update_one: UpdatePolicy = partial(update_policy, supply.draw, expand, batch_size)
        if method.relabels_returns:
            assert method.model is not None
            learner, update_one = relabelling(
                learner,
                models[method.model],
                update_one,
                batch_size=config.world_models[method.model].batch_size,
                warm_up=int(config.policy.relabelling_warm_up * config.policy.num_updates),
                gamma=config.gamma,
                return_scale=recording.return_scale,
            )
        of_one = drawing_inside(learner, update_one)
    else:
        of_one = drawing_ahead(learner, supply.draw, expand, batch_size, len(seeds))

    keys_S = jnp.stack([jax.random.key(seed) for seed in seeds])
    init_keys_S, update_keys_S = jnp.unstack(jax.vmap(jax.random.split)(keys_S), axis=1)

    def first_policies() -> Policies:
        states_S = jax.jit(jax.vmap(learner.init))(init_keys_S)
        # The units travel with the policies: a checkpoint alone is enough to act.
        return Policies(states_S, units, states_S if supply.follows_policies else ())

    updates_S = updates_of_seeds(of_one, update_keys_S, supply.follows_policies)

    def updates(policies: Policies, data: Data, steps_U: Array) -> tuple[Policies, Metrics]:
        states_S, metrics = updates_S(policies.states_S, data, steps_U)
        return policies._replace(states_S=states_S), metrics

    policies, seconds = run_updates(
        name,
        updates,
        first_policies,
        supply.make,
        config.policy.num_updates,
        config,
        workdir,
        evaluation_of(name, learner, task, evaluator, seeds, config.evaluation.episodes, workdir),
        supply.refresh_every,
    )
    policy_files.save_actors(
        workdir / "policies" / f"{name}.npz",
        method=name,
        task=task.name,
        seeds=seeds,
        learner=method.learner,
        settings=settings,
        inference_S=learner.inference(policies.states_S),
        observation_normalizer=units.observation_normalizer,
    )
    first_seed = jax.tree.map(lambda leaf: leaf[0], learner.inference(policies.states_S))

    def act_once(observation_O: Array, key: Key) -> Array:
        return learner.act(first_seed, units.observation_normalizer.normalize(observation_O))

    return TrainedMethod(act_once, Learnt(learner, policies), seconds)


def evaluation_of(
    name: str,
    learner: Learner,
    task: Task,
    evaluator: Evaluator,
    seeds: list[int],
    num_episodes: int,
    workdir: Path,
) -> Evaluation:
    """Evaluates all seeds' policies in the simulator, into results.csv."""
    results_file = Results(workdir / "results.csv")

    @jax.jit
    def act(policies: Policies, observation_SEO: Array) -> Array:
        observation_SEO = policies.units.observation_normalizer.normalize(observation_SEO)
        per_episode = jax.vmap(learner.act, in_axes=(None, 0))
        return jax.vmap(per_episode)(learner.inference(policies.states_S), observation_SEO)

    def run(policies: Policies, step: int) -> str:
        returns_SE = evaluator(lambda observation_SEO: act(policies, observation_SEO.astype(np.float32)))
        rows = evaluation_rows(name, task.name, task.reference_scores, seeds, step, returns_SE)
        results_file.append(rows)
        mirrors.evaluation(rows)
        scores_S = np.array([row.score_0_1 for row in rows]).reshape(returns_SE.shape).mean(axis=1)
        return f"score {scores_S.mean():.2f} ± {scores_S.std():.2f}"

    def resume(step: int) -> bool:
        results_file.cut(name, step)
        rows = [row for row in results_file.read() if row.method == name and row.step == step]
        is_whole = len(rows) == len(seeds) * num_episodes
        if not is_whole:
            results_file.cut(name, step - 1)
        return is_whole

    return Evaluation(run, resume)
