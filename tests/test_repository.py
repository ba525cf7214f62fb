"""The files beside the code: citation, hook and changelog say what is so."""

import re
from pathlib import Path

import pytest
import yaml

import dwm_jax

ROOT = Path(__file__).parents[1]
PAPER_AUTHORS = ["Zihan Ding", "Amy Zhang", "Yuandong Tian", "Qinqing Zheng"]


def test_the_citation_has_what_its_format_requires_and_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    # Required by the Citation File Format 1.2.0: of the file, and of a reference inside.
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == dwm_jax.__version__
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert [f"{author['given-names']} {author['family-names']}" for author in paper["authors"]] == PAPER_AUTHORS
    assert paper["url"] == "https://arxiv.org/abs/2402.03570"
    assert paper["title"].startswith("Diffusion World Model: ")


def test_the_hook_before_a_commit_is_make_lint() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (hook,) = repository["hooks"]
    assert repository["repo"] == "local"
    assert (hook["entry"], hook["language"], hook["pass_filenames"]) == ("make lint", "system", False)
    assert re.search(r"^lint:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_changelog_knows_this_version() -> None:
    versions = re.findall(r"^## ([\d.]+) \(", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == dwm_jax.__version__.removesuffix(".0")


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_file_that_is_linked_exists(name: str) -> None:
    links = re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / name).read_text())
    assert links or name == "CHANGELOG.md"
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []
