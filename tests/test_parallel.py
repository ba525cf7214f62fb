"""Devices and seeds change how a run is computed, not what it computes."""

import os
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax import parallel
from dwm_jax.train import train
from tests import tiny

ROOT = Path(__file__).parents[1]
METHODS = "DWM-TD3BC,OneStep-TD3BC"

RUN_ON_EIGHT = f"""
import jax, pathlib, sys
from dwm_jax.train import train
from tests import tiny
assert jax.local_device_count() == 8
train(tiny.config(methods="{METHODS}"), pathlib.Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one_device")
    train(tiny.config(methods=METHODS), folder / "run")
    return folder


def test_eight_devices_give_the_result_of_one(on_one_device: Path, tmp_path: Path) -> None:
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    subprocess.run(
        [sys.executable, "-c", RUN_ON_EIGHT, str(tmp_path / "run")],
        check=True,
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
    )
    expected, arrays = tiny.final_arrays(on_one_device), tiny.final_arrays(tmp_path)
    assert expected.keys() == arrays.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(arrays[name], array, rtol=1e-3, atol=2e-5, err_msg=name)


def test_a_seed_alone_gives_the_result_it_has_among_others(on_one_device: Path) -> None:
    # The world models are found again; only the policy of seed 1 is learnt anew, by itself.
    train(tiny.config(methods="DWM-TD3BC", seed=1, num_seeds=1), on_one_device / "alone")
    together = tiny.final_arrays(on_one_device / "run")
    alone = tiny.final_arrays(on_one_device / "alone")
    for name, array in ((name, array) for name, array in alone.items() if "states_S" in name):
        np.testing.assert_allclose(array[0], together[name][1], rtol=1e-3, atol=2e-5, err_msg=name)


def test_batches_are_a_function_of_key_and_step() -> None:
    def draw(state: jax.Array, data: None, step: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        indices, _ = parallel.batch_for(jax.random.key(3), step, 4, 100)
        return state, {"indices": indices}

    state = parallel.replicate(jnp.zeros(()))
    _, from_zero = parallel.scan_updates(draw, 6)(state, None, 0)
    _, from_four = parallel.scan_updates(draw, 2)(parallel.replicate(jnp.zeros(())), None, 4)
    np.testing.assert_array_equal(from_zero["indices"][4:], from_four["indices"])
    assert len(np.unique(from_zero["indices"])) > 6


def test_chunks_cover_every_item_once() -> None:
    chunks = list(parallel.map_chunks(lambda data, i: data * i, 4)(10, parallel.replicate(jnp.array(2))))
    np.testing.assert_array_equal(np.concatenate(chunks), 2 * np.arange(10))


def test_other_data_and_another_number_of_items_do_not_compile_again() -> None:
    @chex.assert_max_traces(n=1)
    def double(data: jax.Array, index: jax.Array) -> jax.Array:
        return data * index

    chunks = parallel.map_chunks(double, 4)
    for factor, count in ((2, 10), (3, 5)):
        drawn = np.concatenate(list(chunks(count, parallel.replicate(jnp.array(factor)))))
        np.testing.assert_array_equal(drawn, factor * np.arange(count))
