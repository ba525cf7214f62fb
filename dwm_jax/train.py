"""Trains a world model, then policies inside their own imagination, and evaluates them.

    python -m dwm_jax.train --config experiments/configs/quickstart.py --workdir runs/quickstart

Any field of the config can be overridden: --config.policy.horizon=5 --config.methods=DWM-TD3BC,TD3+BC
A config that serves many tasks takes one as its argument: --config experiments/configs/maze2d.py:medium

Phases: data -> one pretraining per world model the methods need -> per method its imagination (drawn in bulk
where the world model allows) and its policy, evaluated as it learns -> table and pictures. Start the same
command again to resume; it goes on from the last checkpoint and ends as if it had never stopped.

The run folder: config.json, metrics.jsonl, results.csv, summary.md, checkpoints/, figures/, timing.jsonl.
"""

import hashlib
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dwm_jax import __version__, imagination, parallel, results
from dwm_jax.artifacts import Policies, Recording, TrainedMethod, TrainedModel
from dwm_jax.checkpoint import Checkpoints
from dwm_jax.config import ConfigError, differences, methods_of, to_json
from dwm_jax.data import dataset as data
from dwm_jax.data.tasks import Task, get_task
from dwm_jax.evaluation import Evaluator, normalized_scores
from dwm_jax.imagination import Pairs, TrajectorySource, Units
from dwm_jax.learners.base import Learner
from dwm_jax.locks import exclusive
from dwm_jax.metrics import JsonLines, Result, Results, first_non_finite
from dwm_jax.normalizers import fit_standard
from dwm_jax.progress import phase, say
from dwm_jax.registry import LEARNERS, WORLD_MODELS, Method
from dwm_jax.report import draw_figures
from dwm_jax.types import Array, Batch, Expand, Key, Metrics, PyTree, Trajectory
from dwm_jax.value_expansion import expansion
from dwm_jax.world_models.base import TrainingRows

# Trajectories imagined per device and dispatch when a pool is drawn.
IMAGINATION_CHUNK = 1024


class RunError(RuntimeError):
    """A run cannot go on; one line says why and what to do."""


def train(config: ConfigDict, workdir: Path) -> None:
    """The whole run. `config` must have passed `config.check`."""
    with exclusive(workdir / ".lock", wait=False):
        refuse_other_config(config, workdir)
        methods = methods_of(config)
        task, recording = load_recording(config)
        (workdir / "config.json").write_text(to_json(config))

        # ------------------------------------------------------------------ world models
        needed = dict.fromkeys(method.world_model for method in methods.values() if method.world_model)
        world_models = {name: pretrain(name, config, recording, workdir) for name in needed}

        # ---------------------------------------------------------------------- policies
        seeds = [config.seed + index for index in range(config.num_seeds)]
        evaluator = Evaluator(task.make_env, len(seeds), config.evaluation.episodes, config.evaluation.seed)
        trained = {
            name: learn_policy(name, method, config, task, recording, world_models, evaluator, seeds, workdir)
            for name, method in methods.items()
        }
        evaluator.close()

        # ------------------------------------------------------------- table and pictures
        timing = JsonLines(workdir / "timing.jsonl").read()
        seconds = {row["phase"]: row["seconds"] for row in timing}
        table = results.summary(task.name, Results(workdir / "results.csv").read(), seconds)
        (workdir / "summary.md").write_text(table)
        draw_figures(config, workdir, task, recording, world_models, trained)
        print(table)
        say(f"done: {workdir} holds the table, figures, every evaluation episode and the checkpoints")


def run_updates(
    name: str,
    update: Callable[[PyTree, PyTree, Array], tuple[PyTree, Metrics]],
    state: PyTree,
    dataset: PyTree,
    num_updates: int,
    config: ConfigDict,
    folder: Path,
    evaluate: Callable[[PyTree, int], str] | None = None,
) -> PyTree:
    """The loop of both phases: from the last checkpoint, or `state`, to `num_updates`.

    Args:
      name: of the phase, in progress and metrics.
      update: as in `parallel.scan_updates`.
      state, dataset: without a device axis.
      folder: gets metrics.jsonl, timing.jsonl and checkpoints/<name>.
      evaluate: (state, step) -> a note for the progress; called every `evaluation.every` updates and at the end.

    Raises:
      RunError: a metric is not finite; the last checkpoint stays.
    """
    metrics_file, timing_file = JsonLines(folder / "metrics.jsonl"), JsonLines(folder / "timing.jsonl")
    checkpoints = Checkpoints(folder / "checkpoints" / name)
    step, state = checkpoints.restore(state) or (0, state)
    for file in (metrics_file, timing_file):
        file.cut(name, step)
    earlier_seconds = max([row["seconds"] for row in timing_file.read() if row["phase"] == name], default=0.0)
    if step == num_updates:
        checkpoints.close()
        return state
    if step:
        say(f"{name}: resuming from step {step:,}")

    state, dataset = parallel.replicate(state), parallel.replicate(dataset)
    dispatch = parallel.scan_updates(update, config.updates_per_dispatch)
    start, note = time.monotonic(), ""
    with phase(name, num_updates, step) as progress:
        while step < num_updates:
            # ---- many updates, one dispatch
            state, on_device = dispatch(state, dataset, step)
            metrics = {key: np.asarray(value) for key, value in on_device.items()}
            refuse_non_finite(name, metrics, step, checkpoints)
            step += config.updates_per_dispatch

            # ---- what is due: metrics always, then evaluation, then the checkpoint that vouches for both
            means = {key: value.mean(axis=0) for key, value in metrics.items()}
            metrics_file.append(rows_of(name, step, means, config.seed))
            if evaluate is not None and (step % config.evaluation.every == 0 or step == num_updates):
                note = evaluate(parallel.unreplicate(state), step)
            if step % config.checkpoint_every == 0 or step == num_updates:
                checkpoints.save(step, parallel.unreplicate(state))
                seconds = earlier_seconds + time.monotonic() - start
                timing_file.append([{"phase": name, "step": step, "seconds": round(seconds, 1)}])
            loss_name, loss = next(iter(means.items()))
            progress.advance(step, f"{loss_name} {np.mean(loss):.4g}  {note}")
    checkpoints.close()
    return parallel.unreplicate(state)


def pretrain(name: str, config: ConfigDict, recording: Recording, workdir: Path) -> TrainedModel:
    """Phase one: the world model `name`, trained - or found, where one with its data and settings is finished.

    Its folder is named by a digest of everything it depends on and shared by all runs beside this workdir; a
    process that wants a model another one is training waits for it.
    """
    settings = config.world_models[name].to_dict()
    identity = {
        "model": name,
        "settings": settings,
        "data": recording.fingerprint,
        "heldout": recording.heldout_episodes.tolist(),
        "gamma": config.gamma,
        "pad": config.data.pad,
        "version": __version__,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    parent = Path(config.world_model_dir) if config.world_model_dir else workdir.resolve().parent / "world_models"
    folder = parent / f"{config.task.replace('/', '-')}-{name}-{digest}"

    seed, num_updates, batch_size = (settings.pop(key) for key in ("seed", "num_updates", "batch_size"))
    model = WORLD_MODELS[name](**settings)
    dataset = recording.dataset
    key = jax.random.key(seed)
    init_key, train_key = jax.random.split(key)

    transitions = data.transition_rows(dataset)
    state = model.init(
        init_key,
        TrainingRows(
            observations=dataset.observations[transitions],
            rewards=dataset.rewards[transitions],
            next_observations=dataset.observations[transitions + 1],
            actions=dataset.actions[transitions],
            absorbing=bool(dataset.terminated.any()),
        ),
    )
    starts = data.segment_rows(dataset, model.sequence_length, config.data.pad, recording.training_episodes)

    def update(state: PyTree, on_device: tuple[data.Dataset, Array], step: Array) -> tuple[PyTree, Metrics]:
        dataset, starts = on_device
        indices, keys = parallel.batch_for(train_key, step, batch_size, starts.shape[0])
        segments = jax.vmap(lambda row: data.segment_at(dataset, row, model.sequence_length))(starts[indices])
        return model.update(state, segments, keys, step, parallel.average)

    with exclusive(folder / ".lock", wait=True):
        (folder / "config.json").write_text(json.dumps(identity, indent=2, sort_keys=True) + "\n")
        state = run_updates(f"world model {name}", update, state, (dataset, starts), num_updates, config, folder)
    say(f"world model {name}: {num_updates:,} updates, kept in {folder}")
    return TrainedModel(model, model.inference(state))


def learn_policy(
    name: str,
    method: Method,
    config: ConfigDict,
    task: Task,
    recording: Recording,
    world_models: dict[str, TrainedModel],
    evaluator: Evaluator,
    seeds: list[int],
    workdir: Path,
) -> TrainedMethod:
    """Phase two: one method's policies, all seeds side by side, evaluated as they learn."""
    dataset = recording.dataset
    learner = LEARNERS[method.learner](
        observation_size=dataset.observations.shape[1],
        action_size=dataset.actions.shape[1],
        **config.learners[method.learner].to_dict(),
    )
    rows = data.transition_rows(dataset)
    units = Units(fit_standard(dataset.observations[rows]), jnp.ones(()))
    pairs = Pairs(dataset, jnp.asarray(rows), units)
    source = trajectory_source(name, method, config, pairs, world_models)
    expand = expansion(config.policy.lambda_)

    keys_S = jnp.stack([jax.random.key(seed) for seed in seeds])
    init_keys_S, update_keys_S = jnp.unstack(jax.vmap(jax.random.split)(keys_S), axis=1)
    states_S = jax.jit(jax.vmap(learner.init))(init_keys_S)

    def update(policies: Policies, on_device: tuple[Pairs, PyTree], step: Array) -> tuple[Policies, Metrics]:
        pairs, source_data = on_device
        one_seed = jax.vmap(
            partial(update_policy, learner, source.draw, expand, config.policy.batch_size),
            in_axes=(0, 0, None, None, None),
        )
        states_S, metrics = one_seed(policies.states_S, update_keys_S, pairs, source_data, step)
        return policies._replace(states_S=states_S), metrics

    @jax.jit
    def act(policies: Policies, observation_SEO: Array) -> Array:
        observation_SEO = policies.units.observation_normalizer.normalize(observation_SEO)
        return jax.vmap(lambda state, observation_EO: jax.vmap(partial(learner.act, state))(observation_EO))(
            policies.states_S, observation_SEO
        )

    results_file = Results(workdir / "results.csv")

    def evaluate(policies: Policies, step: int) -> str:
        returns_SE = evaluator(lambda observation_SEO: act(policies, observation_SEO.astype(np.float32)))
        scores_SE = normalized_scores(returns_SE, task.reference_scores)
        results_file.cut(name, step - 1)
        results_file.append(
            Result(name, task.name, seed, step, episode, returns_SE[s, episode], score, 100 * score)
            for s, seed in enumerate(seeds)
            for episode, score in enumerate(scores_SE[s])
        )
        return f"score {scores_SE.mean():.2f} ± {scores_SE.mean(axis=1).std():.2f}"

    # The units travel with the policies: a checkpoint alone is enough to act.
    policies = run_updates(
        name,
        update,
        Policies(states_S, units),
        (pairs, source.data),
        config.policy.num_updates,
        config,
        workdir,
        evaluate,
    )
    return TrainedMethod(learner, policies)


def update_policy(
    learner: Learner,
    draw: Callable[..., Trajectory],
    expand: Expand,
    batch_size: int,
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


def trajectory_source(
    name: str, method: Method, config: ConfigDict, pairs: Pairs, world_models: dict[str, TrainedModel]
) -> TrajectorySource:
    """Where a method's trajectories come from; draws the pool first where they can be drawn in bulk."""
    if method.world_model is None:
        return imagination.recorded(config.gamma)
    model, inference = world_models[method.world_model]
    rollout = model.rollout(config.policy.horizon, config.gamma)
    source = imagination.fresh(rollout, inference, config.policy.return_to_go)
    if model.needs_policy or config.policy.imagined_per_pair == 0:
        return source

    num_pairs = len(pairs.rows)
    keep = imagination.keep_for_target(config.policy.lambda_)
    # The pool belongs to the world model, not to a learner's seed.
    key = jax.random.key(config.world_models[method.world_model].seed)
    draw = imagination.draw_several(source, config.policy.imagined_per_pair, keep, jax.random.fold_in(key, 1))
    chunks, drawn = [], 0
    with phase(f"imagining for {name}", num_pairs) as progress:
        for chunk in parallel.map_chunks(draw, num_pairs, IMAGINATION_CHUNK, parallel.replicate((source.data, pairs))):
            chunks.append(chunk)
            drawn += len(chunk.rewards)
            progress.advance(drawn, f"{config.policy.imagined_per_pair} each")
    return imagination.kept(imagination.allocate(chunks))


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


def refuse_non_finite(name: str, metrics: dict[str, np.ndarray], step: int, checkpoints: Checkpoints) -> None:
    """Stops at the first update with a metric that is not finite."""
    bad = first_non_finite(metrics, step)
    if bad is not None:
        raise RunError(
            f"{name}: {bad[1]} is not finite at update {bad[0]:,}; stopped. Last good checkpoint: "
            f"{checkpoints.latest_step()} in {checkpoints.directory}"
        )


def rows_of(name: str, step: int, means: dict[str, np.ndarray], first_seed: int) -> list[dict[str, Any]]:
    """Metric rows of one dispatch: one, or one per seed where the metrics have a seed axis."""
    shape = next(iter(means.values())).shape
    if not shape:
        return [{"phase": name, "step": step} | {key: float(value) for key, value in means.items()}]
    return [
        {"phase": name, "step": step, "seed": first_seed + s} | {key: float(value[s]) for key, value in means.items()}
        for s in range(shape[0])
    ]


if __name__ == "__main__":
    from dwm_jax.command_line import run

    run(train, __doc__)
