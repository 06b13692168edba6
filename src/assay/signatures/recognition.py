"""A trained recogniser with its inputs and logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from assay.core.types import Images
from assay.signatures.examples import Examples
from assay.signatures.networks import Recogniser, Reconstructor
from assay.signatures.plan import Plan
from assay.util.validate import reject


@dataclass(frozen=True)
class Recognition:
    """A trained recogniser.

    Attributes:
        recogniser: Ψ.
        reconstructor: G; None where it sees the image alone or the true perturbation.
        plan: how it was trained.
    """

    recogniser: Recogniser
    reconstructor: Reconstructor | None
    plan: Plan

    def inputs(self, images: Images, clean: Images | None = None) -> tuple[Images, Images]:
        """What the recogniser sees: images and residuals (the true ones need the clean images)."""
        if self.plan.sees == "redrl" and self.reconstructor is not None:
            return images, images - self.reconstructor(images)
        if self.plan.sees == "truth":
            if clean is None:
                return reject("clean", "the clean images, of which the true perturbations are made", None)
            return images, images - clean
        return images, images

    def logits(self, examples: Examples, batch: int = 256) -> Tensor:
        """Logits of all examples."""
        with torch.no_grad():
            parts = [
                self.recogniser(*self.inputs(*examples.pair(at))) for at in torch.arange(len(examples)).split(batch)
            ]
        return torch.cat(parts)

    def restored(self, images: Tensor, batch: int = 256) -> Images:
        """G of 8-bit images, clipped to [0, 1]."""
        if self.reconstructor is None:
            return reject("sees", "a recogniser with a reconstructor (redrl)", self.plan.sees)
        with torch.no_grad():
            return torch.cat([self.reconstructor(part.float() / 255).clamp(0, 1) for part in images.split(batch)])
