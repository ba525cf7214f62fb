"""Phase one: a model trained on segments - or found, where one with its data and settings is finished."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dwm_jax import __version__
from dwm_jax.data import dataset as data
from dwm_jax.phases.phase import Phase, Run
from dwm_jax.registry import make_model
from dwm_jax.runtime import files, parallel, processes
from dwm_jax.runtime.checkpoints import Checkpoints
from dwm_jax.runtime.keys import key_for
from dwm_jax.runtime.locks import exclusive
from dwm_jax.runtime.progress import say
from dwm_jax.types import Array, Key, Metrics, PyTree
from dwm_jax.world_models.base import Model, TrainedModel, TrainingRows

# What a model reads only when it is asked: it is trained once for all values of these.
READ_BY_SAMPLING_ALONE = ("num_sampling_steps", "guidance_weight", "temperature")


def read_by_training(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a model's settings those that its training depends on."""
    return {key: value for key, value in settings.items() if key not in READ_BY_SAMPLING_ALONE}


@contextmanager
def pretraining(run: Run, name: str) -> Iterator[Phase[TrainedModel]]:
    """The training of model `name` (a key of `registry.MODELS`).

    Its folder is named by a digest of everything the training depends on and shared by all runs beside this workdir;
    it is held inside the block, and a process that wants a model another one is training waits for it.
    """
    config, dataset = run.config, run.recording.dataset
    settings, identity = config.world_models[name].to_dict(), identity_of(run, name)
    seed, num_updates, batch_size = (settings.pop(key) for key in ("seed", "num_updates", "batch_size"))
    model = make_model(name, **settings)
    init_key, train_key = (key_for(seed, f"{name}: {purpose}") for purpose in ("initial state", "training"))
    starts = data.segment_rows(dataset, model.sequence_length, config.data.pad, run.recording.training_episodes)
    folder, label = folder_of(run, identity), f"world model {name}"

    def finish(state: PyTree, seconds: float) -> TrainedModel:
        say(f"{label}: {num_updates:,} updates, kept in {folder}")
        return TrainedModel(model, state, seconds)

    with exclusive(folder / ".lock", wait=True):
        description = json.dumps(identity, indent=2, sort_keys=True) + "\n"
        processes.from_first(lambda: files.write(folder / "config.json", description))
        yield Phase(
            name=label,
            folder=folder,
            updates=parallel.one_after_another(update_from_segments(model, batch_size, train_key)),
            make_state=lambda: model.init(init_key, training_rows(dataset, run.recording.training_episodes)),
            make_data=lambda state, step: (state, (dataset, starts)),
            num_updates=num_updates,
            finish=finish,
        )


def pretrained(run: Run, name: str) -> TrainedModel | None:
    """Model `name` where its training is finished and kept; None where it is not. Nothing is trained, or written."""
    identity = identity_of(run, name)
    last = folder_of(run, identity) / "checkpoints" / f"world model {name}" / str(identity["settings"]["num_updates"])
    if not last.is_dir():
        return None
    with pretraining(run, name) as phase:
        checkpoints = Checkpoints(phase.folder / "checkpoints" / phase.name)
        restored = checkpoints.restore(jax.eval_shape(phase.make_state))
        checkpoints.close()
        # A damaged one was set aside, and the one before it taken.
        return phase.finish(restored[1], 0.0) if restored and restored[0] == phase.num_updates else None


def identity_of(run: Run, name: str) -> dict[str, Any]:
    """Everything that the training of model `name` depends on."""
    return {
        "model": name,
        "settings": read_by_training(run.config.world_models[name].to_dict()),
        "data": run.recording.fingerprint,
        "heldout": run.recording.heldout_episodes.tolist(),
        "gamma": run.config.gamma,
        "pad": run.config.data.pad,
        "version": __version__,
    }


def folder_of(run: Run, identity: Mapping[str, Any]) -> Path:
    """Where the model that `identity` describes is kept, for this run and all others."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    beside = run.workdir.resolve().parent / "world_models"
    parent = Path(run.config.world_model_dir) if run.config.world_model_dir else beside
    return parent / f"{run.config.task.replace('/', '-')}-{identity['model']}-{digest}"


def update_from_segments(
    model: Model, batch_size: int, key: Key
) -> Callable[[PyTree, tuple[data.Dataset, Array], Array], tuple[PyTree, Metrics]]:
    """One update of a model; its data: a data set, and rows where segments start."""

    def update(state: PyTree, on_device: tuple[data.Dataset, Array], step: Array) -> tuple[PyTree, Metrics]:
        dataset, starts = on_device
        indices, keys = parallel.batch_for(key, step, batch_size, starts.shape[0])
        segments = jax.vmap(lambda row: data.segment_at(dataset, row, model.sequence_length))(starts[indices])
        return model.update(state, segments, keys, step, parallel.average)

    return update


def training_rows(dataset: data.Dataset, episodes: np.ndarray | None = None) -> TrainingRows:
    """The transitions of some episodes, or of all, for fitting normalisers. Host."""
    transitions = data.segment_rows(dataset, 1, "absorb", episodes)
    return TrainingRows(
        observations=dataset.observations[transitions],
        rewards=dataset.rewards[transitions],
        next_observations=dataset.observations[transitions + 1],
        actions=dataset.actions[transitions],
        absorbing=bool(dataset.terminated.any()),
    )
