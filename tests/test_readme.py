"""The README's commands and example are real."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_forking_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    for example in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == "(8, 4)\n"


PAGES = [ROOT / name for name in ("README.md", "RESULTS.md", "PERFORMANCE.md", "experiments/measured/README.md")]


def anchor_of(heading: str) -> str:
    """The name under which a heading is linked to: lower case, without punctuation, hyphens for blanks."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", page.read_text())
    assert links
    for name, anchor in links:
        target = page.parent / name if name else page
        assert target.exists(), name
        if anchor:
            headings = re.findall(r"^#+ (.+)", target.read_text(), flags=re.MULTILINE)
            assert anchor in map(anchor_of, headings), f"{name}#{anchor}"


def test_every_config_that_is_named_exists() -> None:
    configs = re.findall(r"--config (\S+?\.py)", README)
    assert configs
    assert [name for name in configs if not (ROOT / name).exists()] == []
