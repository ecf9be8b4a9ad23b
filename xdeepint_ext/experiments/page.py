"""What an HTML page that stands alone is made of."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

__all__ = ["document", "image", "section", "table"]

CSS = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 66em; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #dde2e7; }
table { border-collapse: collapse; margin: .6em 0; } th, td { padding: .2em .8em; border-bottom: 1px solid #e8ecef; }
th { text-align: left; font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; vertical-align: top; } .row { display: flex; flex-wrap: wrap; gap: 1em; }
p.hint { color: #5b6670; max-width: 52em; } pre { background: #f5f7f9; padding: .8em; overflow-x: auto; }
.scroll { overflow-x: auto; }
"""


def document(title: str, sections: Iterable[str]) -> str:
    """The page."""
    body = "\n".join(sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>{CSS}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def section(title: str, content: str) -> str:
    """A heading and what stands under it, HTML."""
    return f"<h2>{html.escape(title)}</h2>\n{content}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], text: int) -> str:
    """A table whose first `text` columns are text, the others numbers."""

    def line(tag: str, cells: Sequence[str]) -> str:
        marks = ["" if i < text else ' class="number"' for i in range(len(cells))]
        return "".join(f"<{tag}{mark}>{html.escape(cell)}</{tag}>" for mark, cell in zip(marks, cells, strict=True))

    body = "\n".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table>\n<tr>{line("th", heads)}</tr>\n{body}\n</table></div>'


def image(svg: str, description: str) -> str:
    """An SVG text as an image, with what a reader who cannot see it is told."""
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/svg+xml;base64,{data}">'
