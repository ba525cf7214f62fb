"""The plan of a sweep: each run once, world models first, without those that are done."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from dwm_jax import config_files
from dwm_jax.config import differences, models_of
from dwm_jax.phases.kept_models import training_settings
from dwm_jax.registry import METHODS, Alone
from dwm_jax.runtime import files
from dwm_jax.runtime.files import UnreadableError

from ..studies.catalogue import STUDIES
from ..studies.study import Member, members_at, same_run, tasks_at

TRAIN = ("python", "-m", "dwm_jax.train")
# The method that trains a world model and nothing else, by model.
ALONE = {method.model: name for name, method in METHODS.items() if isinstance(method, Alone)}


class PlannedRun(NamedTuple):
    """One command of dwm_jax.train."""

    name: str  # its workdir below RUNS
    workdir: Path
    config_file: str  # by name, as Member.config
    settings: Mapping[str, str]  # what the command line sets of the config
    config: ConfigDict  # both together
    # Other names under which studies look for it, as links.
    links: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """The command line."""
        overrides = (f"--config.{key}={value}" for key, value in self.settings.items())
        return (*TRAIN, "--config", self.config_file, *overrides, "--workdir", str(self.workdir))

    @property
    def log(self) -> Path:
        """The file of what the command printed."""
        return self.workdir / "log.txt"

    def is_done(self) -> bool:
        """Whether the command came to its end: the table is what it writes last. What cannot be read is not done."""
        try:
            earlier = files.read_json(self.workdir / "config.json")
            return (self.workdir / "summary.md").stat().st_size > 0 and not differences(self.config, earlier)
        except (OSError, UnreadableError):
            return False

    @property
    def damage(self) -> str | None:
        """What of its files cannot be read, in one line; None where all can."""
        try:
            files.read_json(self.workdir / "config.json")
            summary = self.workdir / "summary.md"
            return f"{summary} is empty" if summary.stat().st_size == 0 else None
        except FileNotFoundError:
            return None
        except (OSError, UnreadableError) as error:
            return str(error)


class Stage(NamedTuple):
    """Runs that need nothing of each other."""

    name: str  # also of the files that list it
    runs: tuple[PlannedRun, ...]


def plan_stages(members: Sequence[Member], runs_folder: Path, scale: str) -> tuple[Stage, Stage]:
    """The world models that are to be trained, each once, and the members' runs; in both also what is done.

    A model that no method trains by itself (Decision Diffuser's, augmentation's) comes with the first run that needs
    it.
    """
    runs = plan_runs(members, runs_folder, scale)
    first = tuple(find_world_model_runs([run for run in runs if not run.is_done()], runs_folder))
    early = {run.name for run in first}
    return Stage("world_models", first), Stage("policies", tuple(run for run in runs if run.name not in early))


def plan_runs(members: Sequence[Member], runs_folder: Path, scale: str) -> list[PlannedRun]:
    """One run for all members that are the same; the others are links to its folder.

    Its folder is the one that an earlier sweep gave it, whichever the study, or else the first member's.
    """
    alike: dict[tuple[object, ...], list[Member]] = {}
    for member in members:
        alike.setdefault(same_run(member), []).append(member)
    of_studies = {task for study in STUDIES.values() for task in tasks_at(study, scale)}
    own_tasks = [member.task for member in members if member.task not in of_studies]
    homes = {
        same_run(member): member
        for study in STUDIES.values()
        for member in members_at(study, scale, own_tasks)
        if same_run(member) in alike and is_real(runs_folder / name_of(member))
    }
    runs = []
    for key, group in alike.items():
        home = name_of(homes.get(key, group[0]))
        settings = {"methods": ",".join(group[0].methods), **group[0].overrides}
        links = tuple(name for name in map(name_of, group) if name != home)
        runs.append(make_run(home, group[0].config, settings, runs_folder)._replace(links=links))
    return runs


def name_of(member: Member) -> str:
    return f"{member.study}/{member.task}/{member.variant}"


def is_real(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink()


def make_run(name: str, config_file: str, settings: Mapping[str, str], runs_folder: Path) -> PlannedRun:
    """The run of a config file with settings."""
    settings = {**settings, "world_model_dir": str(runs_folder / "world_models")}
    return PlannedRun(name, runs_folder / name, config_file, settings, parse_config(config_file, settings))


def parse_config(config_file: str, settings: Mapping[str, str]) -> ConfigDict:
    """The config as dwm_jax.train reads it."""
    overrides = (f"--config.{key}={value}" for key, value in settings.items())
    arguments = ["train", f"--config={config_files.find(config_file)}", *overrides]
    values = flags.FlagValues()  # type: ignore[no-untyped-call]
    holder = config_flags.DEFINE_config_file("config", flag_values=values, lock_config=True, sys_argv=arguments)
    values(arguments)
    config: ConfigDict = holder.value
    return config


def find_world_model_runs(runs: Iterable[PlannedRun], runs_folder: Path) -> Iterator[PlannedRun]:
    """For every world model that the runs need, told apart by what its training depends on: who trains it."""
    seen: set[str] = set()
    for run in runs:
        for model in models_of(run.config):
            identity = {
                "task": run.config.task,
                "model": model,
                "settings": training_settings(run.config.world_models[model].to_dict()),
                "data": run.config.data.to_dict(),
                "gamma": run.config.gamma,
            }
            digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
            if digest not in seen:
                seen.add(digest)
                yield plan_world_model_run(run, model, digest, runs_folder) if model in ALONE else run


def plan_world_model_run(run: PlannedRun, model: str, digest: str, runs_folder: Path) -> PlannedRun:
    """The run that trains one world model of another run, and nothing else."""
    settings = {"methods": ALONE[model], "diagnostics.sampling_horizons": "()"}
    read = training_settings(run.config.world_models[model].to_dict())
    for key, value in run.settings.items():
        *parents, last = key.split(".")
        if parents == ["world_models", model] and last in read:
            settings[key] = value
    name = f"world_models_of/{run.config.task.replace('/', '-')}/{ALONE[model]}-{digest}"
    return make_run(name, run.config_file, settings, runs_folder)


def make_links(runs: Iterable[PlannedRun], runs_folder: Path) -> None:
    """Puts each run where its other studies look for it, as relative links."""
    for run in runs:
        for link in (runs_folder / name for name in run.links):
            link.parent.mkdir(parents=True, exist_ok=True)
            target = os.path.relpath(run.workdir, link.parent)
            if link.is_symlink() and os.readlink(link) != target:
                link.unlink()
            if not link.is_symlink() and not link.exists():
                link.symlink_to(target)
