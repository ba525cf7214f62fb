"""Configs by name and by path; the names are those of the files."""

import json
from pathlib import Path

import pytest

from dwm_jax import config_files
from dwm_jax.config import ConfigError, differences, to_json

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "experiments" / "configs"


def test_every_shipped_config_has_its_name_and_nothing_else_has_one() -> None:
    assert set(config_files.list_shipped()) == {
        path.stem for path in CONFIGS.glob("*.py") if "def get_config" in path.read_text()
    }


@pytest.mark.parametrize(
    ("named", "file", "argument"),
    [
        ("quickstart", "quickstart.py", ""),
        ("recommended:hopper-medium", "recommended.py", ":hopper-medium"),
        ("paper:hopper-medium-v2,recommended", "paper.py", ":hopper-medium-v2,recommended"),
    ],
)
def test_a_name_is_the_path_of_its_file(named: str, file: str, argument: str) -> None:
    assert config_files.find(named) == f"{CONFIGS / file}{argument}"


def test_a_file_that_is_there_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("paper").write_text("")
    assert config_files.find("paper:hopper") == "paper:hopper"
    assert config_files.find(f"{CONFIGS}/maze2d.py:medium") == f"{CONFIGS}/maze2d.py:medium"


@pytest.mark.parametrize("named", ["quikstart", "", "__init__", "../configs/smoke", "mine.py:x"])
def test_what_is_not_there_is_refused_with_the_known_names(named: str) -> None:
    with pytest.raises(ConfigError, match="no such file, and no name of a shipped config: grid, locomotion, maze2d,"):
        config_files.find(named)


def test_a_config_of_ones_own_overrides_a_shipped_one(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from dwm_jax.config_files import load\n"
        "from dwm_jax.recipes import apply_paper\n"
        "def get_config(steps='3'):\n"
        "    config = load('recommended:hopper-medium')\n"
        "    apply_paper(config)\n"
        "    config.policy.horizon = int(steps)\n"
        "    return config\n"
    )
    published = json.loads(to_json(config_files.load("paper:hopper-medium")))
    assert differences(config_files.load(str(mine)), published) == ["policy.horizon: 5 -> 3"]
    assert differences(config_files.load(f"{mine}:5"), published) == []


def test_what_does_not_go_with_get_config_names_the_config(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def get_config(steps):\n    raise TypeError('of its own')\n")
    with pytest.raises(ConfigError, match=r"--config smoke:x: it takes no argument; leave :x out"):
        config_files.load("smoke:x")
    with pytest.raises(ConfigError, match=f"--config {mine}: it needs an argument: {mine}:ARGUMENT"):
        config_files.load(str(mine))
    with pytest.raises(TypeError, match="of its own"):
        config_files.load(f"{mine}:3")


def test_recommended_is_the_papers_config_by_the_other_recipe() -> None:
    recommended, published = (config_files.load(f"{name}:walker2d-medium") for name in ("recommended", "paper"))
    assert to_json(recommended) == to_json(config_files.load("paper:walker2d-medium,recommended"))
    assert "policy.ask: constant -> reachable" in differences(recommended, json.loads(to_json(published)))
    assert recommended.policy.return_to_go == published.policy.return_to_go == 0.7
