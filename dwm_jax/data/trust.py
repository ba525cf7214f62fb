"""Which modules may be imported for an environment: those that the user has named, never those that data name.

A data set, a policy file or a checkpoint says what an environment is called and with which arguments, never what to
import. An id with a module in front ("module:Id-v0") counts where a user of this machine has named that module: with
`prepare --env`, which is remembered beside the data sets, outside of all of them.
"""

import sys
from pathlib import Path

from minari.storage.datasets_root_dir import get_dataset_path

from dwm_jax.runtime import files


def allow(module: str) -> None:
    """Remembers that the user has named a module to import environments from."""
    if module not in _allowed():
        files.append(_memory(), module + "\n")


def is_allowed(module: str) -> bool:
    """Whether the user has named the module, or it is imported already."""
    return module in sys.modules or module in _allowed()


def _allowed() -> set[str]:
    return {line.strip() for line in files.read_lines(_memory())}


def _memory() -> Path:
    return Path(get_dataset_path("")) / ".trusted_modules"
