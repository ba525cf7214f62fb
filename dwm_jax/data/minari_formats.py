"""The arrays of the episodes in a folder of Minari's, from the formats that it writes.

Not through Minari's readers: those also decode the infos, which are often larger than the data (and whose
one-dimensional arrays Minari's Arrow reader stumbles over).
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5s

from dwm_jax.data.spaces import KeyPath

EPISODES_PER_OPENING = 250
# What is read of an episode.
_COLUMNS = ["observations", "actions", "rewards", "terminations"]


def read_hdf5(folder: Path, num_episodes: int, paths: Sequence[KeyPath]) -> Iterator[list[np.ndarray]]:
    """Of every episode the arrays at `paths`."""
    # Opened anew now and then: an open file keeps about 50 kB of HDF5's own for every episode that was read.
    for start in range(0, num_episodes, EPISODES_PER_OPENING):
        with h5py.File(folder / "main_data.hdf5", "r") as file:
            for index in range(start, min(start + EPISODES_PER_OPENING, num_episodes)):
                yield [_hdf5_array(file, "/".join((f"episode_{index}", *path))) for path in paths]


def _hdf5_array(file: h5py.File, path: str) -> np.ndarray:
    # The C library's own calls: h5py's groups and data sets cost twice as much, and short episodes are nothing else.
    dataset = h5d.open(file.id, path.encode())
    array = np.empty(dataset.shape, dataset.dtype)
    dataset.read(h5s.ALL, h5s.ALL, array)
    return array


def read_arrow(folder: Path, num_episodes: int, paths: Sequence[KeyPath], kind: str) -> Iterator[list[np.ndarray]]:
    """As `read_hdf5`; `kind` is "arrow" or "parquet"."""
    for index in range(num_episodes):
        table = _arrow_table(folder / str(index), kind)
        yield [_arrow_array(table, *path) for path in paths]


def _arrow_table(folder: Path, kind: str) -> Any:
    import pyarrow.ipc  # Minari's extra "arrow"; open_stored has asked for it already
    import pyarrow.parquet

    # File by file: looking for the files as pyarrow.dataset does takes it longer than reading them.
    tables = []
    for name in sorted(os.listdir(folder)):
        if name.startswith(("_", ".", "metadata.json")):
            continue
        if kind == "parquet":
            with pyarrow.parquet.ParquetFile(folder / name) as file:
                tables.append(file.read(columns=_COLUMNS))
        else:
            with pyarrow.memory_map(str(folder / name)) as file:
                tables.append(pyarrow.ipc.open_file(file).read_all().select(_COLUMNS))
    return pyarrow.concat_tables(tables)


def _arrow_array(table: Any, name: str, *keys: str) -> np.ndarray:
    column = table[name]
    column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which copies even one chunk
    for key in keys:
        column = column.field(key)
    if str(column.type).startswith("fixed_size_list"):
        array = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    else:
        array = column.to_numpy(zero_copy_only=False)
    # Columns are of one length: what comes one by one with actions is padded by one row.
    return np.asarray(array if name == "observations" else array[:-1])
