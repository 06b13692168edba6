"""Defences: modules that wrap a classifier, each of which says how it has to be attacked."""

from assay.defences.adaptation import Adaptation, Defended, adaptation_of
from assay.defences.denoised import Denoised, DiffusionDenoiser
from assay.defences.detectors import Detector, Guarded, Reconstruction, Squeezing, accepted, roc, threshold_at
from assay.defences.distilled import Distilled
from assay.defences.fitted import FITTINGS, fit_defence
from assay.defences.projection import Projection
from assay.defences.purifiers import Autoencoder, Cleaner, Generator, PixelDefend, PixelDensity
from assay.defences.randomised import RandomInput, ResizePad, SelfEnsemble
from assay.defences.registry import DEFENCES, defend
from assay.defences.smoothing import ABSTAIN, Certificate, Smoothed, certified_radius
from assay.defences.transformed import StraightThrough, Transformed
from assay.defences.transforms import BitDepth, Blur, Jpeg, Median, TotalVariation

__all__ = [
    "ABSTAIN",
    "DEFENCES",
    "FITTINGS",
    "Adaptation",
    "Autoencoder",
    "BitDepth",
    "Blur",
    "Certificate",
    "Cleaner",
    "Defended",
    "Denoised",
    "Detector",
    "DiffusionDenoiser",
    "Distilled",
    "Generator",
    "Guarded",
    "Jpeg",
    "Median",
    "PixelDefend",
    "PixelDensity",
    "Projection",
    "RandomInput",
    "Reconstruction",
    "ResizePad",
    "SelfEnsemble",
    "Smoothed",
    "Squeezing",
    "StraightThrough",
    "TotalVariation",
    "Transformed",
    "accepted",
    "adaptation_of",
    "certified_radius",
    "defend",
    "fit_defence",
    "roc",
    "threshold_at",
]
