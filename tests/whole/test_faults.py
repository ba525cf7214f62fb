"""A kill, and a full disk, at every write of every command: the same command then ends with the same bits.

Counted, not timed: `tests/faults.py` hears of every write. What is learnt is a linear map, and pictures are four bytes:
it is the writes that are tried, and there are as many as in any run.
"""

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import pytest

from dwm_jax import registry
from dwm_jax.data import __main__ as data_command
from dwm_jax.learners.base import Learner
from dwm_jax.train import train
from experiments.report import __main__ as report_command
from tests import faults, tiny
from tests.data.d4rl_files import arrays_of, make_episodes, write

# What `dwm_jax.train` turns into one line and an exit code; anything else would be a traceback.
SAID = (RuntimeError, ValueError, FloatingPointError, OSError)
# Wall-clock figures stand in these, and nothing else differs between two undisturbed runs.
WALL_CLOCK = ("timing.jsonl", "starts.jsonl", "diagnostics.json", "summary.md")


def linear_learner(*, observation_size: int, action_size: int, **settings: object) -> Learner:
    """Actions are a linear map of observations, moved towards the recorded ones; compiled in a tenth of a second."""

    def init(key: jax.Array) -> jax.Array:
        return 0.1 * jax.random.normal(key, (action_size, observation_size))

    def update(
        state: jax.Array, batch: Any, expand: Any, keys: jax.Array, step: Any, average: Any
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        error_BA = batch.observation @ state.T - batch.action
        gradient = average(error_BA.T @ batch.observation / len(error_BA))
        return state - 0.1 * gradient, {"actor/loss": average(jnp.mean(error_BA**2))}

    return Learner(
        init=init,
        update=update,
        period=1,
        explore=lambda state, observation_O, key: jnp.clip(state @ observation_O, -1, 1),
        inference=lambda state: state,
        act=lambda state, observation_O: jnp.clip(state @ observation_O, -1, 1),
        value=lambda state, observation_O: jnp.zeros(()),
        scales_rewards=False,
        pessimistic=False,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.LEARNERS, "td3_bc", linear_learner)
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda self, file, **how: file.write(b"PNG\n"))


# ---------------------------------------------------------------------------------------------- commands


def run_training(root: Path) -> None:
    config = tiny.config(
        methods="TD3+BC",
        num_seeds=2,
        policy__num_updates=10,
        updates_per_dispatch=5,
        checkpoint_every=5,
        evaluation__every=5,
        data__num_steps=600,
    )
    train(config, root / "run")


def prepare(root: Path) -> None:
    assert data_command.main(["prepare", "mine-v0", "--file", str(root.parent / "mine.hdf5")]) == 0


def report(root: Path) -> None:
    report_command.main([str(root.parent / "runs"), "-o", str(root / "report")])


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
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that the commands write lies below it; beside it, what they read."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root" / "minari"))
    (tmp_path / "root").mkdir()
    write(tmp_path / "mine.hdf5", arrays_of(make_episodes([(2, True)] * 3, 11, 3)), "Hopper-v5")
    return tmp_path / "root"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_at_any_write_changes_nothing(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = COMMANDS[name]
    states = faults.states_of_kills(root, root.parent / "states", lambda: command(root))
    expected = outcome(root)
    print(f"{name}: {len(states)} kills")
    for state in states:
        shutil.rmtree(root)
        shutil.copytree(state, root, symlinks=True)
        command(root)
        assert outcome(root) == expected, state
