"""Turns files of D4RL, OGBench or Minari into the contents of a local data set: episodes, environment, provenance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from dwm_jax.data import conversion, d4rl, d4rl_mazes, d4rl_tasks, environments, minari_reading, ogbench
from dwm_jax.data.actions import clip_or_refuse, recorded_range
from dwm_jax.data.conversion import Conversion, Findings, Layout
from dwm_jax.data.d4rl_tasks import D4RL_TASKS
from dwm_jax.data.environments import Facts
from dwm_jax.data.episode_rows import check_episode
from dwm_jax.data.flat_arrays import FlatArrays
from dwm_jax.data.minari_store import Contents
from dwm_jax.data.spaces import ActionRange, unit_range
from dwm_jax.types import Episode

# Instead of an environment: none at all. Such data trains world models; there is nowhere to evaluate a policy.
NOWHERE = "none"


class ImportOptions(NamedTuple):
    """What the files do not say, and the user may."""

    environment: str | None = None  # to evaluate in; None takes the one the files name, else the table's
    timeouts: str = "end"  # `conversion.Layout.timeouts`
    actions: str = "refuse"  # one of `actions.HANDLINGS`
    max_episode_steps: int | None = None  # a clock for the environment, where it has none or another one is meant


def read_contents(name: str, files: Sequence[Path], sources: list[dict[str, Any]], options: ImportOptions) -> Contents:
    """What the data set called `name` will hold.

    Args:
      files: in D4RL's layout, taken together in order; or one folder of Minari episodes.
      sources: what the metadata says of each file.

    Raises:
      ValueError: a file is not in order, files do not go together, or the environment does not fit them.
    """
    if not any(path.is_dir() for path in files):
        return _of_flat_files(name, files, sources, options)
    if len(files) > 1:
        raise ValueError(f"--file takes HDF5 files, or one folder of Minari episodes; got {len(files)} with a folder")
    return _of_folder(name, files[0], sources, options)


def _of_flat_files(name: str, files: Sequence[Path], sources: list[dict[str, Any]], options: ImportOptions) -> Contents:
    environment = _environment(name, files, options.environment)
    read = [_read_arrays(path, name, environment) for path in files]
    recordings = [arrays for arrays, _ in read]
    _refuse_clock_of_nothing(options, environment)
    _refuse_denied_timeouts(options, files, recordings)
    if name in D4RL_TASKS and options.timeouts == ImportOptions().timeouts:
        options = options._replace(timeouts=D4RL_TASKS[name].timeouts)
    sizes = {(arrays.observations.shape[1], arrays.actions.shape[1]) for arrays in recordings}
    if len(sizes) > 1:
        raise ValueError(f"{', '.join(map(str, files))}: observation and action sizes differ: {sorted(sizes)}")
    ((observation_size, action_size),) = sizes
    facts = environments.inspect(environment, clock=options.max_episode_steps) if environment is not None else None
    units = unit_range(action_size)
    if options.actions == "scale":
        units = _units(np.concatenate([arrays.actions for arrays in recordings]), facts)
    if environment is not None:
        clock = options.max_episode_steps
        environments.make(environment, actions=units, observation_size=observation_size, clock=clock).close()
    conversions = [
        scale_and_convert(
            arrays, str(path), _layout(environment, facts, pays_states, options), units, options.actions == "clip"
        )
        for (arrays, pays_states), path in zip(read, files, strict=True)
    ]
    episodes = [episode for conversion in conversions for episode in conversion.episodes]
    findings = [conversion.findings for conversion in conversions]
    _refuse_lost_rewards(files, findings, episodes)
    provenance = {
        "environment": environment,
        "max_episode_steps": options.max_episode_steps,
        "step_limit": _data_clock(environment, facts),
        "sources": sources,
        "findings": [finding._asdict() for finding in findings],
        "action_range": units,
    }
    return _contents(name, episodes, _reference_scores(name, environment), "recorded elsewhere", provenance, options)


def _refuse_clock_of_nothing(options: ImportOptions, environment: str | None) -> None:
    if environment is None and options.max_episode_steps is not None:
        raise ValueError("--max-episode-steps is for an environment, and none is named; name one with --env")


def _refuse_denied_timeouts(options: ImportOptions, files: Sequence[Path], recordings: Sequence[FlatArrays]) -> None:
    """Refuses `--timeouts none` of files that have some: it would change nothing."""
    for path, arrays in zip(files, recordings, strict=True):
        if options.timeouts == "none" and arrays.timeouts is not None and arrays.timeouts.any():
            raise ValueError(f"{path}: --timeouts none, but its timeouts flag {arrays.timeouts.sum():,} row(s)")


def _read_arrays(path: Path, name: str, environment: str | None) -> tuple[FlatArrays, bool]:
    """The arrays of a file, and whether its rewards are those of states."""
    if path.suffix == ".npz":
        return ogbench.read_arrays(path, name), False
    arrays = d4rl.read_arrays(path)
    return arrays, d4rl_mazes.rewards_of_states(environment or "", arrays)


def scale_and_convert(
    arrays: FlatArrays, owner: str, layout: Layout, units: ActionRange, may_clip: bool = False
) -> Conversion:
    """The episodes of a recording; `conversion` says where they end and what is kept.

    Args:
      owner: whose arrays these are, for the messages.
      units: what the actions are in; they are brought to [-1, 1].
      may_clip: clips actions beyond their bounds rather than refusing them.

    Raises:
      ValueError: an action is out of bounds, it is open where episodes end, or no transition is left.
    """
    actions, clipped = clip_or_refuse(units.to_unit(arrays.actions), owner, may_clip=may_clip)
    arrays = arrays._replace(actions=actions.astype(np.float32, copy=False))
    return conversion.convert(arrays, owner, layout, clipped)


def _layout(environment: str | None, facts: Facts | None, pays_states: bool, options: ImportOptions) -> Layout:
    if options.timeouts != "clock":
        return Layout(_data_clock(environment, facts), options.timeouts, pays_states)
    if facts is None or facts.clock is None:
        raise ValueError("--timeouts clock cuts by the environment's clock, and none is known; name one with --env")
    return Layout(facts.clock, options.timeouts, pays_states)


def _data_clock(environment: str | None, facts: Facts | None) -> int | None:
    """The clock that recorded episodes obey. D4RL's mazes were recorded under another one than they are evaluated."""
    if facts is None or environment in environments.D4RL_ENVIRONMENTS:
        return None
    return facts.clock


def _units(actions: np.ndarray, facts: Facts | None) -> ActionRange:
    """What actions are scaled by: the environment's bounds, or the recorded ones where it has none."""
    if facts is not None and facts.action_range.is_bounded:
        return facts.action_range
    return recorded_range(actions)


def _of_folder(name: str, folder: Path, sources: list[dict[str, Any]], options: ImportOptions) -> Contents:
    stored = minari_reading.open_stored(folder if (folder / "metadata.json").exists() else folder / "data")
    environment = options.environment or stored.environment
    environment = None if environment == NOWHERE else environment
    _refuse_clock_of_nothing(options, environment)
    if options.timeouts != ImportOptions().timeouts:
        raise ValueError(f"{folder}: --timeouts is for files in D4RL's layout; Minari's episodes know their ends")
    if options.actions == "scale" and stored.is_flat:
        raise ValueError(f"{folder}: --actions scale, but its actions were brought to [-1, 1] when it was prepared")
    # What the data says of its environment, arguments and clock; another environment comes with its own.
    own = stored.environment
    is_own = environment and own and environments.bare_id(environment) == environments.bare_id(own)
    spec = stored.environment_spec if is_own else None
    if is_own and options.max_episode_steps is None:
        options = options._replace(max_episode_steps=stored.provenance.get("max_episode_steps"))
    facts = None
    if environment is not None:
        facts = environments.inspect(environment, spec, clock=options.max_episode_steps)
    if options.actions == "scale":
        bounds = stored.action_range
        if not bounds.is_bounded:
            bounds = _units(np.concatenate(list(minari_reading.read_actions(stored))), facts)
        stored = stored._replace(action_range=bounds)
    episodes, changes = minari_reading.read_and_clip(stored, may_clip=options.actions == "clip")
    for index, episode in enumerate(episodes):
        try:
            check_episode(episode, index, None)
        except ValueError as error:
            raise ValueError(f"{stored.folder}, {error}") from error
    if environment is not None:
        keys, clock = stored.observation_keys, options.max_episode_steps
        environments.make(environment, spec, keys=keys, actions=stored.action_range, clock=clock).close()
    provenance = {
        "environment": environment,
        "environment_spec": spec,
        "max_episode_steps": options.max_episode_steps,
        "step_limit": _data_clock(environment, facts),
        "sources": sources,
        "changes": changes._asdict(),
        "observation_keys": stored.observation_keys,
        "action_range": stored.action_range,
    }
    algorithm = str(stored.metadata.get("algorithm_name", "recorded elsewhere"))
    scores = stored.reference_scores or _reference_scores(name, environment)
    return _contents(name, episodes, scores, algorithm, provenance, options)


def _refuse_lost_rewards(files: Sequence[Path], findings: Sequence[Findings], episodes: Sequence[Episode]) -> None:
    """Refuses files of whose rewards nothing is left: a policy would learn from zeros."""
    recorded = sum(finding.reward_recorded for finding in findings)
    if recorded and not any(episode.rewards.any() for episode in episodes):
        raise ValueError(
            f"{', '.join(map(str, files))}: the rewards add up to {recorded:,.6g} and all of them are in transitions "
            f"that cannot be kept ({sum(f.dropped_truncated for f in findings):,} rows at time-outs without "
            f"next_observations, {sum(f.dropped_behind for f in findings):,} behind a terminal); flag ends of the task "
            "as terminals, or record next_observations"
        )


def _contents(
    name: str,
    episodes: Sequence[Episode],
    scores: tuple[float, float] | None,
    algorithm: str,
    provenance: dict[str, Any],
    options: ImportOptions,
) -> Contents:
    files = ", ".join(source["file"] for source in provenance["sources"])
    return Contents(
        episodes=episodes,
        observation_space=gym.spaces.Box(-np.inf, np.inf, episodes[0].observations.shape[1:], np.float32),
        action_space=gym.spaces.Box(-1, 1, episodes[0].actions.shape[1:], np.float32),
        reference_scores=scores,
        description=f"{name}, converted from {files}",
        algorithm=algorithm,
        provenance={
            **provenance,
            "origin": d4rl_tasks.find_origin(name, provenance["sources"]),
            "timeouts": options.timeouts,
            "actions": options.actions,
        },
    )


def _environment(name: str, files: Sequence[Path], given: str | None) -> str | None:
    """The environment to evaluate in: the one given, the one the files name, or the table's; None for nowhere."""
    table = D4RL_TASKS[name].environment if name in D4RL_TASKS else None
    has_none_here = name in D4RL_TASKS and table is None
    if given == NOWHERE or (given is None and has_none_here):
        return None
    named = {path.name: d4rl.environment_of(path) for path in files if path.suffix != ".npz"}
    table = table or ogbench.environment_of(name)
    usable = sorted({e for e in named.values() if e is not None and environments.is_known(e)})
    if given is None and len({environments.robot_name(e) for e in named.values() if e is not None}) > 1:
        raise ValueError(f"the files name different environments: {named}; name the one to evaluate in with --env")
    environment = given or (usable[-1] if usable else table)
    if environment is None:
        if unusable := sorted({e for e in named.values() if e is not None}):
            raise ValueError(
                f"{', '.join(map(str, files))}: metadata/environment names {', '.join(unusable)}, which Gymnasium does "
                "not know here; name the environment to evaluate in with --env, or --env none for a world model alone"
            )
        return None
    if not environments.is_known(environment):
        raise ValueError(
            f"{environment!r} is not an environment that Gymnasium knows here; name another with --env, one of your "
            "own as MODULE:ID"
        )
    if table is not None and environments.robot_name(environment) != environments.robot_name(table):
        raise ValueError(f"{name} is a task of {table}, the data one of {environment}; give it a name of its own")
    return environment


def _reference_scores(name: str, environment: str | None) -> tuple[float, float] | None:
    if name in D4RL_TASKS:
        return D4RL_TASKS[name].reference_scores
    return environments.REFERENCE_SCORES.get(environments.robot_name(environment or ""))
