"""A square somewhere in the image: the threat model of a patch."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from assay.core.geometry import Scale
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.types import Images, Mask, PerRow
from assay.parts.balls import Ball
from assay.util.parse import format_budget
from assay.util.validate import described, radius, reject, whole


@dataclass(frozen=True)
class Placed:
    """All perturbations of a square, each value by at most ``eps``, at a place that belongs to the row.

    The place is drawn from the row's own key: it is the same in every step, and another one for each restart.

    Args:
        side: of the square in pixels.
        eps: limit on each change; 1 for none.
        place: top and left in pixels, the same for all rows; None to draw it.

    Source: Karmon, Zoran & Goldberg, "LaVAN: localized and visible adversarial noise", ICML 2018; with an linf limit
    inside the patch as in Souri et al., 2021, section 3.2.
    """

    side: int
    eps: float = 1.0
    place: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        whole("side", self.side, least=1)
        object.__setattr__(self, "eps", radius("eps", self.eps))
        for value in self.place or ():
            whole("place", value)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond the image."""
        return ()

    def scaled(self, factor: float) -> "Placed":
        """The set times a factor."""
        return replace(self, eps=factor * self.eps)

    def region(self, rows: Rows) -> Mask:
        """The square of each row, ``(b, 1, h, w)``.

        Raises:
            ValueError: the square does not fit into the image.
        """
        h, w = rows.x.shape[2:]
        if self.side > min(h, w) or (self.place is not None and max(p + self.side for p in self.place) > min(h, w)):
            reject("side", "a square that fits into the images", described(f"{self.side} in {h} × {w}"))
        if self.place is None:
            draw = Rng().uniform(rows.key, (2,), "place of the patch").to(rows.x)
            top, left = (draw[:, 0] * (h - self.side + 1)).long(), (draw[:, 1] * (w - self.side + 1)).long()
        else:
            top, left = (torch.full_like(rows.key, p) for p in self.place)
        down, across = (torch.arange(side, device=rows.x.device)[None] for side in (h, w))
        inside = ((down >= top[:, None]) & (down < top[:, None] + self.side))[:, :, None]
        inside = inside & ((across >= left[:, None]) & (across < left[:, None] + self.side))[:, None, :]
        return inside[:, None].to(rows.x)

    def project(self, delta: Images, rows: Rows, scale: Scale = 1.0) -> Images:
        """Zero outside the square, within the limit and the box inside."""
        return self._ball.project(delta * self.region(rows), rows, scale)

    def steepest(self, grad: Images, delta: Images, rows: Rows, scale: Any = 1.0) -> Images:
        """Sign step inside the square."""
        return self._ball.steepest(grad * self.region(rows), delta, rows, scale)

    def sample(self, rows: Rows, rng: Rng, purpose: str, *, edge: bool = False) -> Images:
        """Uniform inside the square."""
        return self._ball.sample_region(rows, rng, purpose, self.region(rows), edge=edge)

    def size(self, delta: Images, rows: Rows) -> PerRow:
        """Largest change inside, in budgets; infinity where anything outside has changed."""
        region = self.region(rows).to(delta)
        outside = (delta * (1 - region)).flatten(1).abs().amax(1) > 0
        return torch.where(outside, torch.inf, self._ball.size(delta * region, rows))

    def describe(self) -> str:
        """Side and limit."""
        limit = "" if self.eps >= 1 else f" linf {format_budget(self.eps)}"
        return f"patch {self.side}×{self.side}{limit}"

    @property
    def _ball(self) -> Ball:
        return Ball("linf", self.eps)
