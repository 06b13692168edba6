"""Attacks, one file each."""

from assay.attacks.apgd import APGD
from assay.attacks.dual import DualPerturbation
from assay.attacks.fgsm import FGM, FGSM
from assay.attacks.mim import MIM
from assay.attacks.noise import GaussianNoise, UniformNoise
from assay.attacks.pgd import BIM, PGD

__all__ = ["APGD", "BIM", "FGM", "FGSM", "MIM", "PGD", "DualPerturbation", "GaussianNoise", "UniformNoise"]
