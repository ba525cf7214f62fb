"""Growth with the runs of a sweep: planning them, showing their state, reporting on them."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..report import reading
from ..report.__main__ import write
from ..status import find_phases, make_table
from ..studies.catalogue import STUDIES
from ..studies.study import members_at
from ..sweep.plan import plan_stages
from .many_runs import SCALE, make_runs
from .points import Point

RUNS = (1, 5, 20, 100, 500)
AGAINST = "runs"
# What all made runs are copies of: one tiny real run.
TINY = ("--config", "smoke", "--config.methods=DWM-TD3BC")


def growth_of_runs(largest: int) -> Iterator[Point]:
    """Processor seconds of each, imports not among them; the runs are of the paper's size."""
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder, "one")
        command = [sys.executable, "-m", "dwm_jax.train", *TINY, "--workdir", str(one)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for count in (count for count in RUNS if count <= largest):
            yield from of_so_many(count, one, Path(folder, str(count)))


def of_so_many(count: int, like: Path, folder: Path) -> Iterator[Point]:
    """The points at one number of runs, which are left in `folder`/runs."""
    runs = folder / "runs"
    make_runs(runs, count, like)
    start = time.process_time()
    members = [member for study in STUDIES.values() for member in members_at(study, SCALE)]
    plan_stages(members[:: max(1, len(members) // count)][:count], runs, SCALE)
    yield point("planning a sweep", count, start)
    start = time.process_time()
    make_table(list(find_phases(runs)))
    yield point("status", count, start)
    for curve in ("report, the first", "report, again"):
        start = time.process_time()
        write(reading.read_all(runs, list(STUDIES)), runs, folder / "report")
        yield point(curve, count, start)


def point(curve: str, count: int, start: float) -> Point:
    """The point of the processor seconds since `start`."""
    return Point(curve, AGAINST, count, time.process_time() - start, "CPU s")
