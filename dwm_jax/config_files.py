"""Config files: a path, or the name of one that is shipped; behind a colon the argument of its `get_config`.

    quickstart    recommended:hopper-medium-v2    experiments/configs/maze2d.py:medium    mine.py

The shipped ones are the files of `experiments/configs/`, which an installed package holds as `dwm_jax/experiments/`.
"""

import importlib.util
import inspect
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from ml_collections import ConfigDict

from dwm_jax.config import ConfigError

_PACKAGE = Path(__file__).resolve().parent
# Installed, or in a checkout.
_FOLDERS = [root / "experiments" / "configs" for root in (_PACKAGE, _PACKAGE.parent)]


def list_shipped() -> dict[str, Path]:
    """The files that have a name, by name."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])
    return {path.stem: path for path in sorted(folder.glob("[!_]*.py"))}


def find(named: str) -> str:
    """The path of the config file that is meant, with its argument as it is.

    A file that is there comes before a name.

    Raises:
      ConfigError: neither a file nor a known name.
    """
    name, colon, argument = named.partition(":")
    if Path(name).is_file():
        return named
    if name not in list_shipped():
        raise ConfigError(
            f"--config {name}: no such file, and no name of a shipped config: {', '.join(list_shipped())}"
        )
    return f"{list_shipped()[name]}{colon}{argument}"


def load(named: str) -> ConfigDict:
    """The config that `--config named` starts from; for a config of your own that overrides a little of it.

    Raises:
      ConfigError: neither a file nor a known name; or its get_config takes no argument and one is given, or needs one.
      Exception: of whatever kind, from the file, which is a program; ValueError where it refuses its argument.
    """
    path, colon, argument = find(named).partition(":")
    get_config = getattr(_module_at(path), "get_config", None)
    if not callable(get_config):
        raise ConfigError(f"--config {named}: it has no get_config")
    arguments = [argument] if colon else []
    try:
        inspect.signature(get_config).bind(*arguments)
    except TypeError as error:
        remedy = f"it takes no argument; leave :{argument} out" if colon else f"it needs an argument: {named}:ARGUMENT"
        raise ConfigError(f"--config {named}: {remedy}") from error
    config: ConfigDict = get_config(*arguments)
    return config


def _module_at(path: str) -> ModuleType:
    """The file as a module, under a name that no import asks for: a config may be called as a package is."""
    name = f"config {path}"
    spec = importlib.util.spec_from_loader(name, SourceFileLoader(name, path))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
