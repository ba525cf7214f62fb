"""Phase one: trains a model on segments, unless a finished one with the same data and settings is found."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dwm_jax.data import dataset as data
from dwm_jax.phases import kept_models
from dwm_jax.phases.phase import Phase, Run, checkpoints_of
from dwm_jax.registry import make_model
from dwm_jax.runtime import files, parallel, processes
from dwm_jax.runtime.checkpoints import Checkpoints
from dwm_jax.runtime.keys import key_for
from dwm_jax.runtime.locks import exclusive
from dwm_jax.runtime.progress import say
from dwm_jax.types import Array, Key, Metrics, PyTree
from dwm_jax.world_models.base import Model, TrainedModel, TrainingRows


@contextmanager
def pretraining(run: Run, name: str, teacher: TrainedModel | None = None) -> Iterator[Phase[TrainedModel]]:
    """`make_training`, with the lock of its folder held inside the block: a model that another process is training is
    waited for. A model that comes from elsewhere is taken over, as finished. The run records the folder's name.
    """
    phase, identity = make_training(run, name, teacher), identity_in_run(run, name)
    elsewhere, folder = run.config.world_models[name].pretrained, phase.folder
    processes.call_on_first(lambda: kept_models.say_if_gone(run.workdir, name, folder))
    with exclusive(folder / ".lock", wait=True):
        description = json.dumps(identity, indent=2, sort_keys=True) + "\n"
        processes.call_on_first(lambda: files.write(folder / "config.json", description))
        if elsewhere:
            processes.call_on_first(
                lambda: kept_models.copy_finished_model(
                    Path(elsewhere), folder, phase.name, identity["pretrained"], phase.make_state
                )
            )
        processes.call_on_first(lambda: kept_models.record_folder(run.workdir, name, folder))
        yield phase


def make_training(run: Run, name: str, teacher: TrainedModel | None = None) -> Phase[TrainedModel]:
    """The training of model `name` (a key of `registry.MODELS`); of one that is distilled, its distillation.

    Its folder is named by a digest of everything the training depends on and shared by all runs beside this workdir.
    Nothing is read or written there.

    Args:
      teacher: the trained model that a distillation starts from; not needed to find one that is finished.
    """
    config, dataset = run.config, run.recording.dataset
    settings, label = config.world_models[name].to_dict(), kept_models.phase_name(name, config.world_models[name])
    folder = kept_models.folder_of(config, run.workdir, identity_in_run(run, name))
    num_updates = kept_models.last_update(settings)
    seed, _, batch_size, _ = (settings.pop(key) for key in ("seed", "num_updates", "batch_size", "pretrained"))
    model = make_model(name, **settings)
    purposes = ("initial state", "distillation" if settings.get("distil") else "training")
    init_key, train_key = (key_for(seed, f"{name}: {purpose}") for purpose in purposes)
    starts = data.segment_rows(dataset, model.sequence_length, config.data.pad, run.recording.training_episodes)

    def make_state() -> PyTree:
        if teacher is not None:
            student: Any = model
            return student.taught_by(teacher.state)
        return model.init(init_key, training_rows(dataset, run.recording.training_episodes))

    def finish(state: PyTree, seconds: float) -> TrainedModel:
        say(f"{label}: {num_updates:,} updates, kept in {folder}")
        return TrainedModel(model, state, seconds + (teacher.seconds if teacher else 0.0))

    return Phase(
        name=label,
        folder=folder,
        updates=parallel.repeat_update(update_from_segments(model, batch_size, train_key)),
        make_state=make_state,
        make_data=lambda state, step: (state, (dataset, starts)),
        num_updates=num_updates,
        finish=finish,
    )


def find_finished_model(run: Run, name: str) -> TrainedModel | None:
    """Model `name` where its training is finished and kept; None where it is not. Nothing is trained, or written.

    Raises:
      CheckpointError: it cannot be read.
    """
    phase = make_training(run, name)
    if not kept_models.is_finished(phase.folder, identity_in_run(run, name)):
        return None
    with closing(Checkpoints(checkpoints_of(phase.folder, phase.name), read_only=True)) as checkpoints:
        restored = checkpoints.restore(jax.eval_shape(phase.make_state))
    # Where the last one is damaged, the one before it was read: a model that is not trained to its end.
    return phase.finish(restored[1], 0.0) if restored and restored[0] == phase.num_updates else None


def read_finished_model(run: Run, name: str) -> TrainedModel:
    """The model `name` as a finished run left it; nothing is trained.

    Raises:
      ValueError: it is not there, or not finished.
      CheckpointError: it cannot be read.
    """
    model = find_finished_model(run, name)
    if model is None:
        folder = kept_models.folder_of(run.config, run.workdir, identity_in_run(run, name))
        raise ValueError(
            f"no finished world model {name} in {folder}: it is not trained to its end yet, was trained by another "
            "version or on other data, or lies elsewhere; the run's own command trains it"
        )
    return model


def teacher_run(run: Run, name: str) -> Run | None:
    """The run that trains model `name` before it is distilled; None where it is not, or is taken over distilled."""
    settings = run.config.world_models[name]
    if not settings.get("distil") or settings.pretrained:
        return None
    return run._replace(config=kept_models.teacher_config(run.config, name))


def identity_in_run(run: Run, name: str) -> dict[str, Any]:
    """Everything that the training of model `name` depends on; of one that is taken over, its arrays too."""
    identity = kept_models.identity_of(run.config, run.recording, name)
    if run.config.world_models[name].pretrained:
        taken = processes.call_on_first(lambda: files.find_json(run.workdir / kept_models.TAKEN_OVER)) or {}
        identity["pretrained"] = taken.get(name)
    return identity


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
