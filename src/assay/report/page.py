"""Render studies as one self-contained HTML file."""

import base64
import hashlib
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from assay.report.context import chapters
from assay.report.study_extras import claim_rows, diagnostic_rows
from assay.store.results import Study, as_studies, sanitise_study
from assay.store.study_extras import StudyExtras
from assay.store.summary import summarise
from assay.util.files import atomic_write
from assay.util.text import compact, levels, percent, plain


def render(
    studies: Study | Sequence[Study],
    *,
    title: str | None = None,
    cards: int | None = None,
    extras: StudyExtras | None = None,
) -> str:
    """Make the page.

    Args:
        studies: what was measured: one study, or several, each of which becomes a chapter behind an overview. Their
            texts may hold anything; they are shown as text.
        title: heading of the page; None for the title of the one study, or a count of several.
        cards: most images in the gallery of each study; see `assay.report.choose`. By default several studies share
            what one page can hold.
        extras: claims of a paper, and answers of diagnostics.

    Returns:
        One HTML document without references to anything outside it. Its content policy allows its own style sheet and
        script by their hashes, images from data, and nothing else.

    Raises:
        TypeError: something that is not a study.
        ValueError: no study, or ``cards`` below 0.
    """
    cleaned, extras = tuple(sanitise_study(study) for study in as_studies(studies)), extras or StudyExtras()
    style, script = read_template("report.css"), read_template("report.js")
    page = environment().get_template("report.html.j2")
    return page.render(
        policy=policy(style, script),
        style=Markup(style),  # noqa: S704 (our own file)
        script=Markup(script),  # noqa: S704 (our own file)
        title=_title(cleaned, title),
        chapters=chapters(cleaned, cards),
        attacks=sum(len(study.cells) for study in cleaned),
        summary=summarise(cleaned[0] if len(cleaned) == 1 else cleaned),
        about=plain(extras.about, 2000) if extras.about else "",
        claims=claim_rows(extras.claims),
        diagnostics=diagnostic_rows(extras.diagnostics),
    )


def write_report(
    studies: Study | Sequence[Study],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    cards: int | None = None,
    extras: StudyExtras | None = None,
) -> Path:
    """Write the page to a file atomically.

    Args:
        studies: what was measured: one study or several.
        path: the file, ``….html``; an existing one is replaced, missing folders are made.
        title: heading of the page; see `render`.
        cards: most images in the gallery of each study; see `assay.report.choose`.
        extras: see `render`.

    Returns:
        The path.

    Raises:
        TypeError: something that is not a study.
        ValueError: no study, or ``cards`` below 0.
    """
    return atomic_write(Path(path), render(studies, title=title, cards=cards, extras=extras))


def policy(style: str, script: str) -> str:
    """The content policy of a page with one style sheet and one script.

    Args:
        style: text of the style element.
        script: text of the script element.

    Returns:
        The value of ``Content-Security-Policy``.
    """
    return (
        "default-src 'none'; img-src data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )


def _title(studies: tuple[Study, ...], title: str | None) -> str:
    if title is not None:
        return plain(title)
    return studies[0].title if len(studies) == 1 else f"Robustness in {len(studies)} studies"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def environment() -> Environment:
    """The Jinja environment: autoescape on, undefined names raise."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=PackageLoader("assay.report"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "compact": compact, "levels": levels}
    # NaN is not valid JSON: fail instead of writing a broken page.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False}
    return environment


def read_template(name: str) -> str:
    """A file of the templates' folder, as text."""
    return files("assay.report").joinpath("templates", name).read_text(encoding="utf-8")
