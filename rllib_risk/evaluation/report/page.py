"""Parts of an HTML page: headings, tables, images, hidden details."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import IO

_TYPES = {
    ".png": "image/png",
    ".gif": "image/gif",
    ".jpg": "image/jpeg",
    ".svg": "image/svg+xml",
}
IMAGE_SUFFIXES = tuple(_TYPES)
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 0 auto;
       max-width: 62rem; padding: 1rem 1.2rem 3rem; }
h1 { font-size: 1.7rem; margin: 1rem 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ccc; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
figure { margin: 1rem 0; break-inside: avoid; }
img { max-width: 100%; height: auto; }
figcaption, .note { color: #555; font-size: .88rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; break-inside: avoid; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right;
         vertical-align: top; }
th:first-child, td:first-child, table.texts th, table.texts td { text-align: left; }
code { background: #f3f3f3; padding: .05rem .25rem; overflow-wrap: anywhere; }
summary { cursor: pointer; }
@media print { body { max-width: none; font-size: 11pt; } details { display: none; } }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Returns a whole page.

    Args:
        title: Title of the page.
        parts: HTML of its sections.

    Returns:
        The HTML document. It refers to no other file and no other host.
    """
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def heading(text: str, level: int = 2) -> str:
    """Returns a heading.

    Args:
        text: Text of the heading.
        level: 2 for a section, 3 for a part of a section.

    Returns:
        The HTML.
    """
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    """Returns a paragraph of smaller, grey text.

    Args:
        text: Text of the paragraph.

    Returns:
        The HTML.
    """
    return f'<p class="note">{escape(text)}</p>'


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, texts: bool = False
) -> str:
    """Returns a table.

    Args:
        header: Names of the columns.
        rows: Cells of the rows.
        texts: Whether all cells hold texts and are aligned to the left. Otherwise only
            the first column is.

    Returns:
        The HTML. A table wider than the page scrolls.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(c)}</{tag}>' for c in cells)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    kind = ' class="texts"' if texts else ""
    return (
        f'<div class="scroll"><table{kind}><thead>{line(header, "th")}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def details(summary: str, content: str) -> str:
    """Returns content that is hidden until a click, and is not printed.

    Args:
        summary: The line that is always shown.
        content: HTML of the content.

    Returns:
        The HTML.
    """
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def image(file: Path, caption: str) -> str:
    """Returns an image file as a part of the page.

    Args:
        file: An image with one of :data:`IMAGE_SUFFIXES`.
        caption: Text below it.

    Returns:
        The HTML, with the image inside.
    """
    return _figure(file.read_bytes(), _TYPES[file.suffix.lower()], caption)


def drawing(draw: Callable[[IO[bytes]], None], caption: str) -> str:
    """Returns a figure that is drawn for the page.

    Args:
        draw: ``draw(file)`` writes a PNG into a binary file.
        caption: Text below it.

    Returns:
        The HTML, with the figure inside.
    """
    file = io.BytesIO()
    draw(file)
    return _figure(file.getvalue(), "image/png", caption)


def _figure(data: bytes, kind: str, caption: str) -> str:
    encoded = base64.b64encode(data).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:{kind};base64,{encoded}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
