"""Phase two: one method's policies, all seeds side by side, learnt from recorded or imagined trajectories.

A method is put together here: learner, data pairs, where trajectories come from, what becomes of them.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dwm_jax import export, imagination, interruption, parallel
from dwm_jax.artifacts import Learnt, Policies, Recording, TrainedMethod, TrainedModel
from dwm_jax.data import dataset as data
from dwm_jax.data.tasks import Task
from dwm_jax.evaluation import Evaluator
from dwm_jax.imagination import Pairs, TrajectorySource, Units
from dwm_jax.learners.base import Learner
from dwm_jax.loop import Evaluation, run_updates
from dwm_jax.metrics import Results
from dwm_jax.normalizers import fit_standard
from dwm_jax.progress import phase
from dwm_jax.registry import LEARNERS, Method
from dwm_jax.relabelling import relabelling
from dwm_jax.results import evaluation_rows
from dwm_jax.types import Array, Batch, Expand, Key, Metrics, PyTree, Trajectory
from dwm_jax.value_expansion import expansion
from dwm_jax.world_models.base import Generator

# Items per device and dispatch when trajectories or transitions are drawn in bulk.
CHUNK = 1024

# (learner, state, key, pairs, source data, step) of one seed -> (state, metrics)
UpdatePolicy = Callable[[Learner, PyTree, Key, Pairs, PyTree, Array], tuple[PyTree, Metrics]]


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
    draw, make_source_data = trajectory_source(name, method, learner, config, recording, units, models)
    update_one: UpdatePolicy = partial(
        update_policy, draw, expansion(config.policy.lambda_[method.learner]), config.policy.batch_size
    )
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

    keys_S = jnp.stack([jax.random.key(seed) for seed in seeds])
    init_keys_S, update_keys_S = jnp.unstack(jax.vmap(jax.random.split)(keys_S), axis=1)
    states_S = jax.jit(jax.vmap(learner.init))(init_keys_S)

    def update(policies: Policies, on_device: tuple[Pairs, PyTree], step: Array) -> tuple[Policies, Metrics]:
        one_seed = jax.vmap(partial(update_one, learner), in_axes=(0, 0, None, None, None))
        states_S, metrics = one_seed(policies.states_S, update_keys_S, *on_device, step)
        return policies._replace(states_S=states_S), metrics

    @jax.jit
    def act(policies: Policies, observation_SEO: Array) -> Array:
        observation_SEO = policies.units.observation_normalizer.normalize(observation_SEO)
        per_episode = jax.vmap(learner.act, in_axes=(None, 0))
        return jax.vmap(per_episode)(learner.inference(policies.states_S), observation_SEO)

    results_file = Results(workdir / "results.csv")

    def evaluate(policies: Policies, step: int) -> str:
        returns_SE = evaluator(lambda observation_SEO: act(policies, observation_SEO.astype(np.float32)))
        rows = evaluation_rows(name, task.name, task.reference_scores, seeds, step, returns_SE)
        results_file.cut(name, step - 1)
        results_file.append(rows)
        scores_S = np.array([row.score_0_1 for row in rows]).reshape(returns_SE.shape).mean(axis=1)
        return f"score {scores_S.mean():.2f} ± {scores_S.std():.2f}"

    def is_evaluated(step: int) -> bool:
        rows = [row for row in results_file.read() if row.method == name and row.step == step]
        return len(rows) == len(seeds) * config.evaluation.episodes

    def make_data() -> tuple[Pairs, PyTree]:
        pairs = pairs_of(method, config, recording, units, models)
        return pairs, make_source_data(pairs)

    # The units travel with the policies: a checkpoint alone is enough to act.
    policies, seconds = run_updates(
        name,
        update,
        Policies(states_S, units),
        make_data,
        config.policy.num_updates,
        config,
        workdir,
        Evaluation(evaluate, is_evaluated),
    )
    export.save_actors(
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


def update_policy(
    draw: Callable[..., Trajectory],
    expand: Expand,
    batch_size: int,
    learner: Learner,
    state: PyTree,
    key: Key,
    pairs: Pairs,
    source_data: PyTree,
    step: Array,
) -> tuple[PyTree, Metrics]:
    """One update of one seed: data pairs, the trajectories that follow them, and the learner's own update."""
    pair_B, keys_B = parallel.batch_for(key, step, batch_size, pairs.rows.shape[0])
    normalize = pairs.units.observation_normalizer.normalize

    def choose_action(step: Array, observation_O: Array, key: Key) -> Array:
        return learner.explore(state, normalize(observation_O), key)

    draw_keys_B, update_keys_B = jnp.unstack(jax.vmap(jax.random.split)(keys_B), axis=1)
    batch = Batch(
        observation=normalize(jax.vmap(pairs.observation)(pair_B)),
        action=jax.vmap(pairs.action)(pair_B),
        trajectory=jax.vmap(lambda pair, key: draw(source_data, pairs, pair, choose_action, key))(pair_B, draw_keys_B),
    )
    return learner.update(state, batch, expand, update_keys_B, step, parallel.average)


def units_of(learner: Learner, recording: Recording) -> Units:
    """Standardised observations; rewards by 1000 / (largest - smallest episode return) for learners that ask."""
    dataset = recording.dataset
    spread = float(np.ptp(data.episode_returns(dataset)))
    scale = 1000 / spread if learner.scales_rewards and spread > 0 else 1.0
    return Units(fit_standard(dataset.observations[data.transition_rows(dataset)]), jnp.asarray(scale))


def pairs_of(
    method: Method, config: ConfigDict, recording: Recording, units: Units, models: dict[str, TrainedModel]
) -> Pairs:
    """The transitions a learner sees: the recorded ones, and as many generated ones as the config mixes in."""
    dataset = recording.dataset
    if method.model is not None and isinstance(generator := models[method.model].model, Generator):
        share = config.policy.generated_fraction
        count = round(len(data.transition_rows(dataset)) * share / (1 - share))
        key = jax.random.fold_in(jax.random.key(config.world_models[method.model].seed), 1)

        def generate(model: PyTree, index: Array) -> PyTree:
            return generator.generate(model, jax.random.fold_in(key, index))

        transitions = in_bulk(f"generating with {method.model}", generate, count, models[method.model].inference)
        dataset = data.append_transitions(dataset, transitions)
    return Pairs(dataset, jnp.asarray(data.transition_rows(dataset)), units)


def trajectory_source(
    name: str,
    method: Method,
    learner: Learner,
    config: ConfigDict,
    recording: Recording,
    units: Units,
    models: dict[str, TrainedModel],
) -> tuple[Callable[..., Trajectory], Callable[[Pairs], PyTree]]:
    """Where a method's trajectories come from.

    Returns:
      (draw, make_data): a `TrajectorySource`'s draw, and what makes its data; trajectories that can be drawn in
      bulk are drawn there.
    """
    if method.model is None or isinstance(models[method.model].model, Generator):
        source = imagination.recorded(config.gamma)
        return source.draw, lambda pairs: source.data
    source, needs_policy = imagined_source(method.model, learner, config, models)
    if method.relabels_returns:
        starts = data.segment_rows(
            recording.dataset,
            models[method.model].model.sequence_length,
            config.data.pad,
            recording.training_episodes,
        )
        return source.draw, lambda pairs: starts
    if needs_policy or config.policy.imagined_per_pair == 0:
        return source.draw, lambda pairs: source.data

    keep = imagination.keep_for_target(config.policy.lambda_[method.learner])
    # The pool belongs to the world model, not to a learner's seed.
    key = jax.random.fold_in(jax.random.key(config.world_models[method.model].seed), 1)
    draw_one = imagination.draw_several(source, config.policy.imagined_per_pair, keep, key)

    def draw_pool(pairs: Pairs) -> Trajectory:
        return in_bulk(f"imagining for {name}", draw_one, len(pairs.rows), (source.data, pairs))

    return imagination.draw_kept, draw_pool


def imagined_source(
    model_name: str, learner: Learner, config: ConfigDict, models: dict[str, TrainedModel]
) -> tuple[TrajectorySource, bool]:
    """(fresh imagination with a world model, whether it follows the policy); pessimistic where the learner is."""
    model: Any = models[model_name].model
    inference, policy = models[model_name].inference, config.policy
    if learner.pessimistic:
        pessimism = policy.pessimism
        alternatives = model.alternatives(policy.horizon, config.gamma, pessimism.num_samples)
        source = imagination.pessimistic(alternatives, inference, policy.return_to_go, pessimism.kappa)
    else:
        source = imagination.fresh(model.rollout(policy.horizon, config.gamma), inference, policy.return_to_go)
    return source, model.needs_policy


def in_bulk(label: str, draw: Callable[[PyTree, Array], PyTree], num_items: int, on_device: PyTree) -> PyTree:
    """draw(on_device, i) for i < num_items, in chunks over all devices; a host tree. Shows progress."""
    chunks, drawn = [], 0
    with phase(label, num_items) as progress:
        for chunk in parallel.map_chunks(draw, num_items, CHUNK, parallel.replicate(on_device)):
            interruption.check()
            chunks.append(chunk)
            drawn += len(jax.tree.leaves(chunk)[0])
            progress.advance(drawn)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)
