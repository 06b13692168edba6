"""The certifier protocol and its input."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from assay.certify.certificates import Finding
from assay.certify.network import Network
from assay.certify.region import Region
from assay.core.model_calls import Classifier
from assay.core.types import Images, Labels


@dataclass(frozen=True)
class CertifierInput:
    """The input of a certifier: samples that are classified correctly.

    Attributes:
        model: the classifier.
        network: what bounds see of it, its maxima as such or as rectifiers alone.
        region: around the images.
        y: labels, ``(b,)``.
        unit: relative error of a rounding of the model's own arithmetic.
        attack: of some rows and a number of steps: images that PGD has looked for within their budgets.
        judge: of images ``(b, c, h, w)`` and which rows they belong to: the nearest images within the budget, and
            whether they are not classified right.
        progress: called with rows done and all.
    """

    model: Classifier
    network: Callable[[bool], Network]
    region: Region
    y: Labels
    unit: float
    attack: Callable[[Tensor, int], Images]
    judge: Callable[[Images, Tensor], tuple[Images, Tensor]]
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)


@runtime_checkable
class Certifier(Protocol):
    """Bounds margins from below; a frozen dataclass of plain numbers."""

    def certify(self, subject: CertifierInput) -> Finding:
        """A lower bound of each row's least margin."""
        ...

    def describe(self) -> str:
        """A few words."""
        ...
