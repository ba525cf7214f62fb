"""What a study is: a table or figure, and its members, each a run of one config."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from .scales import GRIDS, config_of, num_updates, stand_in
from .variations import Setting


class Member(NamedTuple):
    """One run."""

    study: str  # a key of STUDIES
    task: str
    variant: str  # what distinguishes the run among those of its study and task: "DWM-TD3BC-H5-rtg0.7"
    methods: tuple[str, ...]  # keys of registry.METHODS
    config: str  # "paper:hopper-medium-v2"
    overrides: Mapping[str, str]  # "policy.horizon" -> "5", as on the command line


class Study(NamedTuple):
    """One table or figure."""

    name: str
    title: str
    source: str  # what of the paper it repeats
    reported: str | None  # the file in experiments/studies/paper/ with the paper's figures; None where there are none
    # What the report makes of it: "returns", "horizons", "sequence_length", "prediction_error", "diffusion_steps",
    # "returns_to_go", "lambda", "attribution", "distillation", "inference_time" or "sampling_time".
    kind: str
    tasks: tuple[str, ...]  # the paper's; `tasks_at` has those of a scale
    members: Callable[[str, str], tuple[Member, ...]]  # (task of the scale, scale) -> the runs


def tasks_at(study: Study, scale: str) -> tuple[str, ...]:
    """The tasks of a study at a scale, each once."""
    return tuple(dict.fromkeys(stand_in(task, scale) for task in study.tasks))


def members_at(study: Study, scale: str, own_tasks: Sequence[str] = ()) -> tuple[Member, ...]:
    """Every run of a study at a scale, on its tasks and on `own_tasks`, data of the user's own."""
    tasks = dict.fromkeys([*tasks_at(study, scale), *own_tasks])
    return tuple(member for task in tasks for member in study.members(task, scale))


def same_run(member: Member) -> tuple[object, ...]:
    """Equal for members that are one and the same run."""
    return member.task, member.config, member.methods, tuple(sorted(member.overrides.items()))


# A run as studies describe it: methods that may share it, and a setting. The task and the scale make a member of it.
Cell = tuple[Sequence[str], Setting]


def make_study(
    name: str,
    title: str,
    source: str,
    reported: str | None,
    kind: str,
    tasks: tuple[str, ...],
    runs: Callable[[str, str], Iterable[Cell]],
) -> Study:
    """A study whose runs have a process per method; or one for all their methods, where a start costs more."""

    def members(task: str, scale: str) -> tuple[Member, ...]:
        config = config_of(task, scale)
        return tuple(
            Member(name, task, variant_of(group, setting), group, config, overrides_of(group, setting, task, scale))
            for methods, setting in runs(task, scale)
            for group in ([tuple(methods)] if GRIDS[scale].together else [(method,) for method in methods])
        )

    return Study(name, title, source, reported, kind, tasks, members)


def variant_of(group: Sequence[str], setting: Setting) -> str:
    """The method, or the sources of several, and the setting: "DWM-TD3BC-H5-rtg0.7", "DWM-H5-rtg0.7"."""
    sources = dict.fromkeys(method.split("-")[0] for method in group)
    return "-".join([*(group if len(group) == 1 else sources), *filter(None, [setting.name])])


def overrides_of(group: Sequence[str], setting: Setting, task: str, scale: str) -> dict[str, str]:
    return {**num_updates(group[0], task, scale), **setting.overrides}
