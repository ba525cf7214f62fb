"""One self-contained HTML page from a report's Markdown: pictures inlined, nothing fetched from anywhere."""

import base64
import mimetypes
from pathlib import Path
from string import Template

from markdown_it import MarkdownIt

from experiments.report import markdown

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
            token.attrSet("id", markdown.anchor(tokens[position + 1].content))
        for child in token.children or []:
            if child.type == "image":
                child.attrSet("src", inlined(folder / str(child.attrGet("src"))))
    body = parser.renderer.render(tokens, parser.options, {})
    return Template(TEMPLATE.read_text()).substitute(title=title, body=body)


def inlined(path: Path) -> str:
    """The file as a data URI."""
    kind, _ = mimetypes.guess_type(path.name)
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
