"""`python -m experiments.sweep`: what runs, once, in which order, and what a failure or a signal does."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from submitit.helpers import DelayedSubmission  # here: it sets up logging, which must not meet a test's streams

from dwm_jax.config import differences, to_json
from dwm_jax.runtime.locks import exclusive
from experiments.studies.catalogue import STUDIES
from experiments.studies.study import Member, members_at
from experiments.sweep import __main__ as sweep
from experiments.sweep import launch_files, local, plan, slurm
from experiments.sweep.local import Devices, Outcome, Place
from experiments.sweep.plan import PlannedRun, plan_stages
from tests.commands import RunModule

ROOT = Path(__file__).parents[2]
STUB = Path(__file__).parent / "stub_train.py"


class Runs:
    """A folder of runs whose training is the stub's."""

    def __init__(self, folder: Path, studies: str):
        self.folder, self.studies = folder / "runs", studies
        (folder / "orders").mkdir()
        self.stages = plan_stages(list(sweep.choose_members(studies, None, None, None, "smoke")), self.folder, "smoke")
        for run in self.all:
            self.order_file(run, "json").write_text(to_json(run.config))

    @property
    def all(self) -> list[PlannedRun]:
        return [run for stage in self.stages for run in stage.runs]

    def order_file(self, run: PlannedRun, kind: str) -> Path:
        return self.folder.parent / "orders" / f"{run.name.replace('/', '_')}.{kind}"

    def starts(self) -> list[str]:
        """The runs started since the last call, in order."""
        path = self.folder.parent / "starts.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        path.write_text("")
        return [line.split()[0] for line in lines]

    def states(self) -> dict[str, str]:
        members = json.loads((self.folder / "sweep.json").read_text())["members"]
        return {name: entry["state"] for name, entry in members.items()}


@pytest.fixture
def make_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Runs]:
    monkeypatch.setattr(plan, "TRAIN", ("python", str(STUB)))
    monkeypatch.setattr(local, "find_devices", lambda: Devices("cpu", 1))
    return lambda studies: Runs(tmp_path, studies)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["sweep", *arguments])
    try:
        sweep.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def name_in_starts(run: PlannedRun) -> str:
    return run.name.replace("/", "_")


def test_world_models_first_then_all_runs_once_and_nothing_the_second_time(
    make_runs: Callable[[str], Runs], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make_runs("inference_time,lambda_return")
    models, policies = runs.stages
    # One DWM for four runs; Decision Diffuser's model has no run of its own and comes with the planner's.
    assert [run.config.methods for run in models.runs] == ["DD", "DWM"]
    # DWM-TD3BC and DWM-IQL, vanilla and with lambda; DWM-TD3BC's inference is timed in its vanilla run.
    assert len(policies.runs) == 4
    assert call(monkeypatch, runs.studies, "--runs", str(runs.folder)) == 0
    assert runs.starts() == [name_in_starts(run) for run in (*models.runs, *policies.runs)]
    assert set(runs.states().values()) == {"done"}
    assert "6 of 6 done, 0 running, 0 failed" in capsys.readouterr().err
    shared = runs.folder / "lambda_return" / "maze2d-umaze" / "DWM-TD3BC-vanilla-H3"
    assert shared.is_symlink()
    assert shared.resolve() == runs.folder / "inference_time" / "maze2d-umaze" / "DWM-TD3BC-H3"
    for study in ("inference_time", "lambda_return"):
        for member in members_at(STUDIES[study], "smoke"):
            assert (runs.folder / study / member.task / member.variant / "summary.md").exists()
            assert runs.states()[f"{study}/{member.task}/{member.variant}"] == "done"

    assert call(monkeypatch, runs.studies, "--runs", str(runs.folder)) == 0
    assert runs.starts() == []


def test_a_run_stays_where_an_earlier_sweep_put_it(
    make_runs: Callable[[str], Runs], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = make_runs("lambda_return")
    assert call(monkeypatch, "lambda_return", "--runs", str(runs.folder)) == 0
    assert len(runs.starts()) == 5
    together = list(sweep.choose_members("inference_time,lambda_return", None, None, None, "smoke"))
    (dwm,) = (run for run in plan.plan_runs(together, runs.folder, "smoke") if "inference" in " ".join(run.links))
    assert dwm.name == "lambda_return/maze2d-umaze/DWM-TD3BC-vanilla-H3"
    assert dwm.links == ("inference_time/maze2d-umaze/DWM-TD3BC-H3",)
    assert dwm.is_done()


def test_a_failure_stops_no_other_run_and_is_repeated_the_next_time(
    make_runs: Callable[[str], Runs], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make_runs("transformer")
    (model,) = runs.stages[0].runs
    bad, good = runs.stages[1].runs
    runs.order_file(model, "order").write_text("fail")
    runs.order_file(bad, "order").write_text("fail")
    assert call(monkeypatch, "transformer", "--runs", str(runs.folder)) == 1
    # The policies are tried even so: they would train the world model themselves.
    assert runs.starts() == [name_in_starts(run) for run in (model, bad, good)]
    assert runs.states() == {model.name: "failed", bad.name: "failed", good.name: "done"}
    shown = capsys.readouterr().err
    assert f"{bad.name}: failed with exit code 1, see {bad.log}" in shown
    assert f"failed: {model.name}: {model.log}\nfailed: {bad.name}: {bad.log}\n1 of 3 done" in shown
    assert bad.log.read_text() == "error: told to fail\n"

    runs.order_file(model, "order").unlink()
    runs.order_file(bad, "order").unlink()
    assert call(monkeypatch, "transformer", "--runs", str(runs.folder)) == 0
    assert runs.starts() == [name_in_starts(model), name_in_starts(bad)]
    assert set(runs.states().values()) == {"done"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_run_once_starts_no_other_and_says_how_to_go_on(
    number: int, make_runs: Callable[[str], Runs], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make_runs("model_free,transformer")
    first = runs.stages[0].runs[0]
    runs.order_file(first, "order").write_text("wait")
    start = local.start

    def start_and_signal(run: PlannedRun, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        child = start(run, environment)
        while not (run.workdir / "config.json").exists():  # the stub listens from before it writes this
            pass
        os.kill(os.getpid(), number)
        return child

    monkeypatch.setattr(local, "start", start_and_signal)
    assert call(monkeypatch, runs.studies, "--runs", str(runs.folder)) == 128 + number
    assert runs.starts() == [name_in_starts(first)]
    assert set(runs.states().values()) == {"to do"}
    shown = capsys.readouterr().err
    assert f"{first.name}: stopped after" in shown
    assert f"stopped by {signal.Signals(number).name}" in shown
    assert "start the same command again to go on" in shown
    if number == signal.SIGTERM:
        assert first.log.read_text() == "saved\n"


def test_as_many_runs_at_a_time_as_there_are_places_each_on_its_own_device(make_runs: Callable[[str], Runs]) -> None:
    runs = make_runs("main,model_free")
    now: list[PlannedRun] = []
    most = [0]
    outcomes: list[Outcome] = []

    def started(run: PlannedRun) -> None:
        now.append(run)
        most[0] = max(most[0], len(now))

    def ended(run: PlannedRun, outcome: Outcome) -> None:
        now.remove(run)
        outcomes.append(outcome)

    places = local.make_places(Devices("gpu", 2), None, None, [])
    assert local.run_all(runs.stages[1].runs, places, started, ended) is None
    assert most == [2]
    assert [outcome.exit_code for outcome in outcomes] == [0] * len(runs.stages[1].runs)
    lines = (runs.folder.parent / "starts.txt").read_text().split()
    assert set(lines[1::2]) == {"0", "1"}


@pytest.mark.parametrize(
    ("code", "error", "reason"),
    [
        (-9, "", "its process left with -9, without a word"),
        (1, "Traceback\n  ...\nRuntimeError: none\n", "RuntimeError: none"),
    ],
)
def test_why_jax_finds_no_device_is_said_even_where_it_died_without_a_word(
    code: int, error: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = subprocess.CompletedProcess([], code, stdout="", stderr=error)
    monkeypatch.setattr(local.subprocess, "run", lambda *arguments, **options: answer)
    with pytest.raises(ValueError, match=f"^jax finds no device: {reason}$"):
        local.find_devices()


def test_places_follow_the_devices() -> None:
    assert local.make_places(Devices("tpu", 8), None, None, [0, 1]) == [Place()]
    assert Devices("tpu", 8).per_run == 8
    visible = local.make_places(Devices("gpu", 2), None, "4,6", [0, 1])
    assert visible == [Place({"CUDA_VISIBLE_DEVICES": "4"}), Place({"CUDA_VISIBLE_DEVICES": "6"})]
    assert local.make_places(Devices("gpu", 2), 1, None, [0, 1]) == [Place({"CUDA_VISIBLE_DEVICES": "0"})]
    with pytest.raises(ValueError, match=r"--workers 3: 2 gpu device\(s\) take 2 run\(s\) at a time"):
        local.make_places(Devices("gpu", 2), 3, None, [0, 1])


@pytest.mark.parametrize(
    ("workers", "cores", "shares"),
    [
        (None, [0, 1, 2], [(0, 1, 2)]),
        (2, [0, 1, 4, 5], [(0, 1), (4, 5)]),
        (2, [3, 5, 7], [(3,), (5, 7)]),
        (3, [0, 1], [None, None, None]),
        (2, [], [None, None]),  # the system does not say which there are
    ],
)
def test_runs_share_the_cores_of_a_cpu(
    workers: int | None, cores: list[int], shares: list[tuple[int, ...] | None]
) -> None:
    assert [place.cores for place in local.make_places(Devices("cpu", 1), workers, None, cores)] == shares


@pytest.mark.skipif(not local.usable_cores(), reason="the system binds no process to cores")
def test_a_run_keeps_to_its_cores(make_runs: Callable[[str], Runs]) -> None:
    runs = make_runs("augmentation")
    run = runs.stages[0].runs[0]
    core = local.usable_cores()[-1]
    runs.order_file(run, "order").write_text("wait")
    process = local.start(run, Place(cores=(core,)))
    try:
        assert os.sched_getaffinity(process.pid) == {core}
    finally:
        process.kill()
        process.wait()


def test_a_dry_run_lists_every_command_and_leaves_nothing(
    make_runs: Callable[[str], Runs], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make_runs("transformer")
    assert call(monkeypatch, "transformer", "--runs", str(runs.folder), "--dry-run") == 0
    shown = capsys.readouterr().out
    assert all(f"to do   {run.name}\n        {shlex.join(run.command)}\n" in shown for run in runs.all)
    assert "# 3 to do\n" in shown
    assert not runs.folder.exists()


def test_world_models_are_told_apart_by_what_their_training_depends_on(tmp_path: Path) -> None:
    """K = 5 and 100 are two models, N = 1, 2, 3, 5 of either the same; so are those of horizon and return-to-go."""
    members = [
        member
        for name in ("diffusion_steps", "returns_to_go")
        for member in members_at(STUDIES[name], "paper")
        if member.task == "hopper-medium-v2"
    ]
    models, _ = plan_stages(members, tmp_path, "paper")
    shapes = {
        (run.config.world_models.dwm.sequence_length, run.config.world_models.dwm.num_diffusion_steps)
        for run in models.runs
    }
    assert shapes == {(8, k) for k in (5, 10, 20, 30, 50, 100)} | {(32, k) for k in (5, 10, 20)}
    assert len(models.runs) == len(shapes)
    assert {run.config.methods for run in models.runs} == {"DWM"}
    assert {run.config.world_models.dwm.num_sampling_steps for run in models.runs} == {3}


def test_a_run_with_another_config_is_not_done(make_runs: Callable[[str], Runs]) -> None:
    run = make_runs("augmentation").all[0]
    run.workdir.mkdir(parents=True)
    (run.workdir / "summary.md").write_text("table")
    assert not run.is_done()
    moved = json.loads(to_json(run.config)) | {"world_model_dir": "elsewhere"}
    (run.workdir / "config.json").write_text(json.dumps(moved))
    assert run.is_done()
    (run.workdir / "config.json").write_text(json.dumps(moved | {"gamma": 0.5}))
    assert not run.is_done()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["mian"], "error: unknown study mian; known: main, model_free"),
        (["all,mian"], "error: unknown study mian; known: main, model_free"),
        ([","], "error: STUDY ',' names nothing; it is a list with commas"),
        (["main", "--tasks", ""], "error: --tasks '' names nothing; it is a list with commas"),
        (["main", "--methods", "DD"], "error: --methods DD: the methods there are DWM-TD3BC, "),
        (["main", "--methods", "DWM-IQL"], "error: --methods DWM-IQL: at scale smoke no run has these alone; ask for"),
        (["main", "--variants", "*-H9*"], "error: --variants *-H9*: the variants there are DWM-H1, "),
        (["main", "--tasks", "walker"], "error: --tasks walker: at scale smoke the tasks are maze2d-umaze"),
        (
            ["main", "--scale", "paper", "--tasks", "hopper-medium-v2"],
            "error: no data of hopper-medium-v2 here; prepare data with: ",
        ),
        (["main", "--launcher", "slurm", "--slurm", "gpus=1"], "error: --launcher slurm: "),
    ],
)
def test_a_wrong_command_is_one_line_and_code_2(
    arguments: list[str],
    line: str,
    make_runs: Callable[[str], Runs],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(local, "find_devices", lambda: Devices("cpu", 1))
    assert call(monkeypatch, *arguments, "--runs", str(tmp_path / "wrong")) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(line), shown
    assert len(shown.splitlines()) == 1
    assert not (tmp_path / "wrong").exists()


def test_lists_take_all_among_others_spaces_commas_too_many_and_names_said_twice() -> None:
    def found(studies: str, tasks: str | None = None) -> list[Member]:
        return list(sweep.choose_members(studies, tasks, None, None, "smoke"))

    assert found("main, main,") == found("main", "maze2d-umaze,") == found("main")
    assert found("main,all") == found("all")


def test_methods_keep_the_runs_of_these_alone() -> None:
    members = list(sweep.choose_members("main", "hopper-medium", "DWM-TD3BC,OneStep-IQL", None, "small"))
    # Two horizons are searched for each.
    assert [member.methods for member in members] == [("DWM-TD3BC",)] * 2 + [("OneStep-IQL",)] * 2


def test_data_of_ones_own_takes_the_place_of_the_papers_at_the_small_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep.data_tasks, "is_known", lambda name: name == "my-robot")
    members = list(sweep.choose_members("main,model_free", "my-robot", "DWM-TD3BC,TD3+BC", None, "small"))
    assert {member.task for member in members} == {"my-robot"}
    assert {member.config for member in members} == {"locomotion:my-robot"}
    assert {member.study for member in members} == {"main", "model_free"}
    for scale, task in (("small", "my-rebot"), ("paper", "my-robot")):
        with pytest.raises(ValueError, match=f"--tasks {task}: at scale {scale} the tasks are"):
            list(sweep.choose_members("main", task, None, None, scale))


def test_variants_keep_the_runs_whose_folder_is_like_a_pattern() -> None:
    members = list(sweep.choose_members("main", "hopper-medium", "DWM-TD3BC,OneStep-IQL", "*-H7*", "small"))
    assert [member.variant for member in members] == ["DWM-TD3BC-H7-rtg0.7", "OneStep-IQL-H7"]


def test_a_folder_holds_one_scale(
    make_runs: Callable[[str], Runs], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make_runs("augmentation")
    assert call(monkeypatch, "augmentation", "--runs", str(runs.folder)) == 0
    capsys.readouterr()
    assert call(monkeypatch, "augmentation", "--runs", str(runs.folder), "--scale", "small") == 2
    assert capsys.readouterr().err == (
        f"error: {runs.folder} holds a sweep of scale smoke, not small; choose another --runs\n"
    )


def test_printed_commands_and_the_files_for_other_machines(
    make_runs: Callable[[str], Runs], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make_runs("transformer")
    assert call(monkeypatch, "transformer", "--runs", str(runs.folder), "--launcher", "print") == 0
    commands = [shlex.join(run.command) for run in runs.all]
    assert capsys.readouterr().out.splitlines() == commands
    launch = runs.folder / "launch"
    assert (launch / "world_models.txt").read_text().splitlines() == commands[:1]
    job = yaml.safe_load((launch / "policies.yaml").read_text())["spec"]
    assert (job["completions"], job["parallelism"]) == (2, 2)
    (container,) = job["template"]["spec"]["containers"]
    assert container["volumeMounts"] == [{"name": "runs", "mountPath": str(runs.folder)}]
    # The pod with index 1 runs the second line, its quotes taken for what they are.
    (launch / "policies.txt").write_text("false\necho '(1, 3)' two\n")
    pod = subprocess.run(
        container["command"], env=os.environ | {"JOB_COMPLETION_INDEX": "1"}, capture_output=True, text=True, check=True
    )
    assert pod.stdout == "(1, 3) two\n"


def test_the_script_for_tpu_pods_goes_on_after_a_failure(make_runs: Callable[[str], Runs], tmp_path: Path) -> None:
    runs = make_runs("transformer")
    launch_files.write(runs.stages, tmp_path / "launch", runs.folder, None)
    gcloud = tmp_path / "gcloud"
    gcloud.write_text('#!/bin/sh\necho "$@" >> "$CALLS"\ncase "$*" in *policy.horizon=1*) exit 1;; esac\n')
    gcloud.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        **{"POD": "pod", "ZONE": "zone", "REPOSITORY": "dwm_jax"},
    }
    script = ["bash", str(tmp_path / "launch" / "tpu_pod.sh"), str(tmp_path / "launch" / "policies.txt")]
    result = subprocess.run(script, env=environment, capture_output=True, text=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    start = "compute tpus tpu-vm ssh pod --zone zone --worker=all --command cd dwm_jax && "
    assert calls == [f"{start}{shlex.join(run.command)} --distributed" for run in runs.stages[1].runs]
    assert result.returncode == 1
    assert result.stderr.count("failed: ") == 1


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`sbatch` that keeps what it is given and names jobs 1, 2, ...; the folder of what it was given."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    sbatch = '#!/bin/sh\nn=$(($(ls "$GIVEN" | wc -l) + 1))\ncp "$1" "$GIVEN/$n"\necho "Submitted batch job $n"\n'
    for name, text in {"sbatch": sbatch, "srun": "#!/bin/sh\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("GIVEN", str(folder))
    return folder


def test_slurm_gets_an_array_per_stage_that_waits_for_the_one_before(
    make_runs: Callable[[str], Runs], fake_slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "LARGEST_ARRAY", 2)
    runs = make_runs("main")
    given = ["--launcher", "slurm", "--slurm", "timeout_min=60", "--slurm", "gpus_per_node=1", "--workers", "3"]
    assert call(monkeypatch, "main", "--runs", str(runs.folder), *given) == 0
    scripts = {int(path.name): path.read_text() for path in fake_slurm.iterdir()}
    # 3 world models (DWM, one-step, ensemble) in arrays of at most 2 - one alone is no array -, then 4 runs.
    for number, script in scripts.items():
        lines = script.splitlines()
        assert ("#SBATCH --array=0-1%2" in lines) == (number != 2)
        assert "#SBATCH --requeue" in lines
        assert "#SBATCH --time=60" in lines
        assert "#SBATCH --gpus-per-node=1" in lines
        assert ("#SBATCH --dependency=afterany:1:2" in lines) == (number > 2)


def test_a_slurm_job_saves_when_it_is_about_to_be_stopped_and_goes_on(make_runs: Callable[[str], Runs]) -> None:
    runs = make_runs("augmentation")
    (run,) = runs.all
    runs.order_file(run, "order").write_text("wait")
    job = slurm.Job()
    stopped: list[DelayedSubmission] = []

    def stop(number: int, frame: object) -> None:
        stopped.append(job.checkpoint(run.command, str(run.log)))

    earlier = signal.signal(signal.SIGUSR2, stop)
    # What Slurm does: it signals the job when the run is under way.
    signaller = subprocess.Popen(
        [
            "sh",
            "-c",
            'while [ ! -e "$0" ]; do :; done; kill -USR2 "$1"',
            str(run.workdir / "config.json"),
            str(os.getpid()),
        ]
    )
    try:
        with pytest.raises(RuntimeError, match=f"exit code 143; {run.log} says why"):
            job(run.command, str(run.log))
    finally:
        signaller.wait()
        signal.signal(signal.SIGUSR2, earlier)
    assert run.log.read_text() == "saved\n"
    (again,) = stopped
    runs.order_file(run, "order").unlink()
    again.function(*again.args)
    assert run.is_done()


@pytest.mark.end_to_end
def test_a_real_study_ends_as_done(run_module: RunModule, tmp_path: Path) -> None:
    command = ["experiments.sweep", "model_free", "--runs", str(tmp_path / "runs")]
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr.endswith(f"1 of 1 done, 0 running, 0 failed: {tmp_path / 'runs'}\n")
    rows = (tmp_path / "runs" / "model_free" / "maze2d-umaze" / "TD3+BC-IQL-PQL" / "summary.md").read_text()
    assert all(f"| {method} | 2 |" in rows for method in ("TD3+BC", "IQL", "PQL"))
    listed = run_module(*command, "--dry-run")
    assert listed.returncode == 0, listed.stderr
    assert "# 1 done\n" in listed.stdout


def test_one_unreadable_one_failing_and_one_killed_run_keep_no_other_from_its_end(
    make_runs: Callable[[str], Runs], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make_runs("model_free,transformer,relabelling")
    unreadable, failing, killed, good = runs.stages[1].runs[:4]
    unreadable.workdir.mkdir(parents=True)
    (unreadable.workdir / "config.json").write_text("")
    (unreadable.workdir / "summary.md").write_text("a table\n")
    runs.order_file(failing, "order").write_text("fail")
    runs.order_file(killed, "order").write_text("kill")
    assert call(monkeypatch, runs.studies, "--runs", str(runs.folder), "--workers", "4") == 1
    shown = capsys.readouterr().err
    assert (
        f"{unreadable.name} counts as not done: {unreadable.workdir / 'config.json'} cannot be read: it is empty"
        in shown
    )
    assert f"{killed.name}: failed with exit code -9" in shown
    states = runs.states()
    assert [states[run.name] for run in (unreadable, failing, killed, good)] == ["done", "failed", "failed", "done"]
    assert not children()


def test_whatever_goes_wrong_in_the_sweep_its_runs_end(make_runs: Callable[[str], Runs]) -> None:
    runs = make_runs("transformer")
    for run in runs.all:
        runs.order_file(run, "order").write_text("wait")

    def started(run: PlannedRun) -> None:
        while not (run.workdir / "config.json").exists():
            pass  # until its signals are listened to
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        local.run_all(runs.all, [Place()] * 2, started, lambda run, outcome: None)
    assert not children()
    assert runs.all[0].log.read_text() == "saved\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
def test_where_the_sweep_is_killed_its_runs_save_and_leave(make_runs: Callable[[str], Runs]) -> None:
    runs = make_runs("augmentation")
    (run,) = runs.all
    runs.order_file(run, "order").write_text("wait")
    text = (
        "import os, signal, sys; from pathlib import Path; from experiments.sweep import local, plan;"
        f"plan.TRAIN = ('python', {str(STUB)!r});"
        f"run = plan.make_run({run.name!r}, {run.config_file!r}, {dict(run.settings)!r}, Path({str(runs.folder)!r}));"
        "local.start(run, local.Place());\n"
        f"while not Path({str(run.workdir / 'config.json')!r}).exists(): pass\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    while run.log.read_text() != "saved\n":
        pass  # the child lives until it has written this


def test_a_run_that_another_process_is_at_work_on_has_not_failed(
    make_runs: Callable[[str], Runs], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make_runs("augmentation")
    (run,) = runs.all
    runs.order_file(run, "order").write_text("in use")
    assert call(monkeypatch, runs.studies, "--runs", str(runs.folder)) == 75
    assert "0 of 1 done, 0 running, 0 failed, 1 at work in other processes" in capsys.readouterr().err
    assert runs.states()[run.name] == "running"
    with exclusive(runs.folder / ".lock", wait=False):
        assert call(monkeypatch, runs.studies, "--runs", str(runs.folder)) == 75


def test_a_folder_below_which_checkpoints_could_not_be_read_is_refused(
    make_runs: Callable[[str], Runs], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = make_runs("augmentation")
    assert call(monkeypatch, runs.studies, "--runs", str(tmp_path / "a[1]")) == 2
    assert not (tmp_path / "a[1]").exists()


def test_a_sweep_that_was_moved_goes_on(
    make_runs: Callable[[str], Runs], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = make_runs("lambda_return")
    assert call(monkeypatch, runs.studies, "--runs", str(runs.folder)) == 0
    runs.starts()
    (tmp_path / "elsewhere").mkdir()
    runs.folder.rename(tmp_path / "elsewhere" / "runs")
    (tmp_path / "orders").rename(tmp_path / "elsewhere" / "orders")
    assert call(monkeypatch, runs.studies, "--runs", str(tmp_path / "elsewhere" / "runs")) == 0
    assert not (tmp_path / "elsewhere" / "starts.txt").exists()  # nothing was left to do
    # dwm_jax.train itself takes no offence either: where world models lie is no setting.
    run = runs.stages[1].runs[0]
    there = plan.make_run(run.name, run.config_file, run.settings, tmp_path / "elsewhere" / "runs")
    assert there.config.world_model_dir != run.config.world_model_dir
    assert differences(there.config, json.loads(to_json(run.config))) == []


def test_a_slurm_job_whose_run_was_stopped_by_slurm_itself_comes_again(make_runs: Callable[[str], Runs]) -> None:
    runs = make_runs("augmentation")
    (run,) = runs.all
    runs.order_file(run, "order").write_text("stopped")
    requeued: list[int] = []
    # submitit's own handler stands here: it puts the job back into the queue and leaves.
    earlier = signal.signal(signal.SIGUSR2, lambda number, frame: requeued.append(number))
    try:
        with pytest.raises(RuntimeError, match="exit code 143"):
            slurm.Job()(run.command, str(run.log))
    finally:
        signal.signal(signal.SIGUSR2, earlier)
    assert requeued == [signal.SIGUSR2]


def children() -> list[str]:
    """Living processes that this one has started."""
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return [pid for task in tasks for pid in task.read_text().split() if alive(pid)]


def alive(pid: str) -> bool:
    """Whether a process is more than an entry that nobody has collected."""
    try:
        return "stub_train" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("below", "launcher", "reason"),
    [
        ("file", "local", "is no folder"),
        ("file/a", "print", "is no folder"),
        ("a b", "print", "has a space in its path"),
    ],
)
def test_runs_that_could_lie_nowhere_are_refused(
    below: str, launcher: str, reason: str, tmp_path: Path, run_module: RunModule
) -> None:
    (tmp_path / "file").write_text("")
    result = run_module("experiments.sweep", "main", "--runs", str(tmp_path / below), "--launcher", launcher)
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert reason in line
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_record_that_says_something_else_of_a_run_is_taken_as_silent(tmp_path: Path, run_module: RunModule) -> None:
    record = {"scale": "smoke", "members": {"main/maze2d-umaze/DWM-TD3BC-H1": "done", "a": 3}}
    (tmp_path / "sweep.json").write_text(json.dumps(record))
    result = run_module("experiments.sweep", "main", "--dry-run", "--runs", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "# 9 to do" in result.stdout
