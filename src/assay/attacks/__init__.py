"""Attacks, one file each."""

from assay.attacks.auto_pgd.apgd import APGD
from assay.attacks.blackbox import (
    NES,
    OPT,
    ZOO,
    Boundary,
    HopSkipJump,
    LocalSearch,
    OnePixel,
    SignOPT,
    SimBA,
    Square,
)
from assay.attacks.carlini_wagner.l0 import CarliniWagnerL0
from assay.attacks.carlini_wagner.l2 import CarliniWagnerL2
from assay.attacks.carlini_wagner.linf import CarliniWagnerLinf
from assay.attacks.ddn import DDN
from assay.attacks.deepfool import DeepFool
from assay.attacks.dual import DualPerturbation
from assay.attacks.ead import EAD
from assay.attacks.fab import FAB
from assay.attacks.fgsm import FGM, FGSM
from assay.attacks.fmn import FMN
from assay.attacks.functional import SpatialFlow
from assay.attacks.jsma import JSMA
from assay.attacks.mim import MIM
from assay.attacks.noise import GaussianNoise, UniformNoise
from assay.attacks.patch import Patch
from assay.attacks.peers.adapter import Peer, peer
from assay.attacks.pgd import BIM, PGD
from assay.attacks.recolour import ColorMap
from assay.attacks.sigma_zero import SigmaZero
from assay.attacks.spatial import RotationTranslation
from assay.attacks.structured.on_support import OnSupport
from assay.attacks.structured.refine import Refine
from assay.attacks.structured.strattack import StrAttack
from assay.attacks.suites import Fast, Randomised, Sparse, Standard
from assay.attacks.universal.deepfool import UniversalDeepFool
from assay.attacks.universal.patch import UniversalPatch
from assay.attacks.universal.perturbation import Universal, UniversalSign, universal

__all__ = [
    "APGD",
    "BIM",
    "DDN",
    "EAD",
    "FAB",
    "FGM",
    "FGSM",
    "FMN",
    "JSMA",
    "MIM",
    "NES",
    "OPT",
    "PGD",
    "ZOO",
    "Boundary",
    "CarliniWagnerL0",
    "CarliniWagnerL2",
    "CarliniWagnerLinf",
    "ColorMap",
    "DeepFool",
    "DualPerturbation",
    "Fast",
    "GaussianNoise",
    "HopSkipJump",
    "LocalSearch",
    "OnSupport",
    "OnePixel",
    "Patch",
    "Peer",
    "Randomised",
    "Refine",
    "RotationTranslation",
    "SigmaZero",
    "SignOPT",
    "SimBA",
    "Sparse",
    "SpatialFlow",
    "Square",
    "Standard",
    "StrAttack",
    "UniformNoise",
    "Universal",
    "UniversalDeepFool",
    "UniversalPatch",
    "UniversalSign",
    "peer",
    "universal",
]
