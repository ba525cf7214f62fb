"""A report of somebody else's runs: what they are called is shown as it is, and nothing of this machine is let out."""

import base64
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dwm_jax.runtime.row_files import JsonLines
from experiments import status
from experiments.report import markdown, reading
from experiments.report.__main__ import write
from experiments.studies.catalogue import STUDIES
from tests.experiments.test_report import make_run

TABLES = {"TD3+BC": [(0.1, 0.2), (0.3, 0.4)]}
SECRET = "the secret of this machine"


class Page(HTMLParser):
    """Elements and addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        given: dict[str, Any] = dict(attrs)
        assert not [name for name in given if name.startswith("on")], given
        self.addresses += [given[name] for name in ("src", "href", "data") if name in given]


def report(runs: Path, folder: Path) -> tuple[str, Page]:
    """(the Markdown, the page) of everything below `runs`."""
    write(reading.read_all(runs, list(STUDIES)), runs, folder)
    page, text = Page(), (folder / "report.html").read_text()
    page.feed(text)
    shown = [base64.b64decode(data).decode(errors="replace") for data in re.findall(r"base64,([A-Za-z0-9+/=]+)", text)]
    assert SECRET not in text + "".join(shown)
    return (folder / "report.md").read_text(), page


def assert_harmless(page: Page) -> None:
    """Nothing but text, tables and own pictures; links lead nowhere but here."""
    assert not page.elements & {"script", "iframe", "object", "embed", "form", "svg", "base", "meta refresh", "b"}
    for address in page.addresses:
        assert address.startswith(("data:image/", "data:,", "#")) or address in ("comparison.csv", "evaluations.csv")


@pytest.mark.parametrize(
    "name",
    [
        "![x](SECRET)",
        "[click](javascript:alert(1))",
        "<script>alert(1)</script>",
        "</h3><b>bold",
        "x\n\n# heading\n\n![x](SECRET)",
        "`code` | cell | ![x](SECRET)",
        "\\[escaped](SECRET)",
        "../../../../escaped",
        "a" * 400,
        "$\\frac{1}{$",
        "name\x1b]0;title\x07\x00",
        "figures/x.svg)![x](SECRET",
        '" onerror="alert(1)',
        "caf\udce9",
    ],
)
def test_what_a_run_calls_itself_is_text(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret.svg").write_text(SECRET)
    name = name.replace("SECRET", str(tmp_path / "secret.svg"))
    for variant in ("a", "b"):
        run = make_run(tmp_path / "runs" / "main" / "task" / variant, TABLES)
        config = json.loads((run / "config.json").read_text()) | {"task": name}
        (run / "config.json").write_text(json.dumps(config))
        diagnostics = json.loads((run / "diagnostics.json").read_text())
        diagnostics["prediction_error"] = {name: diagnostics["prediction_error"]["dwm"]}
        (run / "diagnostics.json").write_text(json.dumps(diagnostics))
        command = ["python\n" + name, "-m", "dwm_jax.train", name]
        start = {"time": f"now\nrm -rf ~ {name}", "command": command, "commit": name, "xla_flags": name, "jax": name}
        JsonLines(run / "starts.jsonl").append([start])
    members = {f"main/{name}/x": {"state": name, "log": name}}
    (tmp_path / "runs" / "sweep.json").write_text(json.dumps({"scale": name, "members": members}))
    _, page = report(tmp_path / "runs", tmp_path / "out")
    assert_harmless(page)
    inside = [path for path in tmp_path.rglob("*.svg") if path.name != "secret.svg"]
    assert all(path.parent == tmp_path / "out" / "figures" for path in inside)
    list(status.find_phases(tmp_path / "runs"))
    assert "\x1b" not in capsys.readouterr().err


def test_a_folder_whose_name_is_no_utf8_is_reported_with_a_question_mark(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / os.fsdecode(b"caf\xe9"), TABLES)  # its command names the folder, too
    text, _ = report(tmp_path / "runs", tmp_path / "out")
    assert "caf?" in text
    (one,) = reading.read_all(tmp_path / "runs", ()).runs
    assert one.place == "caf?"  # choose draws it


def test_code_cannot_leave_its_fence(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "main" / "task" / "a", TABLES)
    command = ["python", "```\n<script>alert(1)</script>\n```", "`" * 7]
    JsonLines(run / "starts.jsonl").append([{"time": "now", "command": command, "commit": "a"}])
    text, page = report(tmp_path / "runs", tmp_path / "out")
    assert "`" * 8 + "sh" in text
    assert_harmless(page)


def test_a_line_of_a_comment_is_no_command() -> None:
    assert markdown.one_line("here\nrm -rf ~\x1b[2J") == "here rm -rf ~?[2J"


def test_a_picture_that_leads_elsewhere_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    run = make_run(tmp_path / "runs" / "returns_to_go" / "task" / "a", TABLES)
    for place in ("link", "text", "folder"):
        picture = run / "figures" / "returns_to_go.png"
        if place == "link":
            (run / "figures").mkdir()
            picture.symlink_to(tmp_path / "secret")
        elif place == "text":
            picture.unlink()
            picture.write_text(SECRET)
        else:
            picture.unlink()
            (run / "figures").rmdir()
            (tmp_path / "elsewhere").mkdir()
            (tmp_path / "elsewhere" / "returns_to_go.png").write_text(f"\x89PNG\r\n\x1a\n{SECRET}")
            (run / "figures").symlink_to(tmp_path / "elsewhere")
        report(tmp_path / "runs", tmp_path / place)
        assert not list((tmp_path / place).rglob("*.png"))


def test_only_pictures_that_an_earlier_report_shows_are_removed(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "main" / "task-one" / "a", TABLES)
    figures = tmp_path / "out" / "figures"
    report(tmp_path / "runs", tmp_path / "out")
    own = {path.name for path in figures.iterdir()}
    assert own
    (figures / "mine.svg").write_text("somebody's own")
    (tmp_path / "mine.svg").write_text("somebody's own")
    earlier = tmp_path / "out" / "report.md"
    earlier.write_text(earlier.read_text() + "![x](figures/../../mine.svg) ![x](../mine.svg) ![x](figures/stale.svg)\n")
    (figures / "stale.svg").write_text("of the earlier report")
    report(tmp_path / "runs", tmp_path / "out")
    assert {path.name for path in figures.iterdir()} == own | {"mine.svg"}
    assert (tmp_path / "mine.svg").exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b""),
        ("config.json", b'{"methods": 3}'),
        ("config.json", b'{"methods": "TD3+BC", "num_seeds": 1e400}'),
        ("config.json", b"[" * 100_000),
        ("results.csv", b"a,b\n1,2\n"),
        ("results.csv", b"\xff\xfe\x00"),
        ("metrics.jsonl", b"{\n"),
        ("metrics.jsonl", b"[1]\n"),
        ("timing.jsonl", b"null\n"),
        ("starts.jsonl", b'{"command": {}}\n'),
        ("diagnostics.json", b'{"prediction_error": {"dwm": {"observation": [[1]], "reward": "x"}}}'),
    ],
)
def test_files_that_are_not_in_order_are_named_and_the_other_run_is_shown(
    file: str, content: bytes, tmp_path: Path
) -> None:
    make_run(tmp_path / "runs" / "main" / "task" / "good", TABLES)
    bad = make_run(tmp_path / "runs" / "main" / "task" / "bad", TABLES)
    (bad / file).write_bytes(content)
    text, page = report(tmp_path / "runs", tmp_path / "out")
    assert_harmless(page)
    phases = {phase.run: phase.state for phase in status.find_phases(tmp_path / "runs")}
    assert phases["main/task/good"] in ("done", "stopped", "not started")
    if file != "metrics.jsonl":  # which the report does not read
        assert "cannot be read" in text
