"""A tutorial as a notebook: text, code, shell commands and pictures as cells."""

import re

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```\n?", re.S | re.M)
_SHOWN = re.compile(r'picture\("([^"]+)"')


def to_notebook(markdown: str) -> str:
    """Turn a page into a notebook whose cells run one after another.

    Args:
        markdown: a page whose executed blocks are marked by ``exec="1"``.

    Returns:
        The notebook as JSON.
    """
    cells, end = [], 0
    for match in _FENCE.finditer(markdown):
        language, options, code = match.groups()
        if 'exec="1"' not in options:
            continue
        _add_text(cells, markdown[end : match.start()])
        cells.append(new_code_cell(_cell(language, code)))
        end = match.end()
    _add_text(cells, markdown[end:])
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    notebook = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    text: str = nbformat.writes(notebook)
    return text


def _cell(language: str, code: str) -> str:
    if language in ("bash", "sh"):
        return "".join(f"!{line}\n" for line in code.replace("\\\n", "").strip().splitlines()).strip()
    shown = _SHOWN.search(code)
    if shown:
        return f'from IPython.display import SVG\n\nSVG("{shown.group(1)}")'
    return code.strip()


def _add_text(cells: list[nbformat.NotebookNode], text: str) -> None:
    if text.strip():
        cells.append(new_markdown_cell(text.strip()))
