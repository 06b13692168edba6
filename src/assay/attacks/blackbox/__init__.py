"""Attacks that need only queries: scores or labels."""

from assay.attacks.blackbox.boundary import Boundary
from assay.attacks.blackbox.hopskipjump import HopSkipJump
from assay.attacks.blackbox.local_search import LocalSearch
from assay.attacks.blackbox.nes import NES
from assay.attacks.blackbox.one_pixel import OnePixel
from assay.attacks.blackbox.opt import OPT
from assay.attacks.blackbox.sign_opt import SignOPT
from assay.attacks.blackbox.simba import SimBA
from assay.attacks.blackbox.square import Square
from assay.attacks.blackbox.zoo import ZOO

__all__ = [
    "NES",
    "OPT",
    "ZOO",
    "Boundary",
    "HopSkipJump",
    "LocalSearch",
    "OnePixel",
    "SignOPT",
    "SimBA",
    "Square",
]
