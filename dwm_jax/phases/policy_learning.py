"""Phase two: one method's policies, all seeds side by side, learnt from recorded or imagined trajectories.

A method is put together here: learner, source of trajectories, evaluation, and the exported policies.
"""

from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.learners.base import Learner
from dwm_jax.learners.policies import Acting, Learnt, Policies, TrainedMethod, fit_units, make_act_everywhere
from dwm_jax.maths.value_expansion import choose_expansion
from dwm_jax.networks.initialization import compute_once
from dwm_jax.phases.phase import Evaluation, Phase, Run
from dwm_jax.phases.policy_source import make_source
from dwm_jax.phases.policy_updates import PolicyUpdates
from dwm_jax.registry import LEARNERS, Learning
from dwm_jax.results import policy_files
from dwm_jax.results.scores import describe_evaluation, evaluation_rows
from dwm_jax.runtime import mirrors
from dwm_jax.runtime.keys import key_for
from dwm_jax.runtime.progress import say
from dwm_jax.runtime.row_files import Results
from dwm_jax.types import Array, Key, PyTree
from dwm_jax.world_models.base import TrainedModel


def policy_learning(run: Run, name: str, method: Learning, models: dict[str, TrainedModel]) -> Phase[TrainedMethod]:
    """The policies of method `name`, one per seed: learnt, and evaluated as they learn."""
    config, recording = run.config, run.recording
    settings = {
        "observation_size": recording.dataset.observations.shape[1],
        "action_size": recording.dataset.actions.shape[1],
        "num_updates": config.policy.num_updates,
        **config.learners[method.learner].to_dict(),
    }
    learner = LEARNERS[method.learner](**settings)
    units = fit_units(learner, recording.dataset)
    source = make_source(run, name, method, learner, units, models)
    init_keys_S, update_keys_S = (
        jnp.stack([key_for(seed, f"policy: {purpose}") for seed in run.seeds])
        for purpose in ("initial state", "updates")
    )
    expand = choose_expansion(config.policy.lambda_[method.learner])

    def first_policies() -> Policies:
        states_S = compute_once(jax.vmap(learner.init), init_keys_S)
        # The units travel with the policies: a checkpoint alone is enough to act.
        return Policies(states_S, units, source.init(states_S))

    def finish(policies: Policies, seconds: float) -> TrainedMethod:
        header = policy_files.PolicyHeader(name, run.task.name, run.seeds, run.task.evaluated_in)
        acting = Acting(learner.inference(policies.states_S), units.observation_normalizer)
        file = run.workdir / "policies" / f"{name}.npz"
        policy_files.save_actors(file, header, method.learner, settings, acting)
        first_seed = jax.device_put(jax.tree.map(lambda leaf: leaf[0], acting.inference_S))

        @jax.jit
        def act_once(inference: PyTree, observation_O: Array, key: Key) -> Array:
            return learner.act(inference, units.observation_normalizer.normalize(observation_O))

        return TrainedMethod(partial(act_once, first_seed), Learnt(learner, policies), seconds)

    return Phase(
        name=name,
        folder=run.workdir,
        updates=PolicyUpdates(learner, source, expand, config.policy.batch_size, update_keys_S),
        make_state=first_policies,
        make_data=source.make,
        num_updates=config.policy.num_updates,
        finish=finish,
        refresh_every=source.refresh_every,
        evaluation=make_evaluation(run, name, learner),
        seeds=run.seeds,
    )


def make_evaluation(run: Run, name: str, learner: Learner) -> Evaluation:
    """Evaluates all seeds' policies in the simulator, into results.csv."""
    results_file, act = Results(run.workdir / "results.csv"), make_act_everywhere(learner)

    @jax.jit
    def values(policies: Policies, observation_SEO: Array) -> Array:
        observation_SEO = policies.units.observation_normalizer.normalize(observation_SEO)
        per_episode = jax.vmap(learner.value, in_axes=(None, 0))
        return jax.vmap(per_episode)(policies.states_S, observation_SEO) / policies.units.reward_scale

    def evaluate(policies: Policies, step: int) -> str:
        # Put on the device once, not at every step of the simulator.
        acting = jax.device_put(Acting(learner.inference(policies.states_S), policies.units.observation_normalizer))
        episodes = run.evaluator(lambda observation_SEO: np.asarray(act(acting, observation_SEO)))
        values_SE = np.asarray(values(policies, episodes.starts.astype(np.float32)))
        rows = evaluation_rows(name, run.task.name, run.task.reference_scores, run.seeds, step, episodes, values_SE)
        results_file.append(rows)
        mirrors.show_evaluation(rows)
        return describe_evaluation(rows)

    def resume(step: int) -> bool:
        results_file.cut(name, step)
        counts = Counter(row.step for row in results_file.read() if row.method == name)
        whole = {at for at, count in counts.items() if count == len(run.seeds) * run.config.evaluation.episodes}
        if counts.keys() - whole:
            results_file.drop(name, counts.keys() - whole)
        # A missing evaluation at this very step is run again; earlier ones are reported, because averages lack them.
        due = range(run.config.evaluation.every, step, run.config.evaluation.every)
        lost = [f"{at:,}" for at in due if at not in whole]
        if lost:
            say(
                f"{name}: {results_file.path} has no complete evaluation at update {', '.join(lost)}; "
                "averages leave it out"
            )
        return step in whole

    return Evaluation(evaluate, resume)
