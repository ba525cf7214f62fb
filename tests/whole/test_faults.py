"""A kill, and a full disk, at every write of every command: the same command then ends with the same bits.

Counted, not timed: `tests/faults.py` hears of every write. What is learnt is a linear map, its episodes have one step,
and pictures are four bytes: it is the writes that are tried, and there are as many as in any run.
"""

import errno
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest

from dwm_jax import registry
from dwm_jax.data import __main__ as data_command
from dwm_jax.learners.td3_bc import TD3BC
from dwm_jax.results.evaluator import BatchPolicy, Episodes, Evaluator
from dwm_jax.train import train
from experiments.report import __main__ as report_command
from tests import faults, tiny
from tests.data.d4rl_files import arrays_of, make_episodes, write

# pytest's `record_property`: counts go into its report (`--junit-xml`).
Record = Callable[[str, object], None]
# What `dwm_jax.train` turns into one line and an exit code; anything else would be a traceback.
SAID = (RuntimeError, ValueError, FloatingPointError, OSError)
# Wall-clock figures stand in these, and nothing else differs between two undisturbed runs.
WALL_CLOCK = ("timing.jsonl", "starts.jsonl", "diagnostics.json", "summary.md")


_trainings = itertools.count(1)


class LinearLearner(TD3BC):
    """Actions are a linear map of observations, moved towards the recorded ones; compiled in a tenth of a second."""

    @property
    def period(self) -> int:
        return 1

    def init(self, key: jax.Array) -> Any:
        return 0.1 * jax.random.normal(key, (self.action_size, self.observation_size))

    def update(self, state: Any, batch: Any, expand: Any, keys: Any, step: Any, average: Any) -> tuple[Any, Any]:
        error_BA = batch.observation @ state.T - batch.action
        gradient = average(error_BA.T @ batch.observation / len(error_BA))
        metrics = {"actor/loss": average(jnp.mean(error_BA**2)), "critic/q": jnp.zeros(())}
        return state - 0.1 * gradient, metrics

    def explore(self, state: Any, observation_O: jax.Array, key: jax.Array) -> jax.Array:
        return self.act(state, observation_O)

    def inference(self, state: Any) -> Any:
        return state

    def act(self, inference: Any, observation_O: jax.Array) -> jax.Array:
        return jnp.clip(inference @ observation_O, -1, 1)

    def value(self, state: Any, observation_O: jax.Array) -> jax.Array:
        return jnp.zeros(())


class FirstStepAlone(Evaluator):
    """Episodes of one step from made-up starts; what a policy does there is its return."""

    def __call__(self, policy: BatchPolicy) -> Episodes:
        starts = np.random.default_rng(0).normal(size=(*self._shape, 4))
        returns = policy(starts).sum(axis=-1)
        return Episodes(returns, returns, starts)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.LEARNERS, "td3_bc", LinearLearner)
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda self, file, **how: file.write(b"PNG\n"))
    monkeypatch.setattr("dwm_jax.workdir.Evaluator", FirstStepAlone)


# ---------------------------------------------------------------------------------------------- commands


def run_training(root: Path, name: str = "run") -> int:
    config = tiny.config(
        methods="TD3+BC",
        num_seeds=2,
        policy__num_updates=10,
        updates_per_dispatch=5,
        checkpoint_every=5,
        evaluation__every=5,
        data__num_steps=600,
    )
    if next(_trainings) % 10 == 0:
        jax.clear_caches()  # a process has room for so many programs, see conftest.py
    try:
        train(config, root / name)
    except SAID as error:
        print(f"error: {error}")
        return 1
    return 0


def prepare(root: Path) -> int:
    return data_command.main(["prepare", "mine-v0", "--file", str(root.parent / "mine.hdf5")])


def report(root: Path) -> int:
    try:
        report_command.main([str(root.parent / "runs"), "-o", str(root / "report")])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def outcome(root: Path) -> dict[str, Any]:
    """Everything that must be the same, by name: arrays of checkpoints, and the other files' bytes."""
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    leftovers = [name for name in files if "partial" in name or "orbax-checkpoint-tmp" in name or "damaged" in name]
    assert not leftovers, leftovers
    same: dict[str, Any] = {
        name: path.read_bytes()
        for name, path in files.items()
        if "checkpoints/" not in name and path.name not in WALL_CLOCK and not path.name.endswith(".lock")
    }
    for name in WALL_CLOCK:
        same |= {place: "not empty" for place, path in files.items() if path.name == name and path.stat().st_size}
    return same | {name: array.tobytes() for name, array in tiny.final_arrays(root).items()}


COMMANDS = {"a run": run_training, "prepare": prepare, "report": report}


@pytest.fixture
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that the commands write lies below it; beside it, what they read."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root" / "minari"))
    (tmp_path / "root").mkdir()
    write(tmp_path / "mine.hdf5", arrays_of(make_episodes([(2, True)] * 3, 11, 3)), "Hopper-v5")
    if request.node.callspec.params["name"] == "report":
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
        assert run_training(tmp_path / "runs") == 0
    return tmp_path / "root"


def empty(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_at_any_write_changes_nothing(name: str, root: Path, record_property: Record) -> None:
    command = COMMANDS[name]
    states = faults.states_of_kills(root, root.parent / "states", lambda: command(root))
    expected = outcome(root)
    for state in states:
        shutil.rmtree(root)
        shutil.copytree(state, root, symlinks=True)
        assert command(root) == 0, state
        assert outcome(root) == expected, state
    record_property("kills", len(states))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_is_full_from_any_write_on_is_said_and_changes_nothing(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], record_property: Record
) -> None:
    command = COMMANDS[name]
    assert command(root) == 0
    expected = outcome(root)
    for first in itertools.count(1):
        empty(root)
        capfd.readouterr()
        with faults.full_disk(root, first, monkeypatch) as refused:
            code = command(root)
        if not refused:
            break
        shown = capfd.readouterr()
        assert code in (1, 2), refused
        # One line says it, and names a file.
        lines = [line for line in (shown.out + shown.err).splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, refused
        assert str(root) in lines[0], lines[0]
        assert os.strerror(errno.ENOSPC) in lines[0], lines[0]
        assert command(root) == 0, refused
        assert outcome(root) == expected, refused
    record_property("full_disks", first - 1)
