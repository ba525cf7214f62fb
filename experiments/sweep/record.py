"""How the runs of a sweep stand: in RUNS/sweep.json, and in lines while they run."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dwm_jax.runtime import files
from dwm_jax.runtime.progress import duration, say

from .local import Outcome
from .plan import PlannedRun


class Record:
    """The file `sweep.json` of one folder of runs.

        {"scale": "smoke", "members": {"main/maze2d-umaze/DWM-H1": {"state": "done", "log": "main/.../log.txt"}, ...}}

    "state" is "done", "failed", "running" or "to do". Runs that several studies share stand there under every name;
    those that train a world model for the others under "world_models_of/...". A later sweep adds its own.
    """

    def __init__(self, runs_folder: Path, scale: str):
        """Reads what is there.

        Raises:
          ValueError: the folder belongs to a sweep of another scale.
        """
        self.folder = runs_folder
        self._path = runs_folder / "sweep.json"
        self._content: dict[str, Any] = {"scale": scale, "members": {}}
        earlier = files.find_json(self._path)
        if earlier is not None and isinstance(earlier.get("members"), dict) and "scale" in earlier:
            members = {name: entry for name, entry in earlier["members"].items() if isinstance(entry, dict)}
            self._content = earlier | {"members": members}
        if self._content["scale"] != scale:
            raise ValueError(
                f"{runs_folder} holds a sweep of scale {self._content['scale']}, not {scale}; choose another --runs"
            )

    def state(self, run: PlannedRun) -> str:
        """How a run stands when nothing runs: "done" by its own files, "failed" as recorded, else "to do"."""
        recorded = self._content["members"].get(run.name, {}).get("state")
        return "done" if run.is_done() else "failed" if recorded == "failed" else "to do"

    def set(self, runs: Iterable[PlannedRun], state: str | None = None) -> None:
        """Writes how the runs stand; None: as `state` finds them."""
        for run in runs:
            entry = {"state": state or self.state(run), "log": f"{run.name}/{run.log.name}"}
            self._content["members"] |= dict.fromkeys((run.name, *run.links), entry)
        files.write(self._path, json.dumps(self._content, indent=1) + "\n")


class Progress:
    """Counts runs as they start and end, records them, and says a line for each."""

    def __init__(self, record: Record, runs: Sequence[PlannedRun]):
        self.record = record
        self.failed: list[PlannedRun] = []
        self.elsewhere: list[PlannedRun] = []
        self._total = len(runs)
        self._done = sum(run.is_done() for run in runs)
        self._running = 0

    def counts(self) -> str:
        elsewhere = f", {len(self.elsewhere)} at work in other processes" if self.elsewhere else ""
        return f"{self._done} of {self._total} done, {self._running} running, {len(self.failed)} failed{elsewhere}"

    def started(self, run: PlannedRun) -> None:
        self._running += 1
        self.record.set([run], "running")
        say(f"{run.name}: started; {self.counts()}")

    def ended(self, run: PlannedRun, outcome: Outcome) -> None:
        self._running -= 1
        # By its files, not by its word.
        if run.is_done():
            how = "done"
            self._done += 1
        elif outcome.was_interrupted:
            how = "stopped"
        elif outcome.is_elsewhere:
            how = f"at work in another process, see {run.log};"
            self.elsewhere.append(run)
        else:
            how = f"failed with exit code {outcome.exit_code}, see {run.log}"
            self.failed.append(run)
        self.record.set([run], "failed" if run in self.failed else "running" if run in self.elsewhere else None)
        say(f"{run.name}: {how} after {duration(outcome.seconds)}; {self.counts()}")
