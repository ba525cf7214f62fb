"""How long a user waits: from starting the real command to the first finished dispatch of its first phase."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dwm_jax.runtime import provenance

from .figures import Figure
from .processes import call_in_fresh_process
from .settings import Plan

PATIENCE_SECONDS = 900.0


def measure_first_step(config: str, plan: Plan) -> list[Figure]:
    """Seconds to the first row of metrics of `dwm_jax.train`, three ways; the run is stopped there.

    In a new folder each: nothing there at all (the data is made first); data there, nothing compiled; data there and
    programs compiled.

    Args:
      config: the name of a shipped one, "quickstart" or "smoke".
    """
    seconds: dict[str, list[float]] = {"no data, nothing compiled": [], "nothing compiled": [], "compiled before": []}
    for _ in range(plan.repetitions):
        with tempfile.TemporaryDirectory() as folder:
            minari, models = Path(folder, "minari"), Path(folder, "models")
            # Compiled programs are kept beside the workdir: the third run finds those of the second.
            for index, (way, workdir) in enumerate(zip(seconds, ("a/run", "b/first", "b/second"), strict=True)):
                seconds[way].append(seconds_to_first_row(config, Path(folder, workdir), minari, models / str(index)))
    device = call_in_fresh_process(provenance.describe_devices)
    return [
        Figure("first-step", config, f"first dispatch, {way}", "s", tuple(times), device=device)
        for way, times in seconds.items()
    ]


def seconds_to_first_row(config: str, workdir: Path, minari: Path, models: Path) -> float:
    """One start of the command, until its first phase has written its first row of metrics.

    Raises:
      RuntimeError: it ended before, or takes longer than PATIENCE_SECONDS; the message has its last line.
    """
    command = [
        *(sys.executable, "-m", "dwm_jax.train", "--config", config),
        *("--workdir", str(workdir), f"--config.world_model_dir={models}"),
    ]
    environment = os.environ | {"MINARI_DATASETS_PATH": str(minari), "JAX_ENABLE_COMPILATION_CACHE": "true"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while time.perf_counter() - start < PATIENCE_SECONDS:
                if any("\n" in path.read_text() for path in models.glob("*/metrics.jsonl")):
                    return time.perf_counter() - start
                if process.poll() is not None:
                    break
                time.sleep(0.02)
        finally:
            process.kill()
        lines = (process.stderr.read() if process.stderr else "").strip().splitlines() or ["no output"]
        raise RuntimeError(f"{' '.join(command)} wrote no metrics: {lines[-1]}")
