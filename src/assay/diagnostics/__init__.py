"""Diagnostics: each module answers one question about a model or a training trail."""

from assay.diagnostics.answer import Answer
from assay.diagnostics.attribution import Attribution, attribution
from assay.diagnostics.budgets import Budgets, budgets
from assay.diagnostics.corruption_profile import Profile, profile
from assay.diagnostics.destruction import Destruction, destruction, destruction_rate
from assay.diagnostics.detectability import Detectability, detectability
from assay.diagnostics.filters import Standard, filter_gradients, filters_of, input_saliency
from assay.diagnostics.gradients import Gradients, gradients
from assay.diagnostics.interpretability import Interpretability, interpretability
from assay.diagnostics.learning import Learning, learning
from assay.diagnostics.parameters import Parameters, parameters
from assay.diagnostics.saliency import (
    Saliency,
    activation_map,
    adversarial_saliency,
    boolean_map,
    interpretability_score,
)
from assay.diagnostics.sharedness import Sharedness, sharedness, spread
from assay.diagnostics.stability import Stability, stability
from assay.diagnostics.surface import Surface, surface
from assay.diagnostics.suspicion import Suspicion, suspicion
from assay.diagnostics.targets import Targets, targets
from assay.diagnostics.tradeoff import Tradeoff, tradeoff
from assay.diagnostics.trail import Trail, load_trail
from assay.diagnostics.transfer import Transfer, transfer
from assay.diagnostics.universality import Universality, universality

__all__ = [
    "Answer",
    "Attribution",
    "Budgets",
    "Destruction",
    "Detectability",
    "Gradients",
    "Interpretability",
    "Learning",
    "Parameters",
    "Profile",
    "Saliency",
    "Sharedness",
    "Stability",
    "Standard",
    "Surface",
    "Suspicion",
    "Targets",
    "Tradeoff",
    "Trail",
    "Transfer",
    "Universality",
    "activation_map",
    "adversarial_saliency",
    "attribution",
    "boolean_map",
    "budgets",
    "destruction",
    "destruction_rate",
    "detectability",
    "filter_gradients",
    "filters_of",
    "gradients",
    "input_saliency",
    "interpretability",
    "interpretability_score",
    "learning",
    "load_trail",
    "parameters",
    "profile",
    "sharedness",
    "spread",
    "stability",
    "surface",
    "suspicion",
    "targets",
    "tradeoff",
    "transfer",
    "universality",
]
