"""How numbers become an image, and how a gradient by the image becomes one by the numbers."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from assay.core.geometry import Geometry
from assay.core.rows import Rows
from assay.core.tree import take
from assay.core.types import Images
from assay.util.validate import number


@runtime_checkable
class Perturbation(Protocol):
    """A way to write an image by parameters whose first dimension is the rows."""

    def start(self, rows: Rows, delta: Images) -> Tensor:
        """Parameters of the image ``x + delta``."""
        ...

    def image(self, rows: Rows, parameters: Tensor) -> Images:
        """The image, in [0, 1]."""
        ...

    def pullback(self, rows: Rows, parameters: Tensor, grad: Images) -> Tensor:
        """The gradient by the parameters from the gradient by the image."""
        ...

    def project(self, rows: Rows, parameters: Tensor, geometry: Geometry) -> Tensor:
        """Parameters of the nearest image whose perturbation is in the geometry."""
        ...


@dataclass(frozen=True)
class Additive:
    """The image is ``x + δ``."""

    def start(self, rows: Rows, delta: Images) -> Tensor:
        """δ itself."""
        return delta

    def image(self, rows: Rows, parameters: Tensor) -> Images:
        """``x + δ``, clipped (against rounding; projections already keep it in the box)."""
        return (rows.x + parameters).clamp(0, 1)

    def pullback(self, rows: Rows, parameters: Tensor, grad: Images) -> Tensor:
        """The same gradient."""
        return grad

    def project(self, rows: Rows, parameters: Tensor, geometry: Geometry) -> Tensor:
        """Project δ."""
        return geometry.project(parameters, rows)


@dataclass(frozen=True)
class Tanh:
    """The image is ``(1 + tanh(w) / (1 − squeeze)) / 2``, clipped to the box that it leaves by a hair.

    Args:
        squeeze: share by which images are pulled towards 1/2 before they are mapped to w, so that pixels at exactly 0
            or 1 have a finite w and a gradient; the map back undoes it, so that the clean image is met exactly.

    Source: Carlini & Wagner, S&P 2017, section V-B (squeeze → 0).
    """

    squeeze: float = 1e-6

    def __post_init__(self) -> None:
        number("squeeze", self.squeeze, least=0, above=True, most=0.5)

    def start(self, rows: Rows, delta: Images) -> Tensor:
        """``w = atanh((2 (x + δ) − 1) (1 − squeeze))``."""
        return torch.atanh((2 * (rows.x + delta).clamp(0, 1) - 1) * (1 - self.squeeze))

    def image(self, rows: Rows, parameters: Tensor) -> Images:
        """``(1 + tanh(w) / (1 − squeeze)) / 2``."""
        return (0.5 + 0.5 / (1 - self.squeeze) * torch.tanh(parameters)).clamp(0, 1)

    def pullback(self, rows: Rows, parameters: Tensor, grad: Images) -> Tensor:
        """Times ``(1 − tanh² w) / (2 (1 − squeeze))``, also where the box has clipped: a pixel can come back."""
        return grad * (0.5 / (1 - self.squeeze)) * (1 - torch.tanh(parameters).square())

    def project(self, rows: Rows, parameters: Tensor, geometry: Geometry) -> Tensor:
        """Project the perturbation of the image and map it back."""
        delta = self.image(rows, parameters) - rows.x
        projected = geometry.project(delta, rows)
        moved = (projected != delta).flatten(1).any(1).reshape(-1, 1, 1, 1)
        return torch.where(moved, self.start(rows, projected), parameters)


@dataclass(frozen=True)
class Shared:
    """One δ, ``(1, c, h, w)``, for all rows: for universal perturbations, which couple rows on purpose."""

    def start(self, rows: Rows, delta: Images) -> Tensor:
        """The mean of the rows' δ."""
        return delta.mean(0, keepdim=True)

    def image(self, rows: Rows, parameters: Tensor) -> Images:
        """``x + δ``, clipped to the box."""
        return (rows.x + parameters).clamp(0, 1)

    def pullback(self, rows: Rows, parameters: Tensor, grad: Images) -> Tensor:
        """The sum over rows, ``(1, c, h, w)``."""
        return grad.sum(0, keepdim=True)

    def project(self, rows: Rows, parameters: Tensor, geometry: Geometry) -> Tensor:
        """Project δ without regard to a box, which no single δ can keep for all images."""
        first = take(rows, torch.zeros(1, dtype=torch.int64, device=rows.x.device))
        middle = replace(first, x=torch.full_like(parameters, 0.5))
        room = 4.0  # so small that the box of a mid-grey image never binds
        return geometry.project(parameters / room, middle, 1 / room) * room
