"""Where figures come from: commit, versions, machine - what has to stand beside every number that is shown."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np


def describe_circumstances() -> dict[str, Any]:
    """Commit, versions, processor and its load. Wakes no device."""
    return {
        "commit": find_commit(),
        "processor": find_processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "numpy": np.__version__,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def describe_devices() -> dict[str, Any]:
    """What jax runs on; wakes the devices."""
    return {
        "backend": jax.default_backend(),
        "device_kind": jax.local_devices()[0].device_kind,
        "num_devices": jax.device_count(),
    }


def find_commit() -> str | None:
    """The commit this package was checked out at, with a + where files differ from it; None outside of git."""
    folder = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        # An installed copy may lie in somebody else's repository.
        if Path(git("rev-parse", "--show-toplevel")) != folder.resolve().parent:
            return None
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def find_processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()
