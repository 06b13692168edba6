"""How an image classifier breaks, how to harden it, and why."""

from assay.attacks import APGD, BIM, FGM, FGSM, MIM, PGD, DualPerturbation, GaussianNoise, UniformNoise
from assay.core.combinators import Cascade, Restarts, Targets
from assay.core.expectation import Expectation
from assay.core.geometry import Ball, Split
from assay.core.objectives import DLR, CrossEntropy, KullbackLeibler, Margin
from assay.core.outcome import Outcome, Status
from assay.core.preflight import Finding, ModelWarning, inspect
from assay.core.run import attack, perturb

__all__ = [
    "APGD",
    "BIM",
    "DLR",
    "FGM",
    "FGSM",
    "MIM",
    "PGD",
    "Ball",
    "Cascade",
    "CrossEntropy",
    "DualPerturbation",
    "Expectation",
    "Finding",
    "GaussianNoise",
    "KullbackLeibler",
    "Margin",
    "ModelWarning",
    "Outcome",
    "Restarts",
    "Split",
    "Status",
    "Targets",
    "UniformNoise",
    "attack",
    "inspect",
    "perturb",
]
