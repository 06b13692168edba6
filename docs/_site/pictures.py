"""Pictures that a tutorial has made."""

import re
from html import escape
from pathlib import Path


def picture(path: str, text: str) -> str:
    """An SVG file as a figure of the page.

    Args:
        path: the file.
        text: what it shows, for those who do not see it.

    Returns:
        HTML.
    """
    svg = Path(path).read_text(encoding="utf-8")
    svg = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(text)}" ', 1)
    return f"<figure>{svg}</figure>"
