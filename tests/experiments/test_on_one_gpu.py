"""The script for a machine that is lent for minutes: its pieces, what is left when the time is over, what it packs.

Its commands are a stub's, which writes down what it was asked. The script itself was run at the tiny size on a CPU
(PERFORMANCE.md, "A GPU").
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "on_one_gpu.sh"
STUB = """#!{python}
import os, signal, sys, time
arguments = sys.argv[1:]
with open({asked!r}, "a") as file:
    file.write(os.environ.get("JAX_PLATFORMS", "") + " " + " ".join(arguments) + "\\n")
if any(word in " ".join(arguments) for word in os.environ.get("FAILS", "nothing").split(",")):
    sys.exit(3)
if any(word in " ".join(arguments) for word in os.environ.get("SLOW", "nothing").split(",")):
    time.sleep(60)
workdir = arguments[arguments.index("--workdir") + 1] if "--workdir" in arguments else None
if workdir:
    os.makedirs(workdir + "/checkpoints", exist_ok=True)
    open(workdir + "/checkpoints/large", "w").close()
    if os.path.exists(workdir + "/metrics.jsonl"):
        print("DWM-TD3BC: resuming from step 20", flush=True)
    with open(workdir + "/metrics.jsonl", "a") as file:
        file.write('{{"phase": "DWM-TD3BC", "step": 20}}\\n')
if "resume" in (workdir or ""):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    time.sleep(60)
"""


@pytest.fixture
def call(tmp_path: Path):
    """Runs the script with a stub for python; (exit code, what it was asked)."""
    stub, asked = tmp_path / "python", tmp_path / "asked"
    stub.write_text(STUB.format(python=sys.executable, asked=str(asked)).replace("\\\\n", "\\n"))
    stub.chmod(0o755)

    def run(*arguments: str, **environment: str) -> tuple[int, list[str]]:
        asked.write_text("")
        variables = os.environ | {"PYTHON": str(stub), "JAX_PLATFORMS": "cpu", **environment}
        command = ["bash", str(SCRIPT), str(tmp_path / "out"), *arguments]
        code = subprocess.run(command, env=variables, capture_output=True).returncode
        return code, asked.read_text().splitlines()

    return run


def test_every_piece_is_done_once_and_packed_without_checkpoints(call, tmp_path: Path) -> None:
    code, asked = call("--size", "tiny", "--run", "smoke", "--sweep", "main --scale smoke")
    assert code == 0
    of_benchmark = [line.partition("--sizes ")[2] for line in asked if "experiments.benchmark" in line]
    assert of_benchmark == [
        "tiny --only peak,training,parts,sampling",
        "tiny --only policies",
        "tiny-bfloat16 --only training,sampling",
    ]
    assert sum("/resume/" in line for line in asked) == 4
    assert asked[-3].endswith(f"--config smoke --workdir {tmp_path}/out/runs/whole")
    assert "experiments.sweep main --scale smoke" in asked[-2]
    with tarfile.open(tmp_path / "out" / "results.tar.gz") as archive:
        names = archive.getnames()
    assert "./runs/whole/metrics.jsonl" in names
    assert not [name for name in names if "checkpoints" in name]
    assert call("--size", "tiny", "--run", "smoke", "--sweep", "main --scale smoke") == (0, [])


def test_a_run_goes_on_on_the_other_device_both_ways(call) -> None:
    code, asked = call("resume", JAX_PLATFORMS="cuda")
    assert code == 0
    assert [line.split()[0] for line in asked] == ["cuda", "cpu", "cpu", "cuda"]


def test_when_the_time_is_over_the_rest_is_left_for_the_next_call(call, tmp_path: Path) -> None:
    code, asked = call("--seconds", "2", "speed", "policies", SLOW="peak")
    assert code == 75
    assert len(asked) == 1
    code, asked = call("speed", "policies")
    assert code == 0
    assert len(asked) == 2


def test_a_piece_that_fails_stops_no_other_and_is_tried_again(call) -> None:
    code, asked = call("speed", "policies", FAILS="peak")
    assert (code, len(asked)) == (1, 2)
    assert call("speed", "policies")[0] == 0


@pytest.mark.parametrize("arguments", [("--size",), ("dance",), ("--pytorch", "nowhere")])
def test_a_wrong_call_is_refused(call, arguments: tuple[str, ...]) -> None:
    assert call(*arguments) == (2, [])
