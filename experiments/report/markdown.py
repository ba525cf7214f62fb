"""Pieces of Markdown, and one self-contained HTML page of them: pictures inlined, nothing fetched from anywhere."""

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

import numpy as np

from dwm_jax.runtime import progress

NOTHING = "–"
# The folder of a report's pictures.
PICTURES = "figures"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; columns of figures stand to the right."""
    rows = list(rows)
    columns = zip(*rows, strict=True) if rows else ([] for _ in head)
    marks = ["---:" if all(_is_figure(cell) for cell in column) else "---" for column in columns]
    lines = [head, marks, *rows]
    return "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines) + "\n"


def escape(text: str) -> str:
    """Text from outside, a run's name or what is wrong with it, on one line and as it is: no link, picture or HTML."""
    escaped = re.sub(r"([\\`\[\]|])", r"\\\1", one_line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def one_line(text: str) -> str:
    """Without line breaks, and with a ? for every other character that cannot be printed."""
    return progress.printable(progress.one_line(text))


def fenced(lines: Sequence[str], language: str) -> str:
    """Lines of code as they are; the fence is longer than any in them."""
    longest = max((len(ticks) for line in lines for ticks in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence + language, *lines, fence]) + "\n"


def picture_file(*parts: str, kind: str = "svg") -> str:
    """Where a picture lies below the report's folder, named by parts of which some come from outside."""
    name = "-".join(parts)
    kept = re.sub(r"[^A-Za-z0-9_+.=-]", "-", name)[:100]
    # What had to be changed may now be another's name.
    unlike = "" if kept == name else "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{PICTURES}/{kept}{unlike}.{kind}"


def heading(task: str) -> str:
    """Over what belongs to one task."""
    return f"### {escape(task)}\n"


def _is_figure(cell: str) -> bool:
    return cell == NOTHING or cell.lstrip("+-")[:1].isdigit()


def format_spread(values: Sequence[float] | np.ndarray, digits: int = 2) -> str:
    """Mean and standard deviation."""
    return mean_and_std(float(np.mean(values)), float(np.std(values)), digits)


def mean_and_std(mean: float, std: float, digits: int = 2) -> str:
    """A mean and a standard deviation that are known; the mean alone where the other is NaN."""
    if np.isnan(std):
        return number(mean, digits)
    return f"{number(mean, digits)} ± {number(std, digits)}"


def number(value: float, digits: int = 2) -> str:
    """Rounded, without a negative zero; a dash where there is none."""
    return NOTHING if np.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def difference(value: float, digits: int = 2) -> str:
    """Rounded, with its sign."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def figures(*pictures: tuple[str, str]) -> str:
    """(description, file) pairs in one paragraph: side by side where there is room."""
    return "\n".join(f"![{escape(description)}]({file})" for description, file in pictures) + "\n"


def pictures_in(text: str) -> set[str]:
    """The names below `PICTURES` that a report shows; of any text at most such names."""
    return set(re.findall(rf"\]\({PICTURES}/([A-Za-z0-9_+=-][A-Za-z0-9_+.=-]*)\)", text))


def fold(title: str, text: str) -> str:
    """Text that opens on demand; printed open."""
    return f"<details>\n<summary>{html.escape(title)}</summary>\n\n{text}\n</details>\n"


def anchor(heading: str) -> str:
    """Where a link to a heading goes, by the rule code hosts have for it."""
    kept = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


TEMPLATE = Path(__file__).with_name("page.html")


def make_page(text: str, title: str, folder: Path) -> str:
    """The page.

    Args:
      text: Markdown; headings can be linked to by `markdown.anchor`.
      title: of the window.
      folder: where the pictures that `text` names lie.
    """
    # Here, since the rest of this file serves those who have not installed it.
    from markdown_it import MarkdownIt

    # `markdown.fold` is HTML in the Markdown; what comes from outside has passed `markdown.escape`.
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    # A wide table scrolls by itself; the page never does.
    parser.add_render_rule("table_open", lambda *_: '<div class="table" tabindex="0"><table>\n', fmt="html")
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n", fmt="html")
    tokens = parser.parse(text)
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", anchor(tokens[position + 1].content))
        for child in token.children or []:
            if child.type == "image":
                child.attrSet("src", inline_picture(folder, str(child.attrGet("src"))))
    body = parser.renderer.render(tokens, parser.options, {})
    return Template(TEMPLATE.read_text("utf-8")).substitute(title=html.escape(title), body=body)


def inline_picture(folder: Path, source: str) -> str:
    """A picture of the report in `folder` as a data URI; nothing else that lies on this machine, and no link to it."""
    path = folder / source
    kind = {".svg": "image/svg+xml", ".png": "image/png"}.get(path.suffix)
    if kind is None or pictures_in(f"]({source})") != {path.name} or path.is_symlink() or not path.is_file():
        return "data:,"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
