"""The command line of the main job: one config, one workdir, one clear line when something is wrong.

Exit codes: 0 done, 1 the run stopped (the line says why), 2 the command or its config is wrong, 75 another process is
at work in the workdir, 129 the terminal was closed, 130 interrupted from the keyboard, 143 by SIGTERM; after any of the
last four the same command continues the run.
"""

import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from dwm_jax import config_files
from dwm_jax.config import ConfigError, check, refuse_incomplete, refuse_unprepared
from dwm_jax.runtime import (
    checkpoints,
    cluster,
    interruption,
    locks,
    mirrors,
    non_finite,
    parallel,
    processes,
    terminal,
)
from dwm_jax.runtime.cluster import ClusterError
from dwm_jax.runtime.locks import InUseError
from dwm_jax.runtime.progress import one_line, say

# What absl takes for a request for help, behind its dashes.
HELP = frozenset({"help", "helpshort", "helpfull", "helpxml", "?"})


class TrainFlags(NamedTuple):
    """The flags; to be used once the command line is parsed."""

    config: flags.FlagHolder
    workdir: flags.FlagHolder
    debug_nans: flags.FlagHolder
    tensorboard: flags.FlagHolder
    wandb: flags.FlagHolder
    engine: flags.FlagHolder
    cluster: cluster.ClusterFlags

    def choose_mirrors(self) -> list[mirrors.Open]:
        """As `mirrors.choose_mirrors`, with its errors."""
        return mirrors.choose_mirrors(self.tensorboard.value, self.wandb.value)


# (config, workdir, mirrors, engine): `dwm_jax.train.train`.
Train = Callable[[ConfigDict, Path, Sequence[mirrors.Open], parallel.Engine], None]


def run(train: Train, usage: str | None, config: str | None = None) -> None:
    """Parses the command line, checks the config, trains.

    Args:
      config: the config file where --config names none.
    """
    terminal.prepare()
    logging.set_verbosity(logging.ERROR)  # ml_collections warns of what is refused here
    given = define_flags(config)
    # What --help prints: the usage, and these flags.
    sys.modules["__main__"].__doc__ = terminal.spell_commands(usage or "")
    for flag in (*given[:-1], *given.cluster):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[flag.name])
    app.run(lambda _: start(train, given), flags_parser=partial(parse, given))


def define_flags(config: str | None) -> TrainFlags:
    """Adds the flags to the command line; `config` is the default of --config."""
    config_flag = config_flags.DEFINE_config_file(
        "config",
        config,
        f"a config file, or the name of a shipped one: {', '.join(config_files.list_shipped())}; TASK goes behind a "
        "colon; --config.key=value overrides a field",
        lock_config=True,
    )
    flags.FLAGS["config"].parser = ConfigFileParser()
    return TrainFlags(
        config_flag,
        flags.DEFINE_string("workdir", None, "folder of the run: made, or resumed from"),
        flags.DEFINE_bool(
            "debug-nans", False, "when a number is not finite, repeat that update to find the operation that made it"
        ),
        flags.DEFINE_bool(
            "tensorboard", False, "also write metrics and scores as TensorBoard event files to WORKDIR/tensorboard"
        ),
        flags.DEFINE_string("wandb", None, "also log metrics and scores to this Weights & Biases project"),
        flags.DEFINE_enum(
            "engine",
            "pmap",
            list(parallel.ENGINES),
            "what runs the updates on all devices; the results are the same, and either resumes what the other began",
        ),
        cluster.define_flags(),
    )


def parse(given: TrainFlags, arguments: list[str]) -> list[str]:
    """Parses and checks the command line as far as that needs no device; leaves where something is wrong with it."""
    try:
        refuse_second_config(flags.FLAGS.read_flags_from_files(arguments, force_gnu=False))
        rest = flags.FLAGS(arguments)
        if rest[1:]:
            raise ConfigError(f"unexpected argument {rest[1]!r}; flags start with --")
        if given.config.value is None or not given.workdir.value:
            raise ConfigError("both --config FILE and --workdir DIR are needed; --help shows an example")
        for folder in filter(None, (given.workdir.value, given.config.value.world_model_dir)):
            checkpoints.refuse_place(folder)
        given.cluster.check()
        given.choose_mirrors()
    except SystemExit:
        # absl leaves with 1 after the help that was asked for; a config file that leaves has its own code.
        if HELP.isdisjoint(argument.lstrip("-") for argument in arguments):
            raise
        sys.exit(0)
    except (AttributeError, KeyError) as error:
        # ml_collections wraps one exception in another, whose own text is a repr.
        reason = error.args[0].args[0] if isinstance(error.args[0], Exception) else error.args[0]
        advised = re.sub(r"\s+Did you mean", "; did you mean", reason)
        fail(ConfigError(f"unknown config key: {advised}"), 2)
    except (flags.Error, OSError, RuntimeError, SyntaxError, TypeError, ValueError) as error:
        fail(unwrap_config_error(error), 2)
    return rest


def start(train: Train, given: TrainFlags) -> None:
    """Joins the other processes, checks the config on this machine, and trains; leaves where something goes wrong."""
    logging.set_verbosity(logging.WARNING)
    try:
        given.cluster.join()
        with interruption.listening(), non_finite.searching(given.debug_nans.value):
            given.cluster.refuse_others()
            processes.connect_devices()
            # The first process alone looks for the task's data, which need not be on the other hosts.
            processes.call_on_first(lambda: check_here(given.config.value))
            workdir = Path(str(given.workdir.value))
            keep_compiled(workdir)
            train(given.config.value, workdir, given.choose_mirrors(), parallel.ENGINES[given.engine.value])
            processes.finish()
    except (ConfigError, ClusterError) as error:
        fail(error, 2)
    except InUseError as error:
        fail(error, locks.EXIT_CODE)
    except (RuntimeError, ValueError, FloatingPointError, MemoryError, OSError) as error:
        fail(error, 1)
    except interruption.Interrupted as stop:
        leave(stop.exit_code, str(stop))
    except Exception as error:
        if not processes.is_distributed():
            raise
        # A mistake in the program. Without `fail` this process and the others would wait for each other.
        traceback.print_exc()
        fail(error, 1)


class ConfigFileParser(flags.ArgumentParser):
    """Reads a config file by path or name; what is not there is refused at once, not when its config is first used."""

    def parse(self, argument: str) -> ConfigDict:
        try:
            config = config_files.load(argument)
        except ConfigError:
            raise
        except Exception as error:  # the file is a program, which may raise anything
            own, others, _ = str(error).partition(" Other fields")  # ml_collections quotes the whole config
            shown = own.removeprefix("'") if others else own
            raise ConfigError(f"--config {argument}: {type(error).__name__}: {shown}") from error
        if not isinstance(config, ConfigDict):
            raise ConfigError(f"--config {argument}: its get_config gives no ConfigDict, but {type(config).__name__}")
        refuse_incomplete(config, argument)
        return config.lock()


def refuse_second_config(arguments: Sequence[str]) -> None:
    """Refuses a command with two configs, of which absl would take the last, or complain of what is between them.

    Raises:
      ConfigError: there are two.
    """
    if sum(re.match(r"--?config(=|$)", argument) is not None for argument in arguments) > 1:
        raise ConfigError(
            "--config is there more than once: name one file, and override its fields: --config.key=value"
        )


def unwrap_config_error(error: Exception) -> Exception:
    """The ConfigError that absl has wrapped into an error of its own; any other error as it is."""
    return error.__context__ if isinstance(error.__context__, ConfigError) else error


def check_here(config: ConfigDict) -> None:
    """Refuses whatever can be known to be wrong with a config on this machine before any compute.

    Raises:
      ConfigError: what is wrong, and what is allowed or how to prepare the data.
    """
    check(config, parallel.num_devices())
    refuse_unprepared(config)


def keep_compiled(workdir: Path) -> None:
    """Keeps compiled programs beside the workdir, or where JAX_COMPILATION_CACHE_DIR says.

    The next run, or a resumed one, starts without compiling.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(workdir.resolve().parent / ".compiled"))  # type: ignore[no-untyped-call]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)  # type: ignore[no-untyped-call]


def fail(error: BaseException, code: int) -> NoReturn:
    """Says what is wrong in one line and leaves."""
    leave(code, f"error: {one_line(error)}")


def leave(code: int, line: str) -> NoReturn:
    """Says one line and leaves, together with the run's other processes."""
    if processes.is_distributed():
        processes.end_all(code, line)
    say(line)
    sys.exit(code)
