"""Trained models on disk: the description by which each is found, and models that were trained elsewhere.

A model's folder holds config.json (all that its training depends on), metrics.jsonl, timing.jsonl and
checkpoints/<phase>. With `config.world_models.NAME.pretrained = FOLDER` the arrays of such a folder, checked, become a
run's own; from there on it is a finished model like any other.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from dwm_jax import __version__
from dwm_jax.config import ConfigError, changes, models_of
from dwm_jax.data.recording import Recording
from dwm_jax.phases.phase import checkpoints_of
from dwm_jax.runtime import files
from dwm_jax.runtime.checkpoints import CheckpointError, Checkpoints
from dwm_jax.runtime.progress import printable, say
from dwm_jax.runtime.row_files import JsonLines
from dwm_jax.types import PyTree

# Settings that only sampling reads, so that one training serves all their values; a distillation reads them too.
READ_BY_SAMPLING_ALONE = ("num_sampling_steps", "guidance_weight", "temperature")
# Settings that only turning sampled rows into a trajectory reads; a distillation does not.
READ_BY_DECODING_ALONE = ("termination_threshold",)
OF_DISTILLATION = ("distil", "distil_updates")
# In a run's folder: SHA-256 of the arrays that it took from elsewhere, by model.
TAKEN_OVER = "pretrained.json"
# There too: the name of the folder that each model of the run lies in.
FOLDERS = "world_models.json"


def training_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a model's settings those that its training depends on; `pretrained` where it is not off.

    A distilled model is trained on what its teacher samples, so on the settings of sampling, too.
    """
    by_sampling = () if settings.get("distil") else READ_BY_SAMPLING_ALONE + OF_DISTILLATION
    unread = READ_BY_DECODING_ALONE + by_sampling
    kept = {key: value for key, value in settings.items() if key not in unread}
    return {key: value for key, value in kept.items() if key != "pretrained" or value}


def identity_of(config: ConfigDict, recording: Recording, name: str) -> dict[str, Any]:
    """What the training of model `name` depends on, wherever it happened."""
    settings = training_settings(config.world_models[name].to_dict())
    settings.pop("pretrained", None)
    return {
        "model": name,
        "settings": settings,
        "data": recording.fingerprint,
        "heldout": recording.heldout_episodes.tolist(),
        "gamma": config.gamma,
        "pad": config.data.pad,
        "version": __version__,
    }


def phase_name(name: str, settings: Mapping[str, Any]) -> str:
    """Of the training of model `name`, or of its distillation; its checkpoints lie under it."""
    return f"distilled world model {name}" if settings.get("distil") else f"world model {name}"


def last_update(settings: Mapping[str, Any]) -> int:
    """The updates of that phase."""
    return int(settings["distil_updates"] if settings.get("distil") else settings["num_updates"])


def checkpoints_in(folder: Path, identity: Mapping[str, Any]) -> Path:
    """Where the checkpoints of the model that `identity` describes lie in its folder."""
    return checkpoints_of(folder, phase_name(identity["model"], identity["settings"]))


def newest_update(folder: Path, identity: Mapping[str, Any]) -> int | None:
    """The update of the newest checkpoint there; None where there is none.

    Raises:
      CheckpointError: there is no folder of checkpoints either.
    """
    with closing(Checkpoints(checkpoints_in(folder, identity), read_only=True)) as checkpoints:
        return checkpoints.latest_step()


def is_finished(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Whether the last update's checkpoint is there."""
    try:
        return newest_update(folder, identity) == last_update(identity["settings"])
    except (CheckpointError, LookupError, TypeError, ValueError):
        return False


def fingerprint_of(folder: Path, identity: Mapping[str, Any]) -> str:
    """SHA-256 of a finished model's arrays, as its checkpoint says; `copy_finished_model` proves it.

    Raises:
      CheckpointError: there are none, or not those after the last update.
    """
    newest, last = newest_update(folder, identity), last_update(identity["settings"])
    if newest not in (None, last):
        raise CheckpointError(f"not trained to its end: its last checkpoint is of update {newest:,}, not {last:,}")
    with closing(Checkpoints(checkpoints_in(folder, identity), read_only=True)) as checkpoints:
        return checkpoints.fingerprint()


def teacher_config(config: ConfigDict, name: str) -> ConfigDict:
    """The same config, with model `name` as it is before it is distilled: trained here, or found."""
    config = config.copy_and_resolve_references()
    config.world_models[name].distil = False
    return config


def folder_of(config: ConfigDict, workdir: Path, identity: Mapping[str, Any]) -> Path:
    """Where the model that `identity` describes is kept, for this run and all others."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    return models_folder(config, workdir) / f"{config.task.replace('/', '-')}-{identity['model']}-{digest}"


def models_folder(config: ConfigDict, workdir: Path) -> Path:
    """Where a run's models are kept, each in a folder."""
    return Path(config.world_model_dir) if config.world_model_dir else workdir.resolve().parent / "world_models"


def record_folder(workdir: Path, name: str, folder: Path) -> None:
    """Records in a run's folder the folder of its model `name`, for `share`."""
    known = files.find_json(workdir / FOLDERS) or {}
    if known.get(name) != folder.name:
        files.write(workdir / FOLDERS, json.dumps(known | {name: folder.name}, indent=2) + "\n")


def say_if_gone(workdir: Path, name: str, folder: Path) -> None:
    """Says that a model of the run is no longer where it was, before it is trained anew: the run's folder was moved."""
    if not folder.exists() and (files.find_json(workdir / FOLDERS) or {}).get(name) == folder.name:
        say(
            f"world model {name} of this run is not in {folder.parent} and is trained anew; to keep what there is, "
            f"move {folder.name} there, or name its place by --config.world_model_dir"
        )


def check_pretrained(config: ConfigDict, recording: Recording, workdir: Path) -> None:
    """Compares every model that comes from elsewhere with the run's data and settings, and records its arrays' digest.

    Where a folder has gone since the run began, what the run took from it is enough.

    Raises:
      ConfigError: it is not there, trained on other data, with other settings or by another version, not trained to
        its end, or no longer what the run began with.
    """
    record = workdir / TAKEN_OVER
    taken: dict[str, Any] = files.find_json(record) or {}
    for name in models_of(config):
        path = Path(config.world_models[name].pretrained)
        if not config.world_models[name].pretrained or (name in taken and not path.exists()):
            continue
        key = f"world_models.{name}.pretrained={path}"
        identity = identity_of(config, recording, name)
        refuse_other_model(key, path, identity)
        try:
            found = fingerprint_of(path, identity)
        except (CheckpointError, ValueError) as error:
            raise ConfigError(printable(f"{key}: {error}")) from error
        if taken.setdefault(name, found) != found:
            raise ConfigError(
                f"{key} has changed since this run began: arrays {str(taken[name])[:12]} -> {found[:12]}; bring the "
                "earlier ones back, or choose another --workdir"
            )
    if taken:
        files.write(record, json.dumps(taken, indent=2) + "\n")


def refuse_other_model(key: str, path: Path, identity: Mapping[str, Any]) -> None:
    """Refuses a folder that holds another model than `identity` describes.

    Raises:
      ConfigError: with `key` and every difference.
    """
    try:
        described = files.read_json(path / "config.json")
    except FileNotFoundError:
        below = sorted(str(found.parent) for found in path.glob("world_models/*/config.json"))
        there = f"; there are {', '.join(below)}" if below else ""
        raise ConfigError(printable(f"{key}: no trained world model there (no config.json){there}")) from None
    except files.UnreadableError as error:
        raise ConfigError(printable(f"{key}: {error}")) from error
    described.pop("pretrained", None)  # it was taken over before
    different = changes(described, json.loads(json.dumps(identity)))
    if different:
        raise ConfigError(printable(f"{key} is another model than this run wants: {'; '.join(different)}"))


def copy_finished_model(
    path: Path, folder: Path, phase: str, fingerprint: str, make_state: Callable[[], PyTree]
) -> None:
    """Makes the arrays of a phase in `path` the finished model of `folder`, where they are not yet.

    Only numbers come from there: arrays of the shapes that the model has here, and the rows of its training.

    Raises:
      CheckpointError: the arrays are not there, damaged, or others than the model's.
    """
    with closing(Checkpoints(checkpoints_of(folder, phase))) as own:
        if own.latest_step() is not None:
            return
        with closing(Checkpoints(checkpoints_of(path, phase), read_only=True)) as others:
            if others.fingerprint() != fingerprint:
                raise CheckpointError(f"{path} has changed while it was read; start the same command again")
            restored = others.restore(jax.eval_shape(make_state))
        assert restored is not None  # it has a fingerprint
        for file in ("metrics.jsonl", "timing.jsonl"):
            rows = [row for row in JsonLines(path / file).find() if is_row_of(row, phase)]
            files.write(folder / file, "".join(json.dumps(row) + "\n" for row in rows))
        own.save(*restored)
    say(f"{phase}: taken over from {path}")


def is_row_of(row: Mapping[str, Any], phase: str) -> bool:
    """Whether a row of metrics or times is one that a phase has written: its name, a step, and numbers."""
    numbers = [value for key, value in row.items() if key != "phase"]
    return row.get("phase") == phase and type(row.get("step")) is int and all(type(v) in (int, float) for v in numbers)
