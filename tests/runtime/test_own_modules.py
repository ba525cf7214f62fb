"""--import: what is one's own is known once it is named, and what is not known says so."""

import argparse
import re
from pathlib import Path

import pytest

from dwm_jax import registry
from dwm_jax.learners.td3_bc import TD3BC
from dwm_jax.runtime import own_modules
from experiments.status import find_phases

ADDS_A_LEARNER = """
from dwm_jax.learners.td3_bc import TD3BC
from dwm_jax.registry import add_learner
class Mine(TD3BC):
    title = "Mine"
add_learner("mine", Mine)
"""
OF_MINE = '{"methods": "Mine,TD3+BC", "num_seeds": 1, "policy": {"num_updates": 7}, "evaluation": {"episodes": 1}}'


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test makes known is not known to the next."""
    monkeypatch.setattr(registry, "LEARNERS", registry.Registry(registry.LEARNERS))
    for name in [name for name in registry.METHODS if "Mine" in name]:
        del registry.METHODS[name]


def test_a_file_or_a_module_is_imported_and_several_may_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "by_path.py").write_text(ADDS_A_LEARNER)
    (tmp_path / "a_module_of_mine.py").write_text("import dwm_jax.registry; dwm_jax.registry.was_here = True")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "was_here", False, raising=False)
    parser = argparse.ArgumentParser()
    own_modules.add_flag(parser)
    assert parser.parse_args([]).own_modules == []
    own_modules.import_all(
        parser.parse_args(["--import", str(tmp_path / "by_path.py"), "--import", "a_module_of_mine"]).own_modules
    )
    assert issubclass(registry.LEARNERS["mine"], TD3BC)
    assert registry.METHODS["DWM-Mine"] == registry.Learning("mine", "dwm")
    assert registry.was_here


def test_what_cannot_be_imported_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(ValueError, match=f"^--import {re.escape(str(tmp_path))}/broken.py: ZeroDivisionError: "):
        own_modules.import_all([str(tmp_path / "broken.py")])
    with pytest.raises(ValueError, match=r"^--import no_such: ModuleNotFoundError: "):
        own_modules.import_all(["no_such"])
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)")
    with pytest.raises(ValueError, match=r"leaving.py: SystemExit: 0$"):
        own_modules.import_all([str(tmp_path / "leaving.py")])


def test_a_run_of_a_learner_that_is_not_known_says_what_to_do_and_is_read_once_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "config.json").write_text(OF_MINE)
    (tmp_path / "mine.py").write_text(ADDS_A_LEARNER)
    assert [phase.state for phase in find_phases(tmp_path / "runs")] == ["unreadable"]
    assert "unknown name 'Mine'; one of your own is registered by naming its module with --import" in (
        capsys.readouterr().err
    )
    own_modules.import_all([str(tmp_path / "mine.py")])
    assert [phase.name for phase in find_phases(tmp_path / "runs")] == ["Mine", "TD3+BC"]
