"""Several processes of one run, as on a pod: the same result, one writer, and they stop as one."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from dwm_jax.runtime.locks import exclusive
from experiments.sweep import launch_files
from experiments.sweep.plan import PlannedRun, Stage
from tests import manifests, tiny
from tests.commands import RunModule

ROOT = Path(__file__).parents[2]
SMOKE = "experiments/configs/smoke.py"
CONFIG = """
from tests import tiny

def get_config():
    return tiny.config(methods=tiny.BULK_AND_FOLLOWING, policy__largest_error=10.0)  # process 0 alone measures
"""
# Nothing here takes as long, on a machine that does nothing else.
SECONDS = 600


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(CONFIG)
    return path


def on_devices(number: int) -> str:
    """XLA_FLAGS for this many virtual devices."""
    return f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={number}"


def start(config: Path | str, workdir: Path, *flags: str) -> subprocess.Popen[str]:
    """A process with four devices."""
    return subprocess.Popen(
        [sys.executable, "-m", "dwm_jax.train", "--config", str(config), "--workdir", str(workdir), *flags],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": on_devices(4), "JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def start_two(
    config: Path | str, workdir: Path, *all_flags: str, only_second: Sequence[str] = ()
) -> list[subprocess.Popen[str]]:
    """Two processes with four devices each, over loopback."""
    together = ["--coordinator", free_address(), "--num-processes", "2", *all_flags]
    return [
        start(config, workdir, *together, "--process-id", str(index), *flags)
        for index, flags in enumerate([(), only_second])
    ]


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start_two_pods(config: Path, folder: Path) -> list[subprocess.Popen[str]]:
    """`start_two` by the very command of a JobSet; what the cluster gives its pods is given here."""
    run = PlannedRun("run", folder / "run", str(config), {}, tiny.config())
    launch_files.write([Stage("policies", (run,))], folder / "launch", folder, None)
    text = (folder / "launch" / "policies.gpu.jobset.yaml").read_text()
    pod = manifests.container(manifests.filled(text, LINE=1, HOSTS=2, DEVICES=4, IMAGE="dwm_jax", CLAIM="runs"))
    here = {"COORDINATOR": free_address(), "PLATFORM": "cpu", "JAX_PLATFORMS": "cpu"}
    here["XLA_FLAGS"] = on_devices(4)
    here["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return [
        subprocess.Popen(
            pod.command,
            cwd=ROOT,
            env=os.environ | pod.environment | here | {"JOB_COMPLETION_INDEX": str(index)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for index in range(2)
    ]


def finish(processes: list[subprocess.Popen[str]], seconds: float = SECONDS) -> tuple[list[int], list[str]]:
    """(exit codes, what they said); a deadlock ends in TimeoutExpired, and no process is left behind."""
    deadline = time.monotonic() + seconds
    try:
        said = [process.communicate(timeout=deadline - time.monotonic())[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


def wait_for(path: Path, processes: list[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + SECONDS
    while not path.exists() or not path.read_text():
        if time.monotonic() > deadline or any(process.poll() is not None for process in processes):
            pytest.fail(f"{path} did not come: {finish(processes, 30)}")
        time.sleep(0.05)


def assert_same_run(folder: Path, expected_folder: Path) -> None:
    expected, arrays = tiny.final_arrays(expected_folder), tiny.final_arrays(folder)
    assert expected.keys() == arrays.keys()
    for name, array in expected.items():
        tiny.assert_equal_up_to_rounding(arrays[name], array, name)
    # Written once, by one of them: the same rows, whatever their last digits.
    files, expected_files = tiny.files(folder), tiny.files(expected_folder)
    assert {name: text.count("\n") for name, text in files.items()} == {
        name: text.count("\n") for name, text in expected_files.items()
    }
    for name in ("summary.md", "diagnostics.json", "policies/DWM-TD3BC.npz", "figures/learning_curves.png"):
        assert (folder / "run" / name).exists(), name


@pytest.mark.end_to_end
def test_two_stopped_by_sigterm_end_by_either_engine_and_as_pods_with_the_result_of_one(
    config: Path, on_one_device: Path, tmp_path: Path
) -> None:
    by_pods, by_shard_map = tmp_path / "pods", tmp_path / "shard_map"
    # Both engines go on from what the other has left: a world model in its midst, and policies in theirs.
    for engine, moment, struck in (
        ("pmap", "world_models/maze2d-umaze-dwm-*/metrics.jsonl", 1),
        ("shard_map", "run/results.csv", 0),
    ):
        processes = start_two(config, by_pods / "run", "--engine", engine)
        (file,) = on_one_device.glob(moment)
        wait_for(by_pods / file.relative_to(on_one_device), processes)
        processes[struck].send_signal(signal.SIGTERM)
        codes, said = finish(processes, 60)
        assert codes == [143, 143], said
        assert "stopped by SIGTERM; start the same command again to go on" in said[0]
    assert not (by_pods / "run" / "summary.md").exists()

    shutil.copytree(by_pods, by_shard_map)
    codes, said = finish(start_two(config, by_shard_map / "run", "--engine", "shard_map"))
    assert codes == [0, 0], said
    assert_same_run(by_shard_map, on_one_device)

    codes, said = finish(start_two_pods(config, by_pods))  # by the engine that a command without the flag has: pmap
    assert codes == [0, 0], said
    assert_same_run(by_pods, on_one_device)
    assert "world model dwm: 20 updates" in said[0]
    assert "done: " in said[0]
    assert "world model" not in said[1]


@pytest.mark.end_to_end
def test_what_the_first_refuses_stops_both(config: Path, tmp_path: Path) -> None:
    with exclusive(tmp_path / "run" / ".lock", wait=False):
        codes, said = finish(start_two(config, tmp_path / "run"), 120)
    assert codes == [75, 75], said
    assert "is in use by process" in said[0]
    assert "error" not in said[1]


@pytest.mark.end_to_end
def test_what_another_refuses_stops_both(config: Path, tmp_path: Path) -> None:
    # A process of its own is told to expect other devices than there are; the first goes on until it hears of it.
    one, other = start_two(config, tmp_path / "run", only_second=["--expect-devices=7"])
    codes, said = finish([one, other], 120)
    assert codes == [2, 2], said
    assert "another process failed" in said[0]
    assert "process 1: error: --expect-devices=7 --expect-platform=any, but this is 8 of cpu" in said[1]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--distributed", "--coordinator=host:1"], "--distributed reads the environment; give it without"),
        (["--coordinator=host:1"], "--coordinator HOST:PORT, --num-processes N and --process-id I only go together"),
        (["--process-id=0"], "--coordinator HOST:PORT, --num-processes N and --process-id I only go together"),
        (["--coordinator=host", "--num-processes=2", "--process-id=0"], "--coordinator=host is not HOST:PORT"),
        (
            ["--coordinator=host:1", "--num-processes=2", "--process-id=2"],
            "--process-id=2 is not below --num-processes=2; they count from 0",
        ),
        (["--num-processes=0"], "flag --num-processes=0"),
        (["--distributed"], "cannot join the other processes: "),
        (["--expect-devices=8"], "--expect-devices=8 --expect-platform=any, but this is 1 of cpu"),
        (["--expect-platform=gpu"], "--expect-devices=any --expect-platform=gpu, but this is 1 of cpu"),
        (["--expect-platform=abacus"], "flag --expect-platform=abacus"),
    ],
)
def test_flags_that_cannot_be_met_are_one_line_and_code_2(
    flags: list[str], line: str, run_module: RunModule, tmp_path: Path
) -> None:
    result = run_module("dwm_jax.train", "--config", SMOKE, "--workdir", str(tmp_path / "run"), *flags)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("error: " + line)
    assert not (tmp_path / "run").exists()


def test_expected_machine_goes_on_to_the_next_check(run_module: RunModule, tmp_path: Path) -> None:
    flags = ["--expect-devices=2", "--expect-platform=cpu", "--config.policy.horizon=8"]
    command = ["dwm_jax.train", "--config", SMOKE, "--workdir", str(tmp_path / "run"), *flags]
    result = run_module(*command, XLA_FLAGS=on_devices(2))
    assert result.returncode == 2
    assert "policy.horizon=8 is not allowed" in result.stderr
