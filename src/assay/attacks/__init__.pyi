from . import transfer
from .auto_pgd.apgd import APGD
from .blackbox import (
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
from .carlini_wagner.l0 import CarliniWagnerL0
from .carlini_wagner.l2 import CarliniWagnerL2
from .carlini_wagner.linf import CarliniWagnerLinf
from .ddn import DDN
from .deepfool import DeepFool
from .dual import DualPerturbation
from .ead import EAD
from .fab import FAB
from .fgsm import FGM, FGSM
from .fmn import FMN
from .functional import SpatialFlow
from .jsma import JSMA
from .mim import MIM
from .noise import GaussianNoise, UniformNoise
from .patch import Patch
from .peers.adapter import Peer, peer
from .pgd import BIM, PGD
from .recolour import ColorMap
from .sigma_zero import SigmaZero
from .spatial import RotationTranslation
from .structured.on_support import OnSupport
from .structured.refine import Refine
from .structured.strattack import StrAttack
from .suites import AutoAttack, Fast, Randomised, Sparse, Standard
from .transfer.momentum import DIFGSM, PIFGSM, SINIFGSM, TIFGSM, VMIFGSM, Admix
from .transfer.with_gradient import WithGradient, through
from .universal_perturbations.deepfool import UniversalDeepFool
from .universal_perturbations.patch import UniversalPatch
from .universal_perturbations.perturbation import Universal, UniversalSign, universal

__all__ = [
    "APGD",
    "BIM",
    "DDN",
    "DIFGSM",
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
    "PIFGSM",
    "SINIFGSM",
    "TIFGSM",
    "VMIFGSM",
    "ZOO",
    "Admix",
    "AutoAttack",
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
    "WithGradient",
    "peer",
    "through",
    "transfer",
    "universal",
]
