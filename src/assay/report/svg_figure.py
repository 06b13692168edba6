"""Shared frame of the report's figures: percent axis and page colours."""

from collections.abc import Callable
from io import StringIO
from typing import Any

from assay.report.svg import clean_svg, ink, rule

_WIDTH, _HEIGHT = 8.0, 4.2  # inches of 72 units


def sketch(draw: Callable[[Any], None], key: str, label: str) -> str:
    """Draw a figure as an ``<svg>`` element that follows the page's colours.

    Args:
        draw: draws on matplotlib's axes, in the colours of `assay.report.svg`.
        key: unique on the page, for ids.
        label: what it shows, for those who do not see it; escaped.
    """
    # Imported here: matplotlib takes a second. No pyplot: it would keep the figure and choose a window system.
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    plain: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": key,
        "text.parse_math": False,
        "path.simplify": False,
        "font.size": 11,
        "axes.linewidth": 0.8,
        "font.family": ["DejaVu Sans"],
    }
    file = StringIO()
    with rc_context(plain):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), facecolor="none")
        draw(figure.add_axes((0.08, 0.165, 0.895, 0.805), facecolor="none"))
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(file, metadata={"Date": None})
    return clean_svg(file.getvalue(), key, label)


def percent_axis(axes: Any) -> None:
    """Accuracy from 0 to 100 % upwards, with rules and without a box."""
    axes.set_ylim(-2, 102)
    axes.set_yticks(range(0, 101, 25))
    axes.set_yticklabels([f"{v} %" if v == 100 else f"{v}" for v in range(0, 101, 25)])
    axes.grid(axis="y", color=rule(), linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6, labelcolor=ink())
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(rule())
