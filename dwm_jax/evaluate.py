"""Runs a finished method's policies in their environment: seconds, no data, no checkpoints.

    python -m dwm_jax.evaluate runs/quickstart                              every method of the run
    python -m dwm_jax.evaluate runs/quickstart/policies/DWM-TD3BC.npz       one of them, from anywhere
    python -m dwm_jax.evaluate runs/quickstart --episodes 50 --seed 7       more episodes, other starts
    python -m dwm_jax.evaluate runs/quickstart --video policy.mp4           and a film of the first policy
    python -m dwm_jax.evaluate mine.npz --import my_robot                   whose environment my_robot registers
    python -m dwm_jax.evaluate runs/quickstart --dream dream.gif            no policy: a film of the world model

A run leaves its policies in WORKDIR/policies, one .npz per method: parameters, normaliser and settings of all seeds,
environment, ranges and reference scores. The file alone is enough, on any machine. It may be anybody's: nothing in it
is called, and no module imported that --import does not name. A planner (DD) is exported whole and plans at every step.
The number of episodes and the seed are by default those of the run's own evaluations where RUN is a workdir, which
repeats the last of them: on the run's machine with the same returns. For one .npz they are the default config's.
Another --seed starts from other states.

The dream needs the run's workdir, its data and the world model beside it, and no display: the longest held-out
episode, and beside it what the world model imagines from its first state on, each time from the state that it imagined
last, told the recorded action and return-to-go (dwm_jax/phases/dreaming.py says what that shows and what not). Mazes
are drawn with their ball, robots by their simulator where this machine can, else the entries of their states as lines.
"""

import argparse
import gc
import itertools
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dwm_jax.config import default_config
from dwm_jax.data.environments import name_failures
from dwm_jax.data.tasks import Task, get_task, make_evaluation_task
from dwm_jax.limits import MOST_EPISODES
from dwm_jax.phases.dreaming import dream
from dwm_jax.results import dream_frames, films, policy_files
from dwm_jax.results.evaluator import Evaluator, normalized_scores
from dwm_jax.results.policy_files import ExportedPolicies
from dwm_jax.results.scores import format_spread
from dwm_jax.runtime import cluster, files, own_modules, terminal
from dwm_jax.runtime.arguments import local_path
from dwm_jax.runtime.keys import NUM_SEEDS
from dwm_jax.runtime.progress import one_line, printable, say, show_progress
from dwm_jax.workdir import reopen_run

# Of the first episode; every following one has the next seed, up to NUM_SEEDS - 1.
LARGEST_SEED = NUM_SEEDS - MOST_EPISODES


@terminal.guard_output()
def main(arguments: list[str] | None = None) -> None:
    options = options_of(arguments)
    try:
        cluster.find_devices()
        own_modules.import_all(options.own_modules)
        own = read_evaluation_settings(options.run)
        num_episodes = own[0] if options.episodes is None else options.episodes
        seed = own[1] if options.seed is None else options.seed
        if options.dream is not None:
            film_dream(options.run, seed, options.dream)
            return
        exported = find_exported_files(options.run)
        if options.video is not None:
            films.check_name("--video", options.video)
        if options.run.is_file():
            policy_files.load(options.run)  # before a table begins
        if options.video is not None:
            check_drawing(find_task(policy_files.load(exported[0])))
    except (RuntimeError, ValueError, OSError) as error:
        fail(error)
        sys.exit(2)
    print("| method | task | seeds | episodes | return | score (0-1) | score (0-100) |")
    print("|---|---|---|---|---|---|---|", flush=True)
    failed = False
    for number, file in enumerate(exported):
        try:
            policies = policy_files.load(file)
            print(printable(evaluate_policies(policies, find_task(policies), num_episodes, seed)), flush=True)
            if options.video is not None and number == 0:
                film_episode(policies, find_task(policies), seed, options.video)
                say(f"{options.video}: {policies.method}, seed {policies.seeds[0]}")
        except (ValueError, OSError, FloatingPointError) as error:
            failed = True
            fail(error)  # and the next one
    if failed:
        sys.exit(1)


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; leaves with a line about options that are wrong, or mean nothing together."""
    parser = argparse.ArgumentParser(
        terminal.spell_commands("python -m dwm_jax.evaluate"),
        description=terminal.spell_commands(__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=local_path, metavar="RUN", help="a run's workdir, or one exported .npz")
    parser.add_argument("--episodes", type=int, help="per policy (default: as in the run's own evaluations)")
    parser.add_argument(
        "--seed", type=int, help="of the first episode's start, or of the dream (default: the run's evaluation.seed)"
    )
    own_modules.add_flag(parser)
    parser.add_argument(
        "--video", type=local_path, metavar="OUT.mp4", help="films one episode of the first seed's policy"
    )
    parser.add_argument("--dream", type=local_path, metavar="OUT.gif", help="films the world model instead; or OUT.mp4")
    options = parser.parse_args(arguments)
    if options.episodes is not None and not 1 <= options.episodes <= MOST_EPISODES:
        parser.error(f"--episodes must be from 1 to {MOST_EPISODES:,}: they run side by side")
    if options.seed is not None and not 0 <= options.seed <= LARGEST_SEED:
        parser.error(f"--seed must be from 0 to {LARGEST_SEED:,}")
    if options.dream is not None and options.video is not None:
        parser.error("--video films a policy, --dream the world model: one of them at a time")
    if options.dream is not None and options.episodes is not None:
        parser.error("--episodes are a policy's, and --dream films the world model: one of them at a time")
    return options


def fail(error: BaseException) -> None:
    """Says what is wrong in one line."""
    say(f"error: {one_line(error)}")


def read_evaluation_settings(run: Path) -> tuple[int, int]:
    """(episodes, seed of the first one's start) of a run's own evaluations; the default config's where RUN is no run.

    Raises:
      ValueError: RUN is one whose config.json does not tell.
    """
    own = default_config().evaluation.to_dict()
    try:
        own |= (files.find_json(run / "config.json") or {}).get("evaluation", {}) if run.is_dir() else {}
        episodes, seed = int(own["episodes"]), int(own["seed"])
        if not (1 <= episodes <= MOST_EPISODES and 0 <= seed <= NUM_SEEDS - episodes):
            raise ValueError(f"{episodes} episodes from seed {seed}")
        return episodes, seed
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{run / 'config.json'} does not tell how the run is evaluated: {error}") from error


def find_task(policies: ExportedPolicies) -> Task:
    """Where policies are evaluated: as their file tells, or the data where it does not (version 0.2)."""
    if policies.evaluated_in is None:
        return get_task(policies.task, num_steps=0, seed=0)
    return make_evaluation_task(policies.task, policies.evaluated_in)


def find_exported_files(run: Path) -> list[Path]:
    """The exported policies that RUN names.

    Raises:
      ValueError: there are none.
    """
    if run.is_file():
        return [run]
    if not run.is_dir():
        raise ValueError(f"{run}: no such file or folder")
    # An earlier version left NAME.new.npz behind where it was killed.
    exported = sorted(path for path in (run / "policies").glob("*.npz") if not path.name.endswith(".new.npz"))
    if not exported:
        raise ValueError(f"{run} holds no policies/*.npz: name the workdir of a run whose policies are finished")
    return exported


def evaluate_policies(policies: ExportedPolicies, task: Task, num_episodes: int, seed: int) -> str:
    """One row of the table: mean and standard deviation over the policies of all seeds."""
    evaluator = Evaluator(task.make_env, len(policies.seeds), num_episodes, seed)
    decisions = itertools.count()
    # The row that follows takes the bar's place.
    with show_progress(policies.method, evaluator.longest(), stays=False) as progress:
        episodes = evaluator(
            lambda o: np.asarray(policies.act(o.astype(np.float32), next(decisions))), on_step=progress.advance
        )
    evaluator.close()
    returns_SE = episodes.returns
    scores_S = normalized_scores(returns_SE, task.reference_scores).mean(axis=1)
    returns_S = returns_SE.mean(axis=1)
    return (
        f"| {policies.method} | {task.name} | {len(policies.seeds)} | {num_episodes} "
        f"| {format_spread(returns_S, 1)} | {format_spread(scores_S, 2)} | {format_spread(100 * scores_S, 1)} |"
    )


def film_episode(policies: ExportedPolicies, task: Task, seed: int, path: Path) -> None:
    """One episode of the first seed's policy, frame by frame into the file, at the simulator's own speed."""
    env: gym.Env[Any, Any] = task.make_env(render_mode="rgb_array")
    steps_a_second = int(env.metadata.get("render_fps", 30))
    each = films.steps_a_frame(steps_a_second)

    def frames() -> Iterator[np.ndarray]:
        observation, _ = env.reset(seed=seed)
        yield np.asarray(env.render())
        for decision in itertools.count():
            # The other seeds' policies see the same observation and are not asked.
            observation_SEO = np.broadcast_to(np.float32(observation), (len(policies.seeds), 1, len(observation)))
            action_A = np.asarray(policies.act(observation_SEO, decision)[0, 0])
            with name_failures(f"the environment of the film, in step {decision},"):
                observation, _, terminated, truncated, _ = env.step(action_A)
            is_last = terminated or truncated
            if is_last or (decision + 1) % each == 0:
                yield np.asarray(env.render())
            if is_last:
                return

    films.write(path, frames(), steps_a_second / each)
    env.close()


def check_drawing(task: Task) -> None:
    """Draws one frame, before anything is evaluated.

    Raises:
      ValueError: this machine cannot; the message has the remedy.
    """
    reason = why_not_drawn(task)
    if reason:
        raise ValueError(
            f"--video: this machine cannot draw ({reason}); without a display set MUJOCO_GL=egl (a "
            "graphics card, or Mesa's libEGL) or MUJOCO_GL=osmesa (the library libOSMesa), which draw off the screen"
        )


def why_not_drawn(task: Task) -> str:
    """Why this machine cannot draw the environment; empty where it can."""
    # Drivers warn beside what they raise, and a viewer that was never whole complains again as it is collected.
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    reason = ""
    with warnings.catch_warnings(action="ignore"):
        env = task.make_env(render_mode="rgb_array")
        try:
            env.reset(seed=0)
            np.asarray(env.render()).reshape(1, -1)
        except Exception as error:  # whatever a simulator's drivers raise
            reason = f"{type(error).__name__}: {error}".rstrip(".")
        with suppress(Exception):
            env.close()
        del env
        gc.collect()
    sys.unraisablehook = hook
    return reason


def film_dream(workdir: Path, seed: int, path: Path) -> None:
    """A recorded episode and the world model's dream of it, side by side in a film.

    Raises:
      ValueError: the name of the film, the run, its data or its world model is not in order.
    """
    films.check_name("--dream", path)
    if workdir.is_file():
        raise ValueError(f"--dream needs the workdir of a run, with its data and world model; {workdir} is a file")
    run = reopen_run(workdir)
    dreamt = dream(run, seed)
    films.write(path, dream_frames.draw_frames(dreamt, choose_scene(run.task)), dream_frames.FPS)
    say(f"{path}: {dreamt.title}. {' '.join(dreamt.told.split())}")


def choose_scene(task: Task) -> dream_frames.Scene:
    """How the states of a task are drawn here."""
    if task.maze is not None:
        return dream_frames.make_maze_scene(task.maze)
    if not task.has_environment:
        return dream_frames.draw_lines
    reason = why_not_drawn(task)
    if reason:
        say(f"this machine cannot draw the simulator ({reason}): the entries of the states are drawn as lines")
        return dream_frames.draw_lines
    return dream_frames.find_simulator_scene(task.make_env(render_mode="rgb_array")) or dream_frames.draw_lines


if __name__ == "__main__":
    main()
