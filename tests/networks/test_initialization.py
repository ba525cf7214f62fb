"""Initial parameters are flax's own, to the bit: without the network's arithmetic, and compiled sooner."""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.networks.initialization import LEVEL, compute_once, initial_parameters, lecun_normal
from dwm_jax.networks.temporal_unet import TemporalUnet
from dwm_jax.types import Array

ROWS = jnp.zeros((8, 5))
STEP, RETURN = jnp.ones(()), jnp.zeros(())
INPUTS = {
    "action and return": (ROWS, STEP, jnp.zeros(2), RETURN),
    "return alone": (ROWS, STEP, None, RETURN),
    "neither": (ROWS[:1], STEP, None, None),
}


@pytest.mark.parametrize("inputs", INPUTS.values(), ids=INPUTS)
def test_the_values_are_those_of_flax(inputs: tuple[Array | None, ...]) -> None:
    network: Any = TemporalUnet(16, (1, 2))
    expected = network.init(jax.random.key(3), *inputs)
    actual = initial_parameters(network, jax.random.key(3), *inputs)
    chex.assert_trees_all_equal_structs(actual, expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (4, 4), (17, 1), (2, 3, 5), (33, 31)])
@pytest.mark.parametrize("num_summed", [1, 5])
def test_draws_are_those_of_flax_whatever_their_shape(shape: tuple[int, ...], num_summed: int) -> None:
    expected = nn.initializers.variance_scaling(1 / num_summed, "fan_in", "truncated_normal")
    key = jax.random.key(3)
    np.testing.assert_array_equal(lecun_normal(key, shape, num_summed=num_summed), expected(key, shape))


def test_draws_of_like_size_are_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, draw = [], jax.random.truncated_normal
    monkeypatch.setattr(
        jax.random, "truncated_normal", lambda *arguments: sizes.append(arguments[3]) or draw(*arguments)
    )
    for shape in ((1, 1), (2, 2), (5, 1), (4, 4), (17, 1), (8, 8), (65, 1)):
        lecun_normal(jax.random.key(0), shape)
    assert sizes == [(4,), (4,), (16,), (16,), (64,), (64,), (256,)]


class Dense(nn.Module):
    """Two layers."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(3)(nn.relu(nn.Dense(4)(x)))


def test_nothing_is_computed_from_the_inputs() -> None:
    traced = jax.make_jaxpr(lambda key, x: initial_parameters(Dense(), key, x))(jax.random.key(0), jnp.ones(2))
    assert "dot_general" not in str(traced)
    assert "dot_general" in str(jax.make_jaxpr(Dense().init)(jax.random.key(0), jnp.ones(2)))


def test_what_is_computed_once_has_the_bits_that_xla_gives_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    init = jax.vmap(Dense().init, in_axes=(0, None))
    inputs = jax.random.split(jax.random.key(3), 3), jnp.ones(2)
    expected = jax.jit(init, compiler_options={LEVEL: 3})(*inputs)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    jax.tree.map(np.testing.assert_array_equal, compute_once(init, *inputs), expected)


def test_it_can_be_traced_as_a_resumed_run_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    shapes = jax.eval_shape(lambda: compute_once(lambda x: {"twice": 2 * x}, jnp.ones(3)))
    assert shapes == {"twice": jax.ShapeDtypeStruct((3,), jnp.float32)}


@pytest.mark.parametrize(
    ("flags", "options"), [("", {LEVEL: 1}), ("--xla_dump_to=there", {LEVEL: 1}), (f"--{LEVEL}=2", None)]
)
def test_a_level_of_the_users_own_is_kept(
    flags: str, options: dict[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", flags)
    given = []
    monkeypatch.setattr(jax, "jit", lambda function, compiler_options: given.append(compiler_options) or function)
    assert compute_once(lambda x: x + 1, 2) == 3
    assert given == [options]
