"""Numbers that are not finite: noticed at once, and with `--debug-nans` traced to the operation that made them."""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.runtime import parallel
from dwm_jax.runtime.parallel import Updates
from dwm_jax.types import PyTree

PACKAGE = Path(__file__).parents[1]

_searching: ContextVar[bool] = ContextVar("searching", default=False)


@contextmanager
def searching(wanted: bool) -> Iterator[None]:
    """Inside the block a run that meets a number that is not finite looks for the operation that made it."""
    token = _searching.set(wanted)
    try:
        yield
    finally:
        _searching.reset(token)


def is_searched() -> bool:
    """Whether runs are to look for the operation; they then keep the state before every dispatch."""
    return _searching.get()


def find_first_metric(metrics: Mapping[str, np.ndarray], first_step: int) -> tuple[int, str] | None:
    """(step, metric) of the earliest value that is not finite; metrics have a leading axis of steps."""
    found = [
        (first_step + int(np.argwhere(~np.isfinite(values))[0][0]), name)
        for name, values in metrics.items()
        if not np.isfinite(values).all()
    ]
    return min(found) if found else None


def find_first_leaf(tree: PyTree) -> str | None:
    """The path of a leaf that holds a number that is not finite; from an accelerator only one flag a leaf comes."""
    flags = jax.device_get(jax.tree.map(_is_finite, tree))
    bad = [path for path, finite in jax.tree_util.tree_leaves_with_path(flags) if not finite]
    return jax.tree_util.keystr(bad[0]) if bad else None


def _is_finite(leaf: jax.Array) -> jax.Array | np.bool:
    """Whether all of a leaf's numbers are finite."""
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return np.bool(True)
    # On a CPU numpy reads the device's own memory, and no shape needs a program.
    on_host = all(device.platform == "cpu" for device in leaf.devices())
    return np.isfinite(np.asarray(leaf)).all() if on_host else _is_finite_there(leaf)


# A program for each shape: one for the whole tree, of hundreds of leaves, takes seconds to compile.
@jax.jit
def _is_finite_there(leaf: jax.Array) -> jax.Array:
    return jnp.isfinite(leaf).all()


def find_first_number(metrics: Mapping[str, np.ndarray], on_devices: PyTree, steps: range) -> str | None:
    """What is not finite after a dispatch: the earliest metric, else a number of the state; None: nothing."""
    metric = find_first_metric(metrics, steps.start)
    if metric is not None:
        return f"{metric[1]} is not finite at update {metric[0]:,}"
    leaf = find_first_leaf(parallel.first_copy(on_devices))
    return None if leaf is None else f"{leaf} is not finite after update {steps.stop - 1:,}"


def find_cause(updates: Updates, before: PyTree | None, data: PyTree, steps: range) -> str:
    """The operation that made it, where it is searched for; otherwise how to search.

    Args:
      before: the state before the dispatch; None where nothing is searched.
      data: with a device axis.
    """
    if before is None:
        return "start the same command again with --debug-nans to find the operation"
    return find_first_operation(updates, before, parallel.unreplicate(data), steps)


def find_first_operation(updates: Updates, state: PyTree, data: PyTree, steps: range) -> str:
    """Repeats updates one at a time, and the first bad one operation by operation, which takes a minute or so.

    Args:
      updates, state, data: as in `phases.phase.Phase`, without a device axis.
      steps: the updates that were done from `state`.

    Returns:
      One line: the operation, its place in this package and the update; or that the repetition stayed finite, as it
      may where several devices round differently.
    """
    one_device = parallel.on_one_device(updates)
    repeat = jax.jit(one_device)
    state, data = jax.tree.map(jnp.asarray, (state, data))
    for step in steps:
        after, metrics = repeat(state, data, jnp.array([step]))
        if find_first_metric(jax.tree.map(np.asarray, metrics), step) is not None or find_first_leaf(after) is not None:
            break
        state = after
    else:
        return "repeated on one device, every number stayed finite"
    # Overflow first: it is what most often becomes a NaN later.
    try:
        with jax.disable_jit(), jax.debug_nans(True), jax.debug_infs(True):
            one_device(state, data, jnp.array([step]))
    except FloatingPointError as error:
        return f"update {step:,}: {error}{_place(error)}"
    return f"update {step:,}: every operation alone stayed finite"


def _place(error: BaseException) -> str:
    """The innermost line of this package that the error came through."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if PACKAGE in Path(frame.filename).parents]
    if not own:
        return ""
    frame = own[-1]
    return f" at {Path(frame.filename).relative_to(PACKAGE.parent)}:{frame.lineno} `{frame.line}`"
