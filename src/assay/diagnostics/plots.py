"""Figures of the diagnostics, in the report's colours. No pyplot: it would keep figures and choose a window system."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, RULE = "#22201c", "#e5e1d8"
SERIES = ("#2f6c9e", "#c0603a", "#5c8a4a", "#8c5f9a", "#b08818", "#4d5f86", "#a2475f", "#3f8286")
_MARKERS = "osD^vPX*"


def canvas(width: float = 8.0, height: float = 4.2, columns: int = 1, rows: int = 1) -> tuple["Figure", list[Any]]:
    """A figure and its axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="none", layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for one in axes:
        one.set_facecolor("none")
        for side in ("top", "right"):
            one.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            one.spines[side].set_color(RULE)
        one.tick_params(length=0, labelcolor=INK, labelsize=9, which="both")
        for text in (one.title, one.xaxis.label, one.yaxis.label):
            text.set(color=INK, fontsize=10)
        one.set_axisbelow(True)
    return figure, axes


def lines(
    axes: Any, x: ArrayLike, series: Mapping[str, ArrayLike], *, label: str, percent: bool = False, grid: bool = True
) -> None:
    """One line a series.

    Args:
        axes: where to draw.
        x: places.
        series: values by name; NaN leaves a gap.
        label: of the horizontal axis.
        percent: whether values are shares.
        grid: rules across.
    """
    for i, (name, values) in enumerate(series.items()):
        shown = 100 * np.asarray(values, dtype=float) if percent else np.asarray(values, dtype=float)
        axes.plot(x, shown, color=SERIES[i % 8], marker=_MARKERS[i % 8], markersize=4, linewidth=1.6, label=name)
    if percent:
        axes.set_ylim(-2, 102)
        axes.set_ylabel("%", color=INK)
    axes.set_xlabel(label, color=INK)
    if label == "epoch":
        axes.xaxis.get_major_locator().set_params(integer=True)
    if grid:
        axes.grid(axis="y", color=RULE, linewidth=0.8)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)


def scatter(axes: Any, x: ArrayLike, y: ArrayLike, labels: tuple[str, str], *, log: bool = False) -> None:
    """One dot a pair."""
    axes.scatter(x, y, s=12, color=SERIES[0], alpha=0.5, linewidths=0)
    axes.set_xlabel(labels[0], color=INK)
    axes.set_ylabel(labels[1], color=INK)
    axes.grid(color=RULE, linewidth=0.8)
    if log:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(numticks=5))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())


def matrix(
    axes: Any,
    values: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    labels: tuple[str, str],
    *,
    numbers: bool = True,
    low: float = 0.0,
    high: float = 1.0,
) -> None:
    """A table of shares as shades, with the percentage in each."""
    shown = np.asarray(values, dtype=float)
    axes.imshow(shown, cmap="Greys_r", vmin=low, vmax=high, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylabel(labels[0], color=INK)
    axes.set_xlabel(labels[1], color=INK)
    for (i, j), value in np.ndenumerate(shown) if numbers else ():
        dark = (value - low) / max(high - low, 1e-12) < 0.5
        axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color="white" if dark else "black")


def pictures(images: Sequence[ArrayLike], titles: Sequence[str], columns: int = 6) -> "Figure":
    """Images ``(c, h, w)`` in [0, 1] in a grid."""
    columns = min(columns, max(len(images), 1))
    rows = max(-(-len(images) // columns), 1)
    figure, axes = canvas(1.5 * columns, 1.75 * rows, columns, rows)
    for one in axes:
        one.set_axis_off()
    for one, image, title in zip(axes, images, titles, strict=False):
        shown = np.clip(np.asarray(image, dtype=float).transpose(1, 2, 0), 0, 1)
        one.imshow(shown[..., 0] if shown.shape[2] == 1 else shown[..., :3], cmap="gray", vmin=0, vmax=1)
        one.set_title(title, fontsize=9, color=INK)
    return figure


def overlay(x: Tensor, values: Tensor) -> Tensor:
    """Absolute values, the largest over channels, in red over a pale image: ``(c, h, w)`` to ``(3, h, w)``."""
    heat = values.abs().amax(0)
    heat = (heat / heat.max().clamp_min(1e-12)).sqrt()
    pale = 0.5 + 0.5 * x.mean(0)
    return torch.stack([pale * (1 - heat) + 0.75 * heat, pale * (1 - heat) + 0.15 * heat, pale * (1 - heat)])
