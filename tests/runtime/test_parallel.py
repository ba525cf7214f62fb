"""Devices and seeds change how a run is computed, not what it computes."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.runtime import parallel
from dwm_jax.runtime.checkpoints import Checkpoints
from dwm_jax.train import train
from tests import tiny

ROOT = Path(__file__).parents[2]
# The method that moves between machines while its policies are learnt.
MOVED = "DWM-TD3BC"


class StoppedError(Exception):
    """Stands for a kill."""


def run(workdir: Path, methods: str, stop_at: int | None, engine: str = "pmap") -> None:
    """A run on the devices there are; with `stop_at`, up to the checkpoint of that update of MOVED."""
    save = Checkpoints.save

    def save_then_stop(self: Checkpoints, step: int, state: object) -> None:
        save(self, step, state)
        if (self.directory.name, step) == (MOVED, stop_at):
            raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_then_stop)
        train(tiny.config(methods=methods), workdir, engine=parallel.ENGINES[engine])


RUN_ON_EIGHT = """
import pathlib, sys
from tests.runtime import test_parallel
workdir, methods, stop_at, engine = sys.argv[1:]
try:
    test_parallel.run(pathlib.Path(workdir), methods, int(stop_at) or None, engine)
except test_parallel.StoppedError:
    print("stopped")
"""


def on_eight(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program in a process with eight virtual devices; it ended well."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    process = subprocess.run(
        [sys.executable, "-c", "import jax\nassert jax.local_device_count() == 8\n" + program, *arguments],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process


def run_on_eight(workdir: Path, methods: str, stop_at: int | None = None, engine: str = "pmap") -> tuple[bool, str]:
    """`run` on eight virtual devices: (whether it was stopped, what it said)."""
    process = on_eight(RUN_ON_EIGHT, str(workdir), methods, str(stop_at or 0), engine)
    return process.stdout.endswith("stopped\n"), process.stderr


@pytest.fixture
def elsewhere(on_one_device: Path, tmp_path: Path) -> Path:
    """A place where the world models are found: what moves is the learning of policies."""
    shutil.copytree(on_one_device / "world_models", tmp_path / "world_models")
    return tmp_path


def assert_equal_up_to_rounding(arrays: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert expected.keys() == arrays.keys()
    for name, array in expected.items():
        tiny.assert_equal_up_to_rounding(arrays[name], array, name)


def test_eight_devices_give_the_result_of_one(on_one_device: Path, tmp_path: Path) -> None:
    assert not run_on_eight(tmp_path / "run", tiny.BULK_AND_FOLLOWING)[0]
    assert_equal_up_to_rounding(tiny.final_arrays(tmp_path), tiny.final_arrays(on_one_device))


def assert_ends_as_if_it_had_never_moved(workdir: Path, undisturbed: Path) -> None:
    expected = {name: array for name, array in tiny.final_arrays(undisturbed).items() if name.startswith(MOVED)}
    assert_equal_up_to_rounding(tiny.final_arrays(workdir), expected)
    evaluations = [
        [row[:-3] for row in csv.reader((folder / "results.csv").open()) if row[0] == MOVED]  # all but the scores
        for folder in (workdir, undisturbed)
    ]
    assert evaluations[0] == evaluations[1]
    assert len(evaluations[0]) == 4  # 2 seeds at updates 10 and 20


def test_learning_begun_by_shard_map_on_eight_devices_ends_by_pmap_on_one(
    on_one_device: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_on_eight(elsewhere / "run", MOVED, stop_at=10, engine="shard_map")[0]
    run(elsewhere / "run", MOVED, stop_at=None)
    assert f"{MOVED}: resuming from step 10" in capsys.readouterr().err
    assert_ends_as_if_it_had_never_moved(elsewhere / "run", on_one_device / "run")


def test_learning_begun_on_one_device_ends_on_eight(on_one_device: Path, elsewhere: Path) -> None:
    with pytest.raises(StoppedError):
        run(elsewhere / "run", MOVED, stop_at=10)
    stopped, said = run_on_eight(elsewhere / "run", MOVED)
    assert not stopped
    assert f"{MOVED}: resuming from step 10" in said
    assert_ends_as_if_it_had_never_moved(elsewhere / "run", on_one_device / "run")


def test_a_seed_alone_gives_the_result_it_has_among_others(on_one_device: Path, elsewhere: Path) -> None:
    # The world models are found again; only the policy of seed 1 is learnt anew, by itself.
    train(tiny.config(methods="DWM-TD3BC", seed=1, num_seeds=1), elsewhere / "alone")
    together = tiny.final_arrays(on_one_device / "run")
    alone = tiny.final_arrays(elsewhere / "alone")
    for name, array in ((name, array) for name, array in alone.items() if "states_S" in name):
        np.testing.assert_allclose(array[0], together[name][1], rtol=1e-3, atol=2e-5, err_msg=name)


def assert_both_engines_give_the_same_bits() -> None:
    """A line through 100 points, found by gradients of shares of noisy batches; and the points in bulk."""
    x_100 = np.linspace(-1, 1, 100, dtype=np.float32)
    points = np.stack([x_100, 2 * x_100 + 1], axis=1)

    def update(line: jax.Array, data: jax.Array, step: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        indices, keys = parallel.batch_for(jax.random.key(3), step, 16, len(points))
        noise = 0.1 * jax.vmap(jax.random.normal)(keys)
        x, y = data[indices].T
        loss, gradient = jax.value_and_grad(lambda line: jnp.mean((line[0] * x + line[1] - y - noise) ** 2))(line)
        return line - 0.1 * parallel.average(gradient), {"loss": parallel.average(loss)}

    def learn(engine: parallel.Engine) -> tuple[np.ndarray, ...]:
        dispatch = parallel.make_dispatch(parallel.repeat_update(update), 5, engine)
        first, data = parallel.replicate(np.zeros(2, np.float32), engine), parallel.replicate(points, engine)
        line, losses = dispatch(first, data, 0)
        assert first.is_deleted()
        line, more_losses = dispatch(line, data, 5)
        drawn = parallel.map_chunks(lambda data, index: data[index], 4, engine)(len(points), points)
        losses = np.concatenate([losses["loss"], more_losses["loss"]])
        return parallel.unreplicate(line), losses, np.concatenate(list(drawn))

    results = {name: learn(engine) for name, engine in parallel.ENGINES.items()}
    for one, other in zip(results["pmap"], results["shard_map"], strict=True):
        np.testing.assert_array_equal(one, other)
    _, losses, drawn = results["shard_map"]
    assert losses.shape == (10,)
    assert losses[-1] < losses[0] / 4
    np.testing.assert_array_equal(drawn, points)


def test_both_engines_give_the_same_bits_on_one_device_and_on_eight() -> None:
    assert_both_engines_give_the_same_bits()
    on_eight("from tests.runtime import test_parallel; test_parallel.assert_both_engines_give_the_same_bits()")


def test_batches_are_a_function_of_key_and_step() -> None:
    def draw(state: jax.Array, data: None, step: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        indices, _ = parallel.batch_for(jax.random.key(3), step, 4, 100)
        return state, {"indices": indices}

    draws, state = parallel.repeat_update(draw), parallel.replicate(jnp.zeros(()))
    _, from_zero = parallel.make_dispatch(draws, 6)(state, None, 0)
    _, from_four = parallel.make_dispatch(draws, 2)(parallel.replicate(jnp.zeros(())), None, 4)
    np.testing.assert_array_equal(from_zero["indices"][4:], from_four["indices"])
    assert len(np.unique(from_zero["indices"])) > 6


def test_chunks_cover_every_item_once() -> None:
    chunks = list(parallel.map_chunks(lambda data, i: data * i, 4)(10, jnp.array(2)))
    np.testing.assert_array_equal(np.concatenate(chunks), 2 * np.arange(10))


def test_other_data_and_another_number_of_items_do_not_compile_again() -> None:
    @chex.assert_max_traces(n=1)
    def double(data: jax.Array, index: jax.Array) -> jax.Array:
        return data * index

    chunks = parallel.map_chunks(double, 4)
    for factor, count in ((2, 10), (3, 5)):
        drawn = np.concatenate(list(chunks(count, jnp.array(factor))))
        np.testing.assert_array_equal(drawn, factor * np.arange(count))
