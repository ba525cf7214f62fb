"""Every config's docstring is a document: its command, and measured figures that RESULTS.md has."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGS = [path for path in (ROOT / "experiments" / "configs").glob("*.py") if "def get_config" in path.read_text()]
SECTIONS = dict(
    re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (ROOT / "RESULTS.md").read_text(), flags=re.MULTILINE | re.DOTALL)
)


def text_of(path: Path) -> str:
    return " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_says_what_it_reproduces_how_and_what_to_expect(path: Path) -> None:
    text = text_of(path)
    assert f"python -m dwm_jax.train --config experiments/configs/{path.name}" in text
    assert "Reproduces: " in text
    source = re.search(r'Source: RESULTS\.md, "(.+?)"', text)
    if source is None:
        assert "not measured here" in text
        assert "±" not in text
        return
    section = SECTIONS[source[1]]
    figures = re.findall(r"-?\d+\.\d+ ± \d+\.\d+|\d+ min \d+ s|[\d,]+ s\b", text)
    assert len(figures) >= 3
    for figure in figures:
        # A table of seconds has no unit beside its figures.
        assert re.search(rf"(?<!\d){re.escape(figure.removesuffix(' s'))}(?![\d])", section), figure
