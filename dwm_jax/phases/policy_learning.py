"""Phase two: one method's policies, all seeds side by side, learnt from recorded or imagined trajectories.

A method is put together here: learner, data pairs, where trajectories come from, what becomes of them.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.imagination.relabelling import relabelling
from dwm_jax.imagination.supply import Data, supply_of, units_of
from dwm_jax.learners.base import Learner
from dwm_jax.learners.policies import Learnt, Policies, TrainedMethod
from dwm_jax.maths.value_expansion import expansion
from dwm_jax.phases.phase import Evaluation, Phase, Run
from dwm_jax.phases.policy_updates import UpdatePolicy, drawing_ahead, drawing_inside, update_policy, updates_of_seeds
from dwm_jax.registry import LEARNERS
from dwm_jax.results import policy_files
from dwm_jax.results.scores import evaluation_rows
from dwm_jax.runtime import mirrors
from dwm_jax.runtime.keys import key_for
from dwm_jax.runtime.row_files import Results
from dwm_jax.types import Array, Key, Metrics
from dwm_jax.world_models.base import TrainedModel


def policy_learning(run: Run, name: str, models: dict[str, TrainedModel]) -> Phase[TrainedMethod]:
    """The policies of method `name`, one per seed: learnt, and evaluated as they learn."""
    config, recording, method = run.config, run.recording, run.methods[name]
    learner_name = method.learner
    assert learner_name is not None
    settings = {
        "observation_size": recording.dataset.observations.shape[1],
        "action_size": recording.dataset.actions.shape[1],
        "num_updates": config.policy.num_updates,
        **config.learners[learner_name].to_dict(),
    }
    learner = LEARNERS[learner_name](**settings)
    units = units_of(learner, recording)
    supply = supply_of(name, method, learner, config, recording, units, models, run.seeds)
    expand, batch_size = expansion(config.policy.lambda_[learner_name]), config.policy.batch_size
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
        of_one = drawing_ahead(learner, supply.draw, expand, batch_size, len(run.seeds))

    init_keys_S = jnp.stack([key_for(seed, "policy: initial state") for seed in run.seeds])
    update_keys_S = jnp.stack([key_for(seed, "policy: updates") for seed in run.seeds])

    def first_policies() -> Policies:
        states_S = jax.jit(jax.vmap(learner.init))(init_keys_S)
        # The units travel with the policies: a checkpoint alone is enough to act.
        return Policies(states_S, units, states_S if supply.follows_policies else ())

    updates_S = updates_of_seeds(of_one, update_keys_S, supply.follows_policies)

    def updates(policies: Policies, data: Data, steps_U: Array) -> tuple[Policies, Metrics]:
        states_S, metrics = updates_S(policies.states_S, data, steps_U)
        return policies._replace(states_S=states_S), metrics

    def finish(policies: Policies, seconds: float) -> TrainedMethod:
        policy_files.save_actors(
            run.workdir / "policies" / f"{name}.npz",
            method=name,
            task=run.task.name,
            seeds=run.seeds,
            learner=learner_name,
            settings=settings,
            inference_S=learner.inference(policies.states_S),
            observation_normalizer=units.observation_normalizer,
            evaluated_in=run.task.evaluated_in,
        )
        first_seed = jax.tree.map(lambda leaf: leaf[0], learner.inference(policies.states_S))

        def act_once(observation_O: Array, key: Key) -> Array:
            return learner.act(first_seed, units.observation_normalizer.normalize(observation_O))

        return TrainedMethod(act_once, Learnt(learner, policies), seconds)

    return Phase(
        name=name,
        folder=run.workdir,
        updates=updates,
        make_state=first_policies,
        make_data=supply.make,
        num_updates=config.policy.num_updates,
        finish=finish,
        refresh_every=supply.refresh_every,
        evaluation=evaluation_of(run, name, learner),
        seeds=run.seeds,
    )


def evaluation_of(run: Run, name: str, learner: Learner) -> Evaluation:
    """Evaluates all seeds' policies in the simulator, into results.csv."""
    results_file = Results(run.workdir / "results.csv")

    @jax.jit
    def act(policies: Policies, observation_SEO: Array) -> Array:
        observation_SEO = policies.units.observation_normalizer.normalize(observation_SEO)
        per_episode = jax.vmap(learner.act, in_axes=(None, 0))
        return jax.vmap(per_episode)(learner.inference(policies.states_S), observation_SEO)

    @jax.jit
    def values(policies: Policies, observation_SEO: Array) -> Array:
        observation_SEO = policies.units.observation_normalizer.normalize(observation_SEO)
        per_episode = jax.vmap(learner.value, in_axes=(None, 0))
        return jax.vmap(per_episode)(policies.states_S, observation_SEO) / policies.units.reward_scale

    def evaluate(policies: Policies, step: int) -> str:
        episodes = run.evaluator(lambda observation_SEO: act(policies, observation_SEO.astype(np.float32)))
        values_SE = np.asarray(values(policies, episodes.starts.astype(np.float32)))
        rows = evaluation_rows(name, run.task.name, run.task.reference_scores, run.seeds, step, episodes, values_SE)
        results_file.append(rows)
        mirrors.evaluation(rows)
        scores_S = np.array([row.score_0_1 for row in rows]).reshape(episodes.returns.shape).mean(axis=1)
        return f"score {scores_S.mean():.2f} ± {scores_S.std():.2f}"

    def resume(step: int) -> bool:
        results_file.cut(name, step)
        rows = [row for row in results_file.read() if row.method == name and row.step == step]
        is_whole = len(rows) == len(run.seeds) * run.config.evaluation.episodes
        if not is_whole:
            results_file.cut(name, step - 1)
        return is_whole

    return Evaluation(evaluate, resume)
