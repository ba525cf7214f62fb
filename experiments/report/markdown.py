"""Pieces of Markdown, and one self-contained HTML page of them: pictures inlined, nothing fetched from anywhere."""

import base64
import mimetypes
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

import numpy as np
from markdown_it import MarkdownIt

NOTHING = "–"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; columns of figures stand to the right."""
    rows = list(rows)
    columns = zip(*rows, strict=True) if rows else ([] for _ in head)
    marks = ["---:" if all(_is_figure(cell) for cell in column) else "---" for column in columns]
    lines = [head, marks, *rows]
    return "\n".join("| " + " | ".join(plain(cell) for cell in line) + " |" for line in lines) + "\n"


def plain(text: str) -> str:
    """Text from outside, a run's name or what is wrong with it, that is to be shown as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def heading(task: str) -> str:
    """Over what belongs to one task."""
    return f"### {plain(task)}\n"


def _is_figure(cell: str) -> bool:
    return cell == NOTHING or cell.lstrip("+-")[:1].isdigit()


def spread(values: Sequence[float] | np.ndarray, digits: int = 2) -> str:
    """Mean and standard deviation."""
    return mean_and_std(float(np.mean(values)), float(np.std(values)), digits)


def mean_and_std(mean: float, std: float, digits: int = 2) -> str:
    """A mean and a standard deviation that are known."""
    return f"{number(mean, digits)} ± {number(std, digits)}"


def number(value: float, digits: int = 2) -> str:
    """Rounded, without a negative zero; a dash where there is none."""
    return NOTHING if np.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def difference(value: float, digits: int = 2) -> str:
    """Rounded, with its sign."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def figures(*pictures: tuple[str, str]) -> str:
    """(description, file) pairs in one paragraph: side by side where there is room."""
    return "\n".join(f"![{description}]({file})" for description, file in pictures) + "\n"


def folded(title: str, text: str) -> str:
    """Text that opens on demand; printed open."""
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n</details>\n"


def anchor(heading: str) -> str:
    """Where a link to a heading goes, by the rule code hosts have for it."""
    kept = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


TEMPLATE = Path(__file__).with_name("page.html")


def page(text: str, title: str, folder: Path) -> str:
    """The page.

    Args:
      text: Markdown; headings can be linked to by `markdown.anchor`.
      title: of the window.
      folder: where the pictures that `text` names lie.
    """
    # `markdown.folded` is HTML in the Markdown; what comes from outside has passed `markdown.plain`.
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
                child.attrSet("src", inlined(folder / str(child.attrGet("src"))))
    body = parser.renderer.render(tokens, parser.options, {})
    return Template(TEMPLATE.read_text()).substitute(title=title, body=body)


def inlined(path: Path) -> str:
    """The file as a data URI."""
    kind, _ = mimetypes.guess_type(path.name)
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
