"""The certified radius of randomised smoothing, as a certifier."""

from dataclasses import dataclass

import torch

from assay.certify.certificates import Finding
from assay.certify.lipschitz import reach
from assay.certify.subject import CertifierInput
from assay.defences.smoothing import Smoothed
from assay.util.validate import number, reject, whole


@dataclass(frozen=True)
class SmoothingCertificate:
    """The radius within which a smoothed classifier does not change its label, but for a chance of ``alpha``.

    Args:
        n: votes for the bound.
        n0: votes for the choice of the class.
        alpha: chance that a radius is wrong, for each sample.

    Example:
        >>> SmoothingCertificate(n=1000).describe()
        'smoothing, 1000 votes'

    Source: Cohen, Rosenfeld & Kolter, ICML 2019 (`assay.defences.Smoothed.certify`). A ball in l1 or linf counts by the
    l2 ball that holds it and the box. The margin is what the radius leaves, in units of the input, not of logits.
    """

    n: int = 10_000
    n0: int = 100
    alpha: float = 0.001

    def __post_init__(self) -> None:
        whole("n", self.n, least=1)
        whole("n0", self.n0, least=1)
        number("alpha", self.alpha, least=0, most=0.5, above=True)

    def certify(self, subject: CertifierInput) -> Finding:
        """What each row's radius leaves of the budget."""
        if not isinstance(subject.model, Smoothed):
            reject(
                "model",
                "assay.defences.Smoothed (defence smoothing:sigma=…) for the certifier smoothing",
                type(subject.model),
            )
        x = subject.region.x.float()
        certificate = subject.model.certify(x, n=self.n, n0=self.n0, alpha=self.alpha)
        right = certificate.label.cpu() == subject.y.cpu()
        return Finding(torch.where(right, certificate.radius.cpu() - reach(subject.region).cpu(), -torch.inf))

    def describe(self) -> str:
        """Its name and votes."""
        return f"smoothing, {self.n} votes"
