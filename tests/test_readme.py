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


def test_every_file_that_is_named_exists() -> None:
    configs = re.findall(r"--config (\S+?\.py)", README)
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert configs
    assert links
    assert [name for name in configs + links if not (ROOT / name.partition("#")[0]).exists()] == []
