"""Stands in for `python -m dwm_jax.train` in the tests of a sweep.

It leaves what a run leaves, as told by the folder beside the runs: orders/RUN.json is the config it writes, and
orders/RUN.order "fail", "kill" (itself), "in use",
"stopped" (by SIGTERM), "wait" (until it is asked to stop) or nothing. starts.txt gets a line for every start.
"""

import os
import signal
import sys
import time
from pathlib import Path

CODES = {"in use": 75, "stopped": 143}


def stop(number: int, frame: object) -> None:
    print("saved", flush=True)
    sys.exit(128 + number)


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    given = dict(argument.split("=", 1) for argument in sys.argv if "=" in argument)
    workdir = Path(sys.argv[sys.argv.index("--workdir") + 1])
    runs = Path(given["--config.world_model_dir"]).parent
    orders, name = runs.parent / "orders", str(workdir.relative_to(runs)).replace("/", "_")
    with open(runs.parent / "starts.txt", "a") as starts:
        starts.write(f"{name} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}\n")
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text((orders / f"{name}.json").read_text())
    order = orders / f"{name}.order"
    if order.exists() and order.read_text() == "wait":
        while True:
            time.sleep(0.01)
    if order.exists() and order.read_text() == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if order.exists() and order.read_text() in CODES:
        sys.exit(CODES[order.read_text()])
    if order.exists():
        print("error: told to fail", flush=True)
        sys.exit(1)
    (workdir / "summary.md").write_text("done\n")


if __name__ == "__main__":
    main()
