"""Runs as arrays of Slurm jobs, by submitit."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dwm_jax.runtime import locks

from .plan import PlannedRun, Stage

# Slurm's own limit on the jobs of an array (MaxArraySize) is 1001 unless an administrator raises it.
LARGEST_ARRAY = 1_000
# Exit codes of a run that has saved and left when it was asked to, or found another process at work on it.
COMES_AGAIN = (128 + signal.SIGTERM, -signal.SIGTERM, locks.EXIT_CODE)
# A run resumes as often as its time is up.
MAX_NUM_TIMEOUTS = 1_000


class Job:
    """One run inside its job: when Slurm is about to stop it, it saves, and the job goes back into the queue."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def __call__(self, command: Sequence[str], log: str) -> None:
        """Runs the command to its end.

        Raises:
          RuntimeError: it failed; the message names the log.
        """
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as file:
            # Slurm tells every process of the job that it will stop; the run waits for this one to ask it.
            self._process = subprocess.Popen(
                [sys.executable, *command[1:]],
                stdout=file,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
            )
        code = self._process.wait()
        if code in COMES_AGAIN and not self._is_stopped and callable(signal.getsignal(signal.SIGUSR2)):
            # Slurm has asked the run, and not this process, or another one is at work on it: submitit puts the job back
            # into the queue as if its time were up.
            signal.raise_signal(signal.SIGUSR2)
        if code:
            raise RuntimeError(f"exit code {code}; {log} says why")

    def checkpoint(self, command: Sequence[str], log: str) -> Any:
        """Called by submitit before the job is stopped; the job that goes on."""
        from submitit.helpers import DelayedSubmission

        assert self._process is not None
        self._is_stopped = True
        self._process.terminate()
        # Called from a signal's handler, in the middle of the wait above, which holds Popen's lock and collects the
        # process: this only looks.
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Job(), command, log)


def slurm_executor(folder: Path, parameters: Mapping[str, str], at_a_time: int | None) -> Any:
    """submitit's executor for these parameters, which are those of its AutoExecutor.

    Raises:
      ValueError: submitit or Slurm is missing, or a parameter is wrong.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError("--launcher slurm needs submitit: pip install submitit") from None
    given = {name: int(value) if value.isdecimal() else value for name, value in parameters.items()}
    if at_a_time is not None:
        given["slurm_array_parallelism"] = at_a_time
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=MAX_NUM_TIMEOUTS)
        executor.update_parameters(name="dwm_jax", slurm_additional_parameters={"requeue": True}, **given)
    except (NameError, RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(f"--launcher slurm: {error}") from None
    return executor


def submit(executor: Any, stages: Sequence[Stage]) -> list[str]:
    """Submits the stages, each after the one before has ended, well or not; returns the ids of all jobs."""
    submitted: list[str] = []
    before: list[str] = []
    for stage in stages:
        if before:
            executor.update_parameters(slurm_dependency=":".join(["afterany", *before]))
        arrays = [stage.runs[first : first + LARGEST_ARRAY] for first in range(0, len(stage.runs), LARGEST_ARRAY)]
        jobs = [job.job_id for array in arrays for job in submit_array(executor, array)]
        submitted += jobs
        before = sorted({job.split("_")[0] for job in jobs}) or before
    return submitted


def submit_array(executor: Any, runs: Sequence[PlannedRun]) -> list[Any]:
    """One array."""
    jobs: list[Any] = executor.map_array(Job(), [run.command for run in runs], [str(run.log) for run in runs])
    return jobs
