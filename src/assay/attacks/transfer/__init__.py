"""Attacks whose images fool networks that they have not seen, and what they are made of."""

from assay.attacks.transfer.gradients import (
    AveragedGradient,
    GradientSource,
    PlainGradient,
)
from assay.attacks.transfer.input_transforms import Admixed, DiverseInput, InputTransform, ScaledCopies
from assay.attacks.transfer.mixing import MixingImages
from assay.attacks.transfer.momentum import DIFGSM, PIFGSM, SINIFGSM, TIFGSM, VMIFGSM, Admix
from assay.attacks.transfer.patch_wise import PatchWise
from assay.attacks.transfer.tuned_gradients import Lookahead, SmoothedGradient, VarianceTuned
from assay.attacks.transfer.with_gradient import WithGradient, through

__all__ = [
    "DIFGSM",
    "PIFGSM",
    "SINIFGSM",
    "TIFGSM",
    "VMIFGSM",
    "Admix",
    "Admixed",
    "AveragedGradient",
    "DiverseInput",
    "GradientSource",
    "InputTransform",
    "Lookahead",
    "MixingImages",
    "PatchWise",
    "PlainGradient",
    "ScaledCopies",
    "SmoothedGradient",
    "VarianceTuned",
    "WithGradient",
    "through",
]
