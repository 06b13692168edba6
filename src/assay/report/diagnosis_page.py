"""Answers of the diagnostics as one HTML file that needs nothing else."""

import os
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from assay.report.page import environment, policy, read_template
from assay.report.study_extras import diagnostic_rows
from assay.report.svg import clean_svg
from assay.store.study_extras import DiagnosticResult
from assay.util.files import atomic_write
from assay.util.text import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure_to_svg(figure: "Figure", key: str, label: str) -> str:
    """A matplotlib figure as an ``<svg>`` element that follows the page's colours.

    Args:
        figure: drawn in the colours of the page's light form.
        key: unique on the page.
        label: what it shows, for those who do not see it.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    file = StringIO()
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": key, "text.parse_math": False}
    with rc_context(settings):
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(file, metadata={"Date": None})
    return clean_svg(file.getvalue(), key, label)


def render_diagnosis(
    diagnostics: Sequence[DiagnosticResult],
    *,
    title: str,
    notes: Sequence[str] = (),
    command: str = "",
    facts: Mapping[str, str] | None = None,
) -> str:
    """Make the page.

    Args:
        diagnostics: what was found, in order.
        title: heading; any text.
        notes: short facts under it.
        command: the command that makes the page again.
        facts: versions and hardware.

    Returns:
        One HTML document without references to anything outside it and without scripts.
    """
    style = read_template("report.css")
    return (
        environment()
        .get_template("diagnosis.html.j2")
        .render(
            policy=policy(style, ""),
            style=Markup(style),  # noqa: S704 (our own)
            title=plain(title),
            notes=[plain(note, 300) for note in notes],
            diagnostics=diagnostic_rows(diagnostics),
            command=plain(command, 4000),
            facts=dict(facts or {}),
        )
    )


def write_diagnosis(diagnostics: Sequence[DiagnosticResult], path: str | os.PathLike[str], **info: Any) -> Path:
    """Write the page to a file, whole or not at all; see `render_diagnosis`."""
    return atomic_write(Path(path), render_diagnosis(diagnostics, **info))
