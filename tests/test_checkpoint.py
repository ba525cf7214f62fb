"""Checkpoints: what was saved comes back to the bit, and the newest two are kept."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dwm_jax.checkpoint import Checkpoints
from dwm_jax.normalizers import CdfNormalizer, fit_cdf


class State(NamedTuple):
    params: dict[str, jax.Array]
    optimizer_state: optax.OptState
    normalizer: CdfNormalizer


def state(value: float) -> State:
    params = {"w": jnp.full((3, 2), value), "b": jnp.arange(2.0)}
    return State(params, optax.adam(0.1).init(params), fit_cdf(np.arange(10.0)[:, None]))


def test_round_trip_keeps_structure_and_bits(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore(state(0.0)) is None
    checkpoints.save(5, state(1 / 3))
    checkpoints.close()

    step, restored = Checkpoints(tmp_path).restore(state(0.0)) or (None, None)
    assert step == 5
    assert jax.tree.structure(restored) == jax.tree.structure(state(0.0))
    jax.tree.map(np.testing.assert_array_equal, restored, state(1 / 3))


def test_newest_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3, 4):
        checkpoints.save(step, state(float(step)))
    assert sorted(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()) == [3, 4]
    assert checkpoints.latest_step() == 4


def test_saving_a_step_again_changes_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1.0))
    checkpoints.save(1, state(2.0))
    _, restored = checkpoints.restore(state(0.0)) or (None, None)
    assert restored is not None
    np.testing.assert_array_equal(restored.params["w"], jnp.full((3, 2), 1.0))
