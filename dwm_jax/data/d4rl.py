"""Files in D4RL's HDF5 layout, as episodes.

    observations (N, O), actions (N, A), rewards (N,), terminals (N,)      always
    timeouts (N,), next_observations (N, O), metadata/environment                     in some files

`conversion` turns them into episodes: where these end, what becomes of their last transitions.
"""

import importlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5z

from dwm_jax.data import flat_arrays
from dwm_jax.data.flat_arrays import REQUIRED, FlatArrays
from dwm_jax.runtime import interruption

OPTIONAL = ("timeouts", "next_observations")


def environment_of(path: Path) -> str | None:
    """The environment a file names in metadata/environment (a text or an attribute), None where it names none."""
    with _open(path) as file:
        node = _found(file, "metadata")
        if not isinstance(node, h5py.Group):
            return None
        value: Any = node.attrs.get("environment")
        if isinstance(entry := _found(node, "environment"), h5py.Dataset):
            value = entry[()]
        value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
        value = value.decode(errors="replace") if isinstance(value, bytes) else value
        return value if isinstance(value, str) and value else None


def read_arrays(path: Path) -> FlatArrays:
    """The arrays of a file, actions as they are.

    Raises:
      ValueError: a file that is missing, truncated or not in the layout, or holds a value that is not finite. The
        message names the file, the array and the row.
    """
    with _open(path) as file:
        flat_arrays.check_names(file, str(path))
        raw = {key: _column(file, key, path) for key in REQUIRED + OPTIONAL if key in file}
    return flat_arrays.make_flat_arrays(raw, str(path))


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: truncated, or not an HDF5 file ({error})") from error


def _found(group: h5py.Group, key: str) -> Any:
    """What is there under a key; None where nothing is, or a link that leads nowhere or in a circle."""
    try:
        return group.get(key)
    except RuntimeError:
        return None


def _column(file: h5py.File, key: str, path: Path) -> np.ndarray:
    try:
        node = file[key]
        kind = f"of type {node.dtype}" if isinstance(node, h5py.Dataset) else "a group"
    except (KeyError, RuntimeError) as error:  # it leads nowhere, or in a circle
        raise ValueError(f"{path}: {key} is a link to what is not there ({error})") from error
    except TypeError as error:  # numpy has no such type
        raise ValueError(f"{path}: {key} cannot be read: {error}") from error
    if not isinstance(node, h5py.Dataset) or node.dtype.kind not in "fiub":
        raise ValueError(f"{path}: {key} is {kind}; a flat array of numbers is expected")
    if node.shape is None:
        raise ValueError(f"{path}: {key} is empty; a flat array of numbers is expected")
    interruption.raise_if_requested()
    flat_arrays.check_shape(key, node.shape, str(path))
    _find_filters(node, key, path)
    try:
        return np.asarray(node[()])
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: {key} cannot be read, the file is damaged ({error})") from error


def _find_filters(node: h5py.Dataset, key: str, path: Path) -> None:
    """Refuses data compressed with a filter that is missing here, by the filter's name."""
    properties = node.id.get_create_plist()
    for index in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(index)
        if not h5z.filter_avail(code):
            with suppress(ImportError):  # brings most of the filters there are, where it is installed
                importlib.import_module("hdf5plugin")
        if not h5z.filter_avail(code):
            known = name.decode(errors="replace") or "one without a name"
            raise ValueError(
                f"{path}: {key} is compressed with HDF5 filter {code} ({known}), which is not installed here; "
                "pip install hdf5plugin, or have the file written with gzip"
            )
