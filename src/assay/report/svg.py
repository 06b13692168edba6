"""Clean matplotlib's SVG for pages with a strict content security policy."""

from xml.etree import ElementTree

_INK, _RULE = "#010101", "#020202"
_SERIES = tuple(f"#0301{i:02x}" for i in range(8))
# The colours of the page's light form, in which the diagnostics draw, so that their figures can stand alone.
_LIGHT_INK, _LIGHT_RULE = "#22201c", "#e5e1d8"
_LIGHT = ("#2f6c9e", "#c0603a", "#5c8a4a", "#8c5f9a", "#b08818", "#4d5f86", "#a2475f", "#3f8286")
# Colours that stand for the page's own, so that a figure follows it into the dark.
_MEANING = {
    _INK: "currentColor",
    _RULE: "var(--rule)",
    **{code: f"var(--s{i})" for i, code in enumerate(_SERIES)},
    _LIGHT_INK: "currentColor",
    _LIGHT_RULE: "var(--rule)",
    **{code: f"var(--s{i})" for i, code in enumerate(_LIGHT)},
}
_LINK = "{http://www.w3.org/1999/xlink}href"
_NAMESPACE = "{http://www.w3.org/2000/svg}"


def ink() -> str:
    """The colour that becomes the colour of the text around the figure."""
    return _INK


def rule() -> str:
    """The colour that becomes the page's colour of rules."""
    return _RULE


def series_colour(i: int) -> str:
    """The colour that becomes the page's colour of the ``i``-th model (eight, then again)."""
    return _SERIES[i % len(_SERIES)]


def clean_svg(text: str, prefix: str, label: str) -> str:
    """Rewrite matplotlib's SVG for use inside HTML.

    Style attributes become presentation attributes (a content policy forbids the former), colours become the page's,
    ids get a prefix, and the XML prologue, metadata, style sheet and fonts go.

    Args:
        text: what matplotlib wrote.
        prefix: unique on the page.
        label: what the figure shows, for those who do not see it.

    Returns:
        One ``<svg>`` element.
    """
    root = ElementTree.fromstring(text)  # noqa: S314 (matplotlib's own output, never a given file)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_NAMESPACE}metadata", f"{_NAMESPACE}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_NAMESPACE)
        element.attrib.update(_presentation(element.attrib.pop("style", "")))
        link = element.attrib.pop(_LINK, None)
        if link is not None:
            element.set("href", link if link.startswith("data:image/png") else f"#{prefix}-{link.removeprefix('#')}")
        if "id" in element.attrib:
            element.set("id", f"{prefix}-{element.get('id')}")
        for name, value in list(element.attrib.items()):
            if value.startswith("url(#"):
                element.set(name, f"url(#{prefix}-{value.removeprefix('url(#')}")
            element.set(name, _MEANING.get(element.attrib[name], element.attrib[name]))
    root.attrib.pop("version", None)
    root.attrib.update({"role": "img", "aria-label": label, "stroke-linejoin": "round", "class": "plot"})
    for name in ("width", "height"):
        root.set(name, f"{float(root.attrib[name].removesuffix('pt')):g}")
    return ElementTree.tostring(root, encoding="unicode")


_ELEMENTS = frozenset(
    {
        "svg",
        "g",
        "defs",
        "path",
        "clipPath",
        "rect",
        "use",
        "text",
        "tspan",
        "image",
        "title",
        "desc",
        "circle",
        "ellipse",
        "line",
        "polyline",
        "polygon",
        "linearGradient",
        "radialGradient",
        "stop",
        "pattern",
        "mask",
    }
)


def is_safe_svg(text: str) -> bool:
    """Whether text is one drawing that loads, runs and links to nothing; a ledger may be somebody else's.

    Args:
        text: what should be an ``<svg>`` element.

    Example:
        >>> is_safe_svg('<svg><path d="M0 0"/></svg>'), is_safe_svg('<svg onload="x()"></svg>'), is_safe_svg("<p></p>")
        (True, False, False)
    """
    if "<!" in text or "<?" in text:  # no entities, comments or instructions
        return False
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 (without a document type there are no entities)
    except ElementTree.ParseError:
        return False
    return root.tag.removeprefix(_NAMESPACE) == "svg" and all(_is_drawing(element) for element in root.iter())


def _is_drawing(element: ElementTree.Element) -> bool:
    if element.tag.removeprefix(_NAMESPACE) not in _ELEMENTS:
        return False
    for name, value in element.attrib.items():
        attribute = name.rpartition("}")[2].lower()
        if attribute.startswith("on") or attribute == "style":
            return False
        if attribute in ("href", "src") and not value.startswith(("#", "data:image/png;base64,")):
            return False
        if "url(" in value and not value.startswith("url(#"):
            return False
    return True


def _presentation(style: str) -> dict[str, str]:
    """The declarations of a style attribute as attributes; of a font only the size stays."""
    attributes = {}
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":
            attributes["font-size"] = next(word for word in value.split() if word.endswith("px"))
        elif name == "font-size" or (name and value and not name.startswith("font-")):
            attributes[name] = value
    return attributes
