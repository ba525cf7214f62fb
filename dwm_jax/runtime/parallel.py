"""Devices and seeds: engines over the devices of all processes, `vmap` over seeds, each device's share of a batch.

The result does not depend on the number of devices: every device computes the same global batch indices and
keys, takes its own slice, and gradients are averaged over the axis below.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.types import Array, Key, Metrics, PyTree

DEVICES = "devices"

# (state, data, steps (U,)) -> (state, metrics with a leading axis U): updates, one after the other; the steps are
# consecutive, from a multiple of U.
Updates = Callable[[PyTree, PyTree, Array], tuple[PyTree, Metrics]]

Axes = tuple[int | None, ...]


class Engine(NamedTuple):
    """What runs a function of one device on all of them. What lies on devices has a leading device axis in each."""

    # The devices along that axis of an array: this process's own, or those of all processes.
    devices: Callable[[], list[jax.Device]]
    # (function, in_axes, out_axes, donate_argnums) -> the compiled function of arrays with a device axis; where the
    # axis is None an argument or result is the same on all devices, and has none. The function returns a tuple.
    map: Callable[..., Callable[..., Any]]


def shard_map(function: Callable[..., Any], in_axes: Axes, out_axes: Axes, donate_argnums: Any = ()) -> Any:
    """`jax.shard_map` of a function that is written for `jax.pmap`, of global arrays, which no call has to convert."""

    def spec(axis: int | None) -> jax.P:
        return jax.P() if axis is None else jax.P(DEVICES)  # type: ignore[no-untyped-call]

    # Unchecked as in `pmap`: that every device ends with the same state is not to be read off the program.
    mapped = jax.shard_map(
        without_axes(function, in_axes, out_axes),
        mesh=jax.sharding.Mesh(np.array(jax.devices()), (DEVICES,)),
        in_specs=tuple(map(spec, in_axes)),
        out_specs=tuple(map(spec, out_axes)),
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=donate_argnums)


# By the name that `train --engine` takes. Between processes `pmap` makes local arrays global ones at every call.
ENGINES = {
    "pmap": Engine(jax.local_devices, partial(jax.pmap, axis_name=DEVICES)),
    "shard_map": Engine(jax.devices, shard_map),
}
PMAP = ENGINES["pmap"]


def num_devices() -> int:
    """Devices that share a batch, those of other processes included."""
    return jax.device_count()


def replicate(tree: PyTree, engine: Engine = PMAP) -> PyTree:
    """A copy of the tree on every device of the engine, with a leading device axis; every process gives the same tree.

    On a CPU no copy where a leaf starts at a multiple of 64 bytes, as those of `Dataset` do: the device then reads
    the host's memory, and nobody may write to it.
    """
    devices = engine.devices()
    mesh = jax.sharding.Mesh(np.array(devices), (DEVICES,))
    sharding = jax.NamedSharding(mesh, jax.P(DEVICES))  # type: ignore[no-untyped-call]

    def copy(leaf: Array) -> Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback((len(devices), *host.shape), sharding, lambda _: host[None])

    return jax.tree.map(copy, tree)


def first_copy(tree: PyTree) -> PyTree:
    """The first device's copy, left there, with its device axis of 1."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def unreplicate(tree: PyTree) -> PyTree:
    """The first device's copy, on the host: it can be saved, and restored on any number of devices."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], first_copy(tree))


def average(tree: PyTree) -> PyTree:
    """Mean over the devices; for use inside `make_dispatch`."""
    if jax.lax.axis_size(DEVICES) == 1:
        return tree  # on a CPU the mean of one is a copy of every gradient
    return jax.lax.pmean(tree, DEVICES)  # type: ignore[no-untyped-call]


def my_share(batch: PyTree) -> PyTree:
    """This device's equal slice of a global batch (leading axis B, divisible by the devices)."""

    def share(leaf: Array) -> Array:
        size = leaf.shape[0] // jax.lax.axis_size(DEVICES)
        start = jax.lax.axis_index(DEVICES) * size
        return jax.lax.dynamic_slice_in_dim(leaf, start, size)

    return jax.tree.map(share, batch)


def batch_for(key: Key, step: Array, batch_size: int, num_items: int) -> tuple[Array, Array]:
    """This device's share of the batch of one step: (indices, keys), a function of (key, step) alone.

    Args:
      key: the run's root key.
      step: number of the update.
      batch_size: B, over all devices.
      num_items: indices are uniform in [0, num_items), with replacement.
    """
    index_key, noise_key = jax.random.split(jax.random.fold_in(key, step))
    indices_B = jax.random.randint(index_key, (batch_size,), 0, num_items)
    return my_share((indices_B, jax.random.split(noise_key, batch_size)))


def repeat_update(update: Callable[[PyTree, PyTree, Array], tuple[PyTree, Metrics]]) -> Updates:
    """Many updates made of one, (state, data, step) -> (state, metrics)."""

    def updates(state: PyTree, data: PyTree, steps_U: Array) -> tuple[PyTree, Metrics]:
        return jax.lax.scan(lambda state, step: update(state, data, step), state, steps_U)

    return updates


def vmap_seeds(function: Callable[..., Any], in_axes: Axes, out_axes: Axes, number: int) -> Callable[..., Any]:
    """`jax.vmap` over the seeds; a single one is computed without the axis and gets it back afterwards.

    XLA multiplies [1, n, m] slower than [n, m] on a CPU, by a tenth or so of an update (PERFORMANCE.md).

    Args:
      function: of one seed; returns a tuple.
      in_axes, out_axes: as in `jax.vmap`, one entry per argument and result.
      number: of seeds.
    """
    return jax.vmap(function, in_axes, out_axes) if number > 1 else without_axes(function, in_axes, out_axes)


def without_axes(function: Callable[..., Any], in_axes: Axes, out_axes: Axes) -> Callable[..., tuple[PyTree, ...]]:
    """The function of arrays whose axes, as `jax.vmap` counts them, are of size 1: taken off, and put on afterwards."""

    def alone(*arguments: PyTree) -> tuple[PyTree, ...]:
        own = [move(jnp.squeeze, argument, axis) for argument, axis in zip(arguments, in_axes, strict=True)]
        return tuple(move(jnp.expand_dims, result, axis) for result, axis in zip(function(*own), out_axes, strict=True))

    def move(how: Callable[[Array, int], Array], tree: PyTree, axis: int | None) -> PyTree:
        return tree if axis is None else jax.tree.map(lambda leaf: how(leaf, axis), tree)

    return alone


def make_dispatch(
    updates: Updates, num_updates: int, engine: Engine = PMAP
) -> Callable[[PyTree, PyTree, int], tuple[PyTree, Metrics]]:
    """Many updates in one dispatch, on every device.

    Args:
      updates: may call `average` and `my_share`.
      num_updates: updates per dispatch.
      engine: that of `replicate`, too.

    Returns:
      (replicated state, replicated data, first step) -> (replicated state, metrics of every update with leading
      axis num_updates). The state is donated: the one passed in is gone.
    """

    def dispatch(state: PyTree, data: PyTree, first_step: Array) -> tuple[PyTree, Metrics]:
        return updates(state, data, first_step + jnp.arange(num_updates))

    return engine.map(dispatch, in_axes=(0, 0, None), out_axes=(0, None), donate_argnums=0)


def on_one_device(updates: Updates) -> Updates:
    """Updates as `make_dispatch` does them, on one device, without a device axis; neither compiled nor donated."""
    over_devices = jax.vmap(updates, in_axes=(0, 0, None), axis_name=DEVICES)

    def on_one(state: PyTree, data: PyTree, steps_U: Array) -> tuple[PyTree, Metrics]:
        state, data = jax.tree.map(lambda leaf: leaf[None], (state, data))
        return jax.tree.map(lambda leaf: leaf[0], over_devices(state, data, steps_U))

    return on_one


def map_chunks(
    function: Callable[[PyTree, Array], PyTree], chunk: int, engine: Engine = PMAP
) -> Callable[[int, PyTree], Iterator[PyTree]]:
    """A function of one index, for all of them in bulk; compiled once, however often it is called.

    Args:
      function: (data, index) -> item; it is vmapped here.
      chunk: items per device and dispatch.

    Returns:
      (number of items, data) -> an iterator of host trees with leading axis up to `num_devices() * chunk`; together
      they hold function(data, i) for every i below the number, on every process.
    """

    def dispatch(data: PyTree, start: Array, last: Array) -> tuple[PyTree]:
        mine = start + jax.lax.axis_index(DEVICES) * chunk + jnp.arange(chunk)
        # The last chunk repeats its last item: one compiled shape for all.
        result = jax.vmap(function, in_axes=(None, 0))(data, jnp.minimum(mine, last))
        return (jax.lax.all_gather(result, DEVICES, tiled=True),)

    on_all = engine.map(dispatch, in_axes=(0, None, None), out_axes=(None,))

    def run(num_items: int, data: PyTree) -> Iterator[PyTree]:
        on_devices, per_dispatch = replicate(data, engine), num_devices() * chunk
        for start in range(0, num_items, per_dispatch):
            valid = min(per_dispatch, num_items - start)
            (drawn,) = on_all(on_devices, start, num_items - 1)
            yield jax.tree.map(lambda leaf, valid=valid: np.asarray(leaf)[:valid], drawn)

    return run
