"""ReColorAdv: one smooth function of colour for the whole image."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.attacks.colour import luv_to_rgb, rgb_to_luv
from assay.attacks.functional import Functional, signed
from assay.core.objective import Objective
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.types import Images, PerRow
from assay.parts.losses import objective
from assay.util.hints import with_hints
from assay.util.validate import radius, whole


@dataclass(frozen=True)
class ColourMap:
    """Every colour is moved by a smooth function of the colour: one table for the whole image.

    Args:
        eps: the furthest a colour moves in each coordinate, as a share of its range.
        cells: knots of the table each way.
        luv: move colours in CIELUV rather than in RGB; images of one channel have one coordinate, and ignore it.
    """

    eps: float
    cells: int = 8
    luv: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", radius("eps", self.eps))
        whole("cells", self.cells, least=2)

    @property
    def extent(self) -> float:
        """The limit."""
        return self.eps

    def scaled(self, factor: float) -> "ColourMap":
        """With the limit times a factor."""
        return replace(self, eps=factor * self.eps)

    def start(self, rows: Rows) -> Tensor:
        """A table of zeros: ``(b, c, cells, cells, cells)``, or ``(b, 1, 1, 1, cells)`` for one channel."""
        c = rows.x.shape[1]
        shape = (self.cells,) * 3 if c == 3 else (1, 1, self.cells)
        return torch.zeros(len(rows), c, *shape, dtype=rows.x.dtype, device=rows.x.device)

    def image(self, rows: Rows, parameters: Tensor) -> Images:
        """The image with its colours moved, by trilinear interpolation in the table."""
        b, c, h, w = rows.x.shape
        if c == 3:
            space = rgb_to_luv(rows.x) if self.luv else rows.x
            grid = 2 * space.permute(0, 2, 3, 1)[:, None] - 1
        else:  # each channel by a table of its own
            space = rows.x
            one = 2 * rows.x.reshape(b * c, 1, h, w, 1) - 1
            grid = torch.cat([one, torch.zeros_like(one).expand(-1, -1, -1, -1, 2)], 4)
            parameters = parameters.reshape(b * c, 1, *parameters.shape[2:])
        moved = F.grid_sample(parameters, grid, mode="bilinear", padding_mode="border", align_corners=True)
        recoloured = space + moved.reshape(b, c, h, w)
        return (luv_to_rgb(recoloured) if c == 3 and self.luv else recoloured).clamp(0, 1)

    def sample(self, rows: Rows, rng: Rng, purpose: str) -> Images:
        """The image with a table drawn uniformly within the limit, each knot on its own."""
        return self.image(rows, self.eps * signed(self.start(rows), rows, rng, purpose))

    def roughness(self, parameters: Tensor) -> PerRow:
        """Sum over neighbouring knots of the length of the difference (the paper's smoothness loss)."""
        total = torch.zeros_like(parameters.flatten(1)[:, 0])
        for axis in (2, 3, 4):
            if parameters.shape[axis] > 1:
                apart = parameters.diff(dim=axis)
                total = total + (apart.square().sum(1) + 1e-10).sqrt().flatten(1).sum(1)
        return total

    def project(self, parameters: Tensor) -> Tensor:
        """Each knot within the limit."""
        return parameters.clamp(-self.eps, self.eps)

    def describe(self) -> str:
        """The limit."""
        return f"{'LUV' if self.luv else 'RGB'} colours ≤ {self.eps:g}"


@with_hints
def ColorMap(
    eps: float = 0.06,
    *,
    cells: int = 8,
    luv: bool = True,
    steps: int = 100,
    rate: float = 0.005,
    weight: float = 0.05,
    loss: str | Objective = "margin",
) -> Functional:
    """ReColorAdv: one smooth function of colour for the whole image.

    Args:
        eps: the furthest a colour moves in each coordinate, as a share of its range.
        cells: knots of the function's table each way.
        luv: in CIELUV rather than in RGB.
        steps: Adam steps.
        rate: learning rate.
        weight: of the roughness of the function (λ).
        loss: objective or its name.

    Example:
        >>> ColorMap().describe()
        'ReColorAdv-100 LUV colours ≤ 0.06'

    Source: Laidlaw & Feizi, "Functional adversarial attacks", NeurIPS 2019, sections 2.2, 3 and 5 (ε = 0.06, λ = 0.05,
    C&W loss); Balasubramanian, "Adversarial robustness". Deviation: images of one channel have one table of that
    channel.
    """
    return Functional("ReColorAdv", ColourMap(eps, cells, luv), objective(loss), steps, rate, weight)
