"""The commit beside a figure is the one whose code made it."""

import subprocess
from pathlib import Path

import pytest

from dwm_jax.runtime import provenance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a package in it, committed."""
    module = tmp_path / "dwm_jax" / "runtime" / "provenance.py"
    module.parent.mkdir(parents=True)
    module.write_text("pass")
    identity = ["-c", "user.name=A", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "__file__", str(module))
    return tmp_path


def test_the_commit_is_named_and_marked_where_files_differ_from_it(checkout: Path) -> None:
    head = ["git", "rev-parse", "--short", "HEAD"]
    expected = subprocess.run(head, cwd=checkout, check=True, capture_output=True, text=True).stdout.strip()
    assert provenance.find_commit() == expected
    (checkout / "new.py").write_text("pass")
    assert provenance.find_commit() == expected + "+"


def test_a_package_inside_another_repository_has_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = checkout / "site-packages" / "dwm_jax" / "runtime" / "provenance.py"
    inside.parent.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(inside))
    assert provenance.find_commit() is None


def test_outside_of_a_repository_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "dwm_jax" / "runtime" / "provenance.py"))
    (tmp_path / "dwm_jax" / "runtime").mkdir(parents=True)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert provenance.find_commit() is None
