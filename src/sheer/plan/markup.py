"""Small pieces of HTML for notebooks: everything from outside is escaped, nothing is loaded from anywhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape

ROWS = 20


def html_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = (), note: str = "") -> str:
    """A table under a title, the first 20 rows of it; the columns in `right` are right-aligned.

    >>> html_table("<t>", ["a"], [["<b>"]])
    '<table><caption>&lt;t&gt;</caption><tr><th>a</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    lines = [f"<table><caption>{escape(title)}</caption>", _row("th", header, right)]
    lines += [_row("td", row, right) for row in rows[:ROWS]]
    more = f"{len(rows) - ROWS} more rows. " if len(rows) > ROWS else ""
    end = f"<p>{escape(more + note)}</p>" if more or note else ""
    return "".join([*lines, "</table>", end])


def _row(tag: str, cells: Sequence[str], right: Collection[int]) -> str:
    styles = [' style="text-align:right"' if index in right else "" for index in range(len(cells))]
    return "<tr>" + "".join(f"<{tag}{style}>{escape(cell)}</{tag}>" for cell, style in zip(cells, styles, strict=True)) + "</tr>"


def html_text(title: str, text: str) -> str:
    """Text with its line breaks and columns, folded under a title.

    >>> html_text("all", "a < b")
    '<details><summary>all</summary><pre>a &lt; b</pre></details>'
    """
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
