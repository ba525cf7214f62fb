"""The flags that join the processes of a run, and those that refuse another machine than the one expected."""

import os
import sys
from typing import NamedTuple

import jax
from absl import flags

from dwm_jax.runtime import parallel, processes


class ClusterError(ValueError):
    """Flags that do not go together, or another machine than they say; one line."""


class ClusterFlags(NamedTuple):
    """The flags; to be used once the command line is parsed."""

    distributed: flags.FlagHolder
    coordinator: flags.FlagHolder
    num_processes: flags.FlagHolder
    process_id: flags.FlagHolder
    expect_devices: flags.FlagHolder
    expect_platform: flags.FlagHolder

    def check(self) -> None:
        """Refuses a combination that means nothing; asks nothing of jax.

        Raises:
          ClusterError: with the flags in question.
        """
        address, number, index = self.coordinator.value, self.num_processes.value, self.process_id.value
        if address is None and number is None and index is None:
            return
        if self.distributed.value:
            raise ClusterError("--distributed reads the environment; give it without --coordinator and its companions")
        if address is None or number is None or index is None:
            raise ClusterError("--coordinator HOST:PORT, --num-processes N and --process-id I only go together")
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise ClusterError(f"--coordinator={address} is not HOST:PORT")
        if index >= number:
            raise ClusterError(f"--process-id={index} is not below --num-processes={number}; they count from 0")

    def join(self) -> None:
        """Joins the other processes, if the flags name any.

        Raises:
          ClusterError: --distributed, and the environment says nothing.
          RuntimeError: the others cannot be reached.
        """
        if not self.distributed.value and self.coordinator.value is None:
            return
        if self.coordinator.value is not None:
            print(
                f"process {self.process_id.value} of {self.num_processes.value}: waiting for all at "
                f"{self.coordinator.value}; process 0 alone reports and writes",
                file=sys.stderr,
                flush=True,
            )
        try:
            processes.join(self.coordinator.value, self.num_processes.value, self.process_id.value)
        except ValueError as error:
            raise ClusterError(
                f"cannot join the other processes: {error} Without Slurm, TPU, Kubernetes or Open MPI give "
                "--coordinator HOST:PORT --num-processes N --process-id I"
            ) from error

    def refuse_others(self) -> None:
        """Refuses a machine that is not the one expected: jax falls back to the CPU without a word.

        Raises:
          ClusterError: with what was expected and what there is, or as `find_devices`.
        """
        platform, num_devices = self.expect_platform.value, self.expect_devices.value
        found = find_devices()
        if platform is None and num_devices is None:
            return
        expected = f"--expect-devices={num_devices or 'any'} --expect-platform={platform or 'any'}"
        if found != (platform or found[0], num_devices or found[1]):
            raise ClusterError(f"{expected}, but this is {found[1]} of {found[0]}")


def find_devices() -> tuple[str, int]:
    """The kind of jax's devices here, and how many they are.

    Raises:
      ClusterError: it has none, as where JAX_PLATFORMS asks for a kind that is not here.
    """
    try:
        return jax.default_backend(), parallel.num_devices()
    except (AssertionError, RuntimeError) as error:  # jax asserts where a kind it knows is not there
        asked = os.environ.get("JAX_PLATFORMS")
        remedy = f"JAX_PLATFORMS={asked} asks for it: unset it, or install that kind's jaxlib" if asked else str(error)
        raise ClusterError(f"jax finds no device here; {remedy}") from error


def define_flags() -> ClusterFlags:
    """Adds them to the command line."""
    return ClusterFlags(
        flags.DEFINE_bool(
            "distributed",
            False,
            "run as one of several processes; Slurm, the TPU runtime or Kubernetes provide coordinator and process "
            "index",
        ),
        flags.DEFINE_string(
            "coordinator", None, "address of process 0, HOST:PORT, where the environment does not provide it"
        ),
        flags.DEFINE_integer("num-processes", None, "total number of processes (with --coordinator)", lower_bound=1),
        flags.DEFINE_integer("process-id", None, "index of this process, from 0 (with --coordinator)", lower_bound=0),
        flags.DEFINE_integer(
            "expect-devices",
            None,
            "refuse to run on another number of devices, counted over all processes",
            lower_bound=1,
        ),
        flags.DEFINE_enum(
            "expect-platform",
            None,
            ["cpu", "gpu", "tpu"],
            "stop unless JAX's backend is this one; JAX falls back to the CPU silently",
        ),
    )
