"""What the updates of one method read: its data pairs, and the trajectories that follow them.

Recorded steps are there; trajectories are imagined afresh inside every update, or drawn in bulk into a pool - once, or
anew every `policy.refresh_every` updates, which is what a pool that follows the policies needs.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dwm_jax.data import dataset as data
from dwm_jax.data.recording import Recording
from dwm_jax.imagination import sources
from dwm_jax.imagination.sources import Ask, Pairs, TrajectorySource
from dwm_jax.learners.base import Learner
from dwm_jax.learners.policies import Policies, Units
from dwm_jax.maths.normalizers import fit_standard
from dwm_jax.registry import Method
from dwm_jax.runtime import interruption, parallel
from dwm_jax.runtime.keys import key_for
from dwm_jax.runtime.progress import phase
from dwm_jax.types import Array, ChooseAction, Key, PyTree, Trajectory
from dwm_jax.world_models.base import Generator, TrainedModel, WorldModel

# Items per device and dispatch when trajectories or transitions are drawn in bulk.
CHUNK = 1024
# Steps of an episode that `policy.start_share` repeats.
START_STEPS = 20

# What the updates read: the pairs, and the data of the source their trajectories come from.
Data = tuple[Pairs, PyTree]


class Supply(NamedTuple):
    """How one method's updates come by their trajectories."""

    # (source data, pairs, p, choose_action, key) -> trajectory; of one seed.
    draw: Callable[..., Trajectory]
    # (policies, step) -> (policies, data): before the first update, and again at every refresh.
    make: Callable[[Policies, int], tuple[Policies, Data]]
    # Updates between two refreshes; 0: the data stay.
    refresh_every: int = 0
    # Whether the source's data were drawn for each seed's policy: their second axis is then the seeds, and
    # `Policies.imagined_by_S` has to remember the policies they follow.
    follows_policies: bool = False
    # Whether trajectories depend on what an update changes, the policy or the world model: each is then drawn inside
    # its update, otherwise ahead of many.
    is_drawn_inside: bool = False


def supply_of(
    name: str,
    method: Method,
    learner: Learner,
    config: ConfigDict,
    recording: Recording,
    units: Units,
    models: dict[str, TrainedModel],
    seeds: list[int],
) -> Supply:
    """The supply that a method's name and the config ask for; nothing is drawn yet."""
    all_pairs = cache(lambda: pairs_of(method, config, recording, units, models))

    def lasting(source_data: PyTree) -> Callable[[Policies, int], tuple[Policies, Data]]:
        return lambda policies, step: (policies, (all_pairs(), source_data))

    if method.model is None or isinstance(models[method.model].model, Generator):
        source = sources.recorded(config.policy.horizon if method.looks_ahead else 1, config.gamma)
        return Supply(source.draw, lasting(source.data))
    source, needs_policy = imagined_source(method.model, learner, config, models)
    if method.relabels_returns:
        # The world model is fine-tuned as it imagines; what stays is where its training segments start.
        length = models[method.model].model.sequence_length
        starts = data.segment_rows(recording.dataset, length, config.data.pad, recording.training_episodes)
        return Supply(source.draw, lasting(starts), is_drawn_inside=True)
    if config.policy.imagined_per_pair == 0 or (needs_policy and config.policy.refresh_every == 0):
        return Supply(source.draw, lasting(source.data), is_drawn_inside=needs_policy)
    return pooled(name, method, learner, config, source, needs_policy, all_pairs, units, seeds)


def pooled(
    name: str,
    method: Method,
    learner: Learner,
    config: ConfigDict,
    source: TrajectorySource,
    needs_policy: bool,
    all_pairs: Callable[[], Pairs],
    units: Units,
    seeds: list[int],
) -> Supply:
    """A pool of M trajectories for each of P' pairs; what is drawn for a pair depends on the pair and the refresh.

    Pool number n = step // refresh_every. With `policy.imagined_pairs` each pool has that many of the pairs, chosen
    anew, and until the next one the updates see these only. One that needs a policy follows every seed's own, as it
    is when the pool is drawn; the policies keep a copy, so that a resumed run draws the same pool again.
    """
    assert method.learner is not None
    assert method.model is not None
    policy = config.policy
    keep = sources.keep_for_target(policy.lambda_[method.learner])
    draw_pair = sources.draw_several(source, policy.imagined_per_pair, keep)
    # The pool belongs to the world model, not to a learner's seed.
    model_seed = config.world_models[method.model].seed
    choice_key, draw_key = (key_for(model_seed, f"{method.model}: pool of {what}") for what in ("pairs", "draws"))

    def draw(on_device: tuple[PyTree, Pairs, Array, Array, PyTree], pair: Array) -> Trajectory:
        model, pairs, copies, number, followed_S = on_device
        # A row that is there twice is imagined twice.
        key = jax.random.fold_in(jax.random.fold_in(draw_key, number), pairs.rows[pair])
        key = jax.random.fold_in(key, copies[pair])
        if not needs_policy:
            return draw_pair(model, pairs, pair, nobody, key)

        def one_seed(seed: Array, state: PyTree) -> Trajectory:
            return draw_pair(model, pairs, pair, exploring(learner, state, units), jax.random.fold_in(key, seed))

        return jax.vmap(one_seed)(jnp.asarray(seeds), followed_S)

    draw_chunks = parallel.map_chunks(draw, CHUNK)

    def make(policies: Policies, step: int) -> tuple[Policies, Data]:
        number = step // policy.refresh_every if policy.refresh_every else 0
        if needs_policy and step % policy.refresh_every == 0:
            policies = policies._replace(imagined_by_S=jax.tree.map(np.array, policies.states_S))
        pairs = all_pairs()
        copies = copy_numbers(np.asarray(pairs.rows))
        if policy.imagined_pairs:
            key = jax.random.fold_in(choice_key, number)
            chosen = jax.random.choice(key, len(copies), (policy.imagined_pairs,), replace=False)
            pairs, copies = pairs._replace(rows=pairs.rows[chosen]), copies[np.asarray(chosen)]
        on_device = source.data, pairs, copies, np.int32(number), policies.imagined_by_S
        return policies, (pairs, in_bulk(f"imagining for {name}", draw_chunks, len(pairs.rows), on_device))

    return Supply(sources.draw_kept, make, policy.refresh_every, needs_policy)


def copy_numbers(rows: np.ndarray) -> np.ndarray:
    """How many times each entry has stood further in front: shape (P,), int32. [3 5 3 3] gives [0 0 1 2]. Host."""
    order = np.argsort(rows, kind="stable")
    in_order = rows[order]
    numbers = np.empty(len(rows), np.int32)
    numbers[order] = np.arange(len(rows)) - np.searchsorted(in_order, in_order)
    return numbers


def nobody(step: Array, observation: Array, key: Key) -> Array:
    """Who acts in imaginations of a world model that needs no policy."""
    raise ValueError("this world model follows a policy: its trajectories must be drawn for one")


def exploring(learner: Learner, state: PyTree, units: Units) -> ChooseAction:
    """A learner's policy as it acts inside imagined trajectories; raw observations."""

    def choose_action(step: Array, observation_O: Array, key: Key) -> Array:
        del step
        return learner.explore(state, units.observation_normalizer.normalize(observation_O), key)

    return choose_action


def units_of(learner: Learner, recording: Recording) -> Units:
    """Standardised observations; rewards by 1000 / (largest - smallest episode return) for learners that ask."""
    dataset = recording.dataset
    spread = float(np.ptp(data.episode_returns(dataset)))
    scale = 1000 / spread if learner.scales_rewards and spread > 0 else 1.0
    return Units(fit_standard(dataset.observations[data.transition_rows(dataset)]), jnp.asarray(scale))


def pairs_of(
    method: Method, config: ConfigDict, recording: Recording, units: Units, models: dict[str, TrainedModel]
) -> Pairs:
    """The transitions a learner sees: the recorded ones, and as many generated ones as the config mixes in.

    The first steps of episodes are there several times, so that on average `policy.start_share` of a batch are repeated
    ones. Every evaluation begins there, in data of long episodes they are one pair in a hundred, and where a policy
    stands still at the start nothing that it learnt elsewhere shows (RESULTS.md, "The start").
    """
    dataset = recording.dataset
    if method.model is not None and isinstance(generator := models[method.model].model, Generator):
        share = config.policy.generated_fraction
        count = round(len(data.transition_rows(dataset)) * share / (1 - share))
        key = key_for(config.world_models[method.model].seed, f"{method.model}: generation")

        def generate(model: PyTree, index: Array) -> PyTree:
            return generator.generate(model, jax.random.fold_in(key, index))

        chunks = parallel.map_chunks(generate, CHUNK)
        transitions = in_bulk(f"generating with {method.model}", chunks, count, models[method.model].inference)
        dataset = data.append_transitions(dataset, transitions)
    rows, share = data.transition_rows(dataset), config.policy.start_share
    repeated = np.resize(data.start_rows(recording.dataset, START_STEPS), round(len(rows) * share / (1 - share)))
    return Pairs(dataset, jnp.asarray(np.concatenate([rows, repeated])), units)


def imagined_source(
    model_name: str, learner: Learner, config: ConfigDict, models: dict[str, TrainedModel]
) -> tuple[TrajectorySource, bool]:
    """(fresh imagination with a world model, whether it follows the policy); pessimistic where the learner is."""
    model: Any = models[model_name].model
    inference, policy = models[model_name].inference, config.policy
    ask = asking(config, model)
    if learner.pessimistic:
        pessimism = policy.pessimism
        alternatives = model.alternatives(policy.horizon, config.gamma, pessimism.num_samples)
        source = sources.pessimistic(alternatives, inference, ask, pessimism.kappa)
    else:
        source = sources.fresh(model.rollout(policy.horizon, config.gamma), inference, ask)
    return source, model.needs_policy


def asking(config: ConfigDict, model: WorldModel) -> Ask:
    """What `policy.ask` has policies ask a world model for."""
    if config.policy.ask == "reachable" and model.reachable_return is not None:
        return sources.ask_reachable(model.reachable_return, config.policy.return_to_go)
    return sources.ask_constant(config.policy.return_to_go)


def in_bulk(
    label: str, draw_chunks: Callable[[int, PyTree], Iterator[PyTree]], num_items: int, on_device: PyTree
) -> PyTree:
    """All the chunks of `parallel.map_chunks` as one host tree. Shows progress; may be interrupted."""
    chunks, drawn = [], 0
    with phase(label, num_items) as progress:
        for chunk in draw_chunks(num_items, parallel.replicate(on_device)):
            interruption.check()
            chunks.append(chunk)
            drawn += len(jax.tree.leaves(chunk)[0])
            progress.advance(drawn)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)
