"""What a user meets at the door: one clear line and exit code 2 before any compute."""

from pathlib import Path

import jax
import pytest

from dwm_jax.command_line import keep_compiled
from tests.commands import RunModule

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("--config.policy.horizonn=5", "error: unknown config key: 'horizonn'; did you mean \"horizon\""),
        ("--config.policy.horizon=soon", "error: flag --config.policy.horizon=soon: invalid literal for int()"),
        ("--bogus=1", "error: Unknown command line flag 'bogus'"),
        ("--config=quickstart", "error: --config is there more than once: name one file"),
        ("--wandb=", "error: --wandb needs the name of a project"),
        (
            "--config.policy.horizon=8",
            "error: policy.horizon=8 is not allowed: at most 3",
        ),
    ],
)
def test_bad_command_is_one_line_and_code_2(override: str, line: str, run_module: RunModule, tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    result = run_module(
        "dwm_jax.train", "--config", "experiments/configs/smoke.py", "--workdir", str(workdir), override
    )
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith(line)
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("config", "workdir", "line"),
    [
        ("nowhere.py", "run", "error: --config nowhere.py: no such file, and no name of a shipped config: grid,"),
        ("experiments/configs/maze2d.py:huge", "run", "ValueError: maze2d.py:huge: unknown maze; known: umaze, medium"),
        ("maze2d:huge", "run", "ValueError: maze2d.py:huge: unknown maze; known: umaze, medium"),
        ("smoke:x", "run", "error: --config smoke:x: it takes no argument; leave :x out"),
        ("recommended:walker2d-medium-v2", "run", "error: walker2d-medium-v2 is not prepared in "),
        ("recommended:nothing", "run", "error: task='nothing' is not allowed: known tasks are"),
        ("experiments/configs/smoke.py", "gs://bucket/run", "error: gs://bucket/run is not a local path"),
        ("experiments/configs/smoke.py", "lr=[0.1]", "error: lr=[0.1] has [ ] in its path"),
    ],
)
def test_a_file_or_folder_that_cannot_be_is_one_line_and_code_2(
    config: str, workdir: str, line: str, run_module: RunModule
) -> None:
    result = run_module("dwm_jax.train", "--config", config, "--workdir", workdir)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert line in result.stderr
    assert "Traceback" not in result.stderr
    assert not (ROOT / workdir).exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import nothing_there", "ModuleNotFoundError: No module named 'nothing_there'"),
        ("x = 1 / 0", "ZeroDivisionError: division by zero"),
        ("{}['x']", "KeyError: 'x'"),
        ("assert False, 'never'", "AssertionError: never"),
        ("x = 1\0", "SyntaxError: source code string cannot contain null bytes"),
        ("x = 1", "it has no get_config"),
        ("def get_config():\n    return get_config()", "RecursionError: maximum recursion depth exceeded"),
        (
            "def get_config():\n    open('/nowhere')",
            "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere'",
        ),
        ("def get_config(task):\n    pass", "it needs an argument: "),
        ("def get_config():\n    pass", "its get_config gives no ConfigDict, but NoneType"),
        (
            "from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({'task': 'a'})",
            "lacks checkpoint_every, data.holdout_fraction, data.num_steps and more; start from",
        ),
        (
            "from dwm_jax.config_files import load\ndef get_config():\n    c = load('smoke')\n    c.nope = 3\n",
            'AttributeError: Key "nope" does not exist',
        ),
    ],
)
def test_a_config_file_may_go_wrong_in_any_way(text: str, line: str, run_module: RunModule, tmp_path: Path) -> None:
    config = tmp_path / "mine.py"
    config.write_text(text)
    result = run_module("dwm_jax.train", "--config", str(config), "--workdir", str(tmp_path / "run"))
    assert result.returncode == 2
    (said,) = result.stderr.strip().splitlines()
    assert said.startswith(f"error: --config {config}")
    assert line in said


def test_too_little_memory_is_one_line(run_module: RunModule, tmp_path: Path) -> None:
    config = tmp_path / "large.py"
    config.write_text(
        "from dwm_jax import command_line\n"
        "from dwm_jax.config_files import load\n"
        "def too_large(*_):\n"
        "    raise MemoryError('Unable to allocate 44.7 GiB')\n"
        "command_line.check = too_large\n"
        "def get_config():\n"
        "    return load('smoke')\n"
    )
    result = run_module("dwm_jax.train", "--config", str(config), "--workdir", str(tmp_path / "run"))
    assert result.returncode == 1
    (said,) = result.stderr.strip().splitlines()
    assert said.startswith("error: this machine has too little memory")
    assert said.endswith("Unable to allocate 44.7 GiB")


def test_a_workdir_without_a_name_is_none(run_module: RunModule) -> None:
    result = run_module("dwm_jax.train", "--config", "smoke", "--workdir=")
    assert result.returncode == 2
    assert "both --config FILE and --workdir DIR are needed" in result.stderr


def test_help_teaches_the_command(run_module: RunModule) -> None:
    result = run_module("dwm_jax.train", "--help")
    assert result.returncode == 0
    assert "--config experiments/configs/quickstart.py --workdir" in result.stdout
    for flag in (
        "--config:",
        "--workdir:",
        "debug-nans:",
        "tensorboard:",
        "--wandb:",
        "--expect-devices:",
        "--coordinator:",
    ):
        assert flag in result.stdout


def test_a_config_that_leaves_keeps_its_exit_code(run_module: RunModule, tmp_path: Path) -> None:
    config = tmp_path / "leaving.py"
    config.write_text("raise SystemExit(3)")
    assert run_module("dwm_jax.train", "--config", str(config), "--workdir", str(tmp_path / "run")).returncode == 3


def test_missing_config_is_said(run_module: RunModule) -> None:
    result = run_module("dwm_jax.train", "--workdir", "nowhere")
    assert result.returncode == 2
    assert "both --config FILE and --workdir DIR are needed" in result.stderr


def test_compiled_programs_lie_beside_the_workdir_or_where_jax_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", before)
    keep_compiled(tmp_path / "run")
    assert jax.config.jax_compilation_cache_dir == before
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    try:
        keep_compiled(tmp_path / "run")
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / ".compiled")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)  # as in conftest.py
