"""Tables for notebooks."""

from collections.abc import Sequence
from html import escape


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], below: Sequence[str] = ()) -> str:
    """A table, with sentences below it; all text is escaped.

    Args:
        head: titles of the columns.
        rows: cells, as text.
        below: sentences.

    Example:
        >>> html_table(("n",), [["<3"]])
        '<table><thead><tr><th>n</th></tr></thead><tbody><tr><td>&lt;3</td></tr></tbody></table>'
    """
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    sentences = "".join(f"<p>{escape(line)}</p>" for line in below)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>{sentences}"
