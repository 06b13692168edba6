"""How a recogniser is trained, and what the columns of the paper's tables change."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from assay.models.registry import parted
from assay.util.fields import Count, Number, Seed, Whole
from assay.util.validate import number, one_of, whole

INPUTS = ("image", "truth", "redrl")


@dataclass(frozen=True)
class Plan:
    """How a recogniser is trained.

    Args:
        sees: ``"image"``, ``"truth"`` (the true perturbation and the image) or ``"redrl"`` (what a reconstructor that
            is trained with it makes of the image).
        reconstruction: λ₁, of the l1 distance between clean and reconstructed image (summed over pixels).
        feature: λ₂, of the l2 distance of their features; 0 leaves them out.
        classification: λ₃, of the cross-entropy of the classifier on the reconstructed image; 0 leaves it out.
        smoothing: Label smoothing of the recogniser.
        epochs: How many times the examples are gone through.
        warmup: Epochs in which the learning rate rises along a line, at most half of all; after that it falls by a
            cosine.
        rate: Learning rate of Adam.
        batch: Examples a step.
        arch: Architecture of the recogniser.
        width: Features of the reconstructor.
        blocks: Residual blocks of the reconstructor.
        layer: Which convolution of the feature extractor is used, counted from 1.
        precision: Number format of the passes: float32, or mixed: bfloat16.
        seed: Random seed of weights and order.

    Source: Souri et al., 2021, section 4, equations 1–5; section 4.6 for warm-up, label smoothing, Adam and the rate.
    Deviations: the rate falls by a cosine after the warm-up, as tens of epochs do here what a hundred do there;
    smoothing is 0.1, as in its source (Szegedy et al., CVPR 2016); the third convolution of any extractor stands for
    VGG-16's third block.
    """

    sees: str = "redrl"
    reconstruction: Number = 0.01
    feature: Number = 0.1
    classification: Number = 1.0
    smoothing: Number = 0.1
    epochs: Whole = 100
    warmup: Count = 10
    rate: Number = 3.5e-4
    batch: Whole = 64
    arch: str = "resnet18"
    width: Whole = 32
    blocks: Count = 4
    layer: Whole = 3
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: Seed = 0

    def __post_init__(self) -> None:
        one_of("sees", self.sees, INPUTS)
        for name in ("reconstruction", "feature", "classification"):
            number(name, getattr(self, name), least=0)
        number("smoothing", self.smoothing, least=0, most=0.9)
        number("rate", self.rate, least=0, above=True)
        least_of = {"epochs": 1, "warmup": 0, "batch": 2, "width": 1, "blocks": 0, "layer": 1, "seed": 0}
        for name, least in least_of.items():
            whole(name, getattr(self, name), least=least, most=2**31 - 1)
        one_of("precision", self.precision, ("float32", "bfloat16"))
        parted(self.arch)

    @property
    def uses_features(self) -> bool:
        """Whether the loss compares features of the extractor."""
        return self.sees == "redrl" and self.feature > 0


SCENARIOS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "image": {"sees": "image"},
        "truth": {"sees": "truth"},
        "A": {"sees": "redrl", "feature": 0.0, "classification": 0.0},
        "B": {"sees": "redrl", "classification": 0.0},
        "C": {"sees": "redrl", "feature": 0.0},
        "redrl": {"sees": "redrl"},
    }
)
"""What each column of Souri et al.'s tables 3 and 5 changes in a `Plan`."""
