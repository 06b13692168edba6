"""Diagnostics: each file answers one question about a model or a training trail."""

from assay.diagnostics.answer import Answer
from assay.diagnostics.destruction import Destruction, destruction, destruction_rate
from assay.diagnostics.detectability import Detectability, detectability
from assay.diagnostics.gradients import Gradients, gradients
from assay.diagnostics.learning import Learning, learning
from assay.diagnostics.profile import Profile, profile
from assay.diagnostics.sharedness import Sharedness, sharedness, spread
from assay.diagnostics.stability import Stability, stability
from assay.diagnostics.surface import Surface, surface
from assay.diagnostics.tradeoff import Tradeoff, tradeoff
from assay.diagnostics.trail import Trail, load_trail
from assay.diagnostics.transfer import Transfer, transfer
from assay.diagnostics.universality import Universality, universality

__all__ = [
    "Answer",
    "Destruction",
    "Detectability",
    "Gradients",
    "Learning",
    "Profile",
    "Sharedness",
    "Stability",
    "Surface",
    "Tradeoff",
    "Trail",
    "Transfer",
    "Universality",
    "destruction",
    "destruction_rate",
    "detectability",
    "gradients",
    "learning",
    "load_trail",
    "profile",
    "sharedness",
    "spread",
    "stability",
    "surface",
    "tradeoff",
    "transfer",
    "universality",
]  # fmt: skip
