"""What one method learns from: its data pairs, and the source of trajectories that its name and the config ask for."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.data import dataset as data
from dwm_jax.imagination import sources
from dwm_jax.imagination.inferred_actions import with_inferred_actions
from dwm_jax.imagination.pool import CHUNK, Pool, draw_in_bulk, make_pooled_source
from dwm_jax.imagination.relabelling import make_relabelling_source
from dwm_jax.imagination.sources import Pairs, Source
from dwm_jax.learners.base import Learner
from dwm_jax.learners.policies import Units
from dwm_jax.phases.held_out import find_trusted_horizon
from dwm_jax.phases.phase import Run
from dwm_jax.registry import INFERS_ACTIONS, Learning
from dwm_jax.runtime import parallel
from dwm_jax.runtime.keys import key_for
from dwm_jax.types import Array, PyTree
from dwm_jax.world_models.base import Generator, TrainedModel


def make_source(
    run: Run, name: str, method: Learning, learner: Learner, units: Units, models: dict[str, TrainedModel]
) -> Source:
    """The source that a method's name and the config ask for; nothing is drawn or generated yet."""
    config, policy = run.config, run.config.policy

    @cache
    def pairs() -> Pairs:
        return make_pairs(run, method, units, models)

    if method.model is None or isinstance(models[method.model].model, Generator):
        return sources.make_recorded_source(pairs, policy.horizon if method.looks_ahead else 1, config.gamma)
    trained = models[method.model]
    model: Any = trained.model
    source = make_imagination(run, method, learner, pairs, models)
    if method.relabels_returns:
        dataset, length = run.recording.dataset, model.sequence_length
        return make_relabelling_source(
            source,
            learner,
            trained,
            jnp.asarray(data.segment_rows(dataset, length, config.data.pad, run.recording.training_episodes)),
            batch_size=config.world_models[method.model].batch_size,
            warm_up=int(policy.relabelling_warm_up * policy.num_updates),
            gamma=config.gamma,
            return_scale=run.recording.return_scale,
        )
    if policy.imagined_per_pair == 0 or (model.needs_policy and policy.refresh_every == 0):
        return source
    return make_pooled_source(source, make_pool(run, name, method), learner, run.seeds, run.engine)


def make_imagination(
    run: Run, method: Learning, learner: Learner, pairs: sources.MakePairs, models: dict[str, TrainedModel]
) -> Source:
    """Trajectories of the method's world model, drawn afresh; with pairs among them where actions are inferred."""
    assert method.model is not None
    config, policy, trained = run.config, run.config.policy, models[method.model]
    model: Any = trained.model
    infers_actions = method.infers_actions and policy.inferred_share > 0
    horizon = find_trusted_horizon(run, method.model, trained)
    # One step more, where the model can, makes a pair of the state that a recorded pair's target is bootstrapped at.
    drawn = min(horizon + 1, model.longest_horizon) if infers_actions else horizon
    ask = sources.make_ask(policy.ask, policy.return_to_go, model)
    source = sources.make_fresh_source(
        pairs, model.rollout(drawn, config.gamma), trained.inference, ask, model.needs_policy
    )
    if learner.pessimistic:
        alternatives = model.alternatives(drawn, config.gamma, policy.pessimism.num_samples)
        source = sources.make_pessimistic_source(source, alternatives, ask, policy.pessimism.kappa)
    if infers_actions:
        inverse: Any = models[INFERS_ACTIONS]
        source = with_inferred_actions(
            source, inverse.model.infer, inverse.inference, horizon=horizon, share=policy.inferred_share
        )
    return source


def make_pool(run: Run, name: str, method: Learning) -> Pool:
    """How much is kept of a method's imagination, and for how long."""
    policy, model_name = run.config.policy, method.model
    model_seed = run.config.world_models[model_name].seed
    return Pool(
        label=f"imagining for {name}",
        per_pair=policy.imagined_per_pair,
        lambda_=policy.lambda_[method.learner],
        choice_key=key_for(model_seed, f"{model_name}: pool of pairs"),
        draw_key=key_for(model_seed, f"{model_name}: pool of draws"),
        refresh_every=policy.refresh_every,
        num_pairs=policy.imagined_pairs,
    )


def make_pairs(run: Run, method: Learning, units: Units, models: dict[str, TrainedModel]) -> Pairs:
    """The transitions a learner sees: the recorded ones, and as many generated ones as the config mixes in.

    The first steps of episodes are there several times, so that on average `policy.start_share` of a batch are repeated
    ones. Evaluations begin as recorded episodes of robots do, in data of long episodes these steps are one pair in a
    hundred, and where a policy stands still at the start nothing that it learnt elsewhere shows ("The start" in
    experiments/measured/README.md). On mazes an episode begins where the last one ended: there the repeated pairs are
    any pairs.
    """
    dataset = run.recording.dataset
    if method.model is not None and isinstance(generator := models[method.model].model, Generator):
        share = run.config.policy.generated_fraction
        count = round(len(data.transition_rows(dataset)) * share / (1 - share))
        key = key_for(run.config.world_models[method.model].seed, f"{method.model}: generation")

        def generate(model: PyTree, index: Array) -> PyTree:
            return generator.generate(model, jax.random.fold_in(key, index))

        chunks = parallel.map_chunks(generate, CHUNK, run.engine)
        transitions = draw_in_bulk(f"generating with {method.model}", chunks, count, models[method.model].inference)
        dataset = data.append_transitions(dataset, transitions)
    rows, share = data.transition_rows(dataset), run.config.policy.start_share
    starts = data.start_rows(run.recording.dataset, data.START_STEPS)
    repeated = repeat_evenly(starts, round(len(rows) * share / (1 - share)))
    return Pairs(dataset, jnp.asarray(np.concatenate([rows, repeated])), units)


def repeat_evenly(rows: np.ndarray, count: int) -> np.ndarray:
    """`count` of the rows, each equally often up to one copy; the odd copies are spread over all of them: (count,).

    Spread, since the first episodes of a replay buffer are not like the last.
    """
    return rows[np.arange(count) * len(rows) // max(count, 1)]
