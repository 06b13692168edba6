"""What diagnostics cost at most, in passes of a network."""

from collections.abc import Callable, Iterable

from assay.attacks.dual import DualPerturbation
from assay.attacks.registry import background_budget
from assay.core.combinators import AnyAttack, unfold
from assay.core.passes import Passes
from assay.corruptions.registry import CORRUPTIONS
from assay.diagnostics.asking.default_attacks import (
    FACTORS,
    compared_attacks,
    filter_attacks,
    measuring_attack,
    targeted_attacks,
    transferred_attack,
)
from assay.diagnostics.context import DiagnosticContext
from assay.diagnostics.destruction import TRANSFORMS
from assay.diagnostics.explanations import POINTS
from assay.diagnostics.suspicion import LAMBDAS
from assay.diagnostics.targets import FACTORS as BUDGETS

Price = Callable[[AnyAttack], Passes]
"""What all steps of an attack on one image cost."""
Cost = Callable[[DiagnosticContext, Price], Passes]

_LOOK = Passes(1.0)
_SLOPE = Passes(1.0, 1.0)
_BATCH = 128
"""Images of a mini-batch of universal perturbations."""


def _sum(parts: Iterable[Passes]) -> Passes:
    return sum(parts, Passes())


def _epochs(context: DiagnosticContext) -> int:
    return len(context.required_trail.epochs)


def _networks(context: DiagnosticContext) -> int:
    """How many are compared where a trail counts by all its epochs."""
    return len(context.models) or _epochs(context)


def _chosen(context: DiagnosticContext) -> int:
    """How many are compared where a trail counts by some of its epochs."""
    return len(context.models) or min(4, _epochs(context))


def of_learning(context: DiagnosticContext, price: Price) -> Passes:
    """Each part of the data under each attack, at each epoch."""
    images = len(context.train) + len(context.test)
    each = _sum(price(attack) + _LOOK for attack in context.attacks_within.values())
    return _epochs(context) * images * (each + _LOOK)


def of_stability(context: DiagnosticContext, price: Price) -> Passes:
    """One attack at each epoch, its images tried at all."""
    epochs = _epochs(context)
    return epochs * len(context.test) * (price(context.single_attack) + epochs * _LOOK)


def of_sharedness(context: DiagnosticContext, price: Price) -> Passes:
    """One attack at each epoch, each perturbation tried on all training images."""
    n, others = len(context.test), len(context.train)
    each = price(context.single_attack) + (4 + others) * _LOOK
    return _epochs(context) * (n * each + 2 * others * _LOOK)


def of_universality(context: DiagnosticContext, price: Price) -> Passes:
    """A perturbation from training and one from test images for each epoch, tried at all."""
    epochs = _epochs(context)
    updating = context.updates * context.batches * _BATCH * (_LOOK + _SLOPE)
    return epochs * (2 * updating + (2 * epochs + 1) * len(context.test) * _LOOK)


def of_destruction(context: DiagnosticContext, price: Price) -> Passes:
    """Each attack at each epoch, its images under every transformation."""
    tried = 2 + sum(len(strengths) for _, strengths in TRANSFORMS.values())
    each = _sum(price(attack) + tried * _LOOK for attack in context.several_attacks.values())
    return _epochs(context) * len(context.test) * each


def of_detectability(context: DiagnosticContext, price: Price) -> Passes:
    """Each attack at each epoch, and a detector of its images, whose passes are counted as the network's."""
    epochs, learned, tried = _epochs(context), len(context.train), len(context.test)
    taught = 2 * context.detector_epochs * learned * _SLOPE
    probing = context.updates * 2 * _BATCH * (_LOOK + _SLOPE)
    judged = ((epochs + 2) * tried + 2 * learned) * _LOOK
    attacks = context.attacks_within.values()
    return epochs * _sum(
        (learned + tried) * price(attack) + 2 * tried * _LOOK + taught + probing + judged for attack in attacks
    )


def of_transfer(context: DiagnosticContext, price: Price) -> Passes:
    """One attack on each network, its images tried on all."""
    networks = _networks(context)
    return networks * len(context.test) * (price(transferred_attack(context)) + (networks + 1) * _LOOK)


def of_gradients(context: DiagnosticContext, price: Price) -> Passes:
    """One gradient an image and network."""
    return _chosen(context) * len(context.test) * _SLOPE


def of_surface(context: DiagnosticContext, price: Price) -> Passes:
    """A plane of 11 × 11 places around 64 images at most."""
    return _chosen(context) * min(64, len(context.test)) * (_SLOPE + 121 * _LOOK)


def of_profile(context: DiagnosticContext, price: Price) -> Passes:
    """Each corruption at five severities."""
    return _chosen(context) * len(context.test) * (1 + 5 * len(CORRUPTIONS)) * _LOOK


def of_tradeoff(context: DiagnosticContext, price: Price) -> Passes:
    """One attack on each network."""
    return _networks(context) * len(context.test) * price(measuring_attack(context.eps))


def of_budgets(context: DiagnosticContext, price: Price) -> Passes:
    """One attack at each budget."""
    each = _sum(price(measuring_attack(context.eps * factor)) for factor in FACTORS)
    return _chosen(context) * len(context.test) * each


def of_suspicion(context: DiagnosticContext, price: Price) -> Passes:
    """One dual attack for each weight λ."""
    wide = background_budget(context.eps, context.norm, context.eps_background)
    steps = 20 if context.norm == "linf" else 100
    attack = DualPerturbation(context.eps, wide, norm=context.norm, steps=steps)
    weights = len(context.lambdas or LAMBDAS)
    return _chosen(context) * len(context.test) * weights * (price(attack) + _LOOK)


def of_attribution(context: DiagnosticContext, price: Price) -> Passes:
    """Thirty steps on the saliency of an image, each with two derivatives, and its true saliency."""
    points = POINTS if context.explanation == "integrated-gradients" else 1
    steps = 31 * (points * (Passes(1.0, 2.0) + _SLOPE) + _LOOK)
    return _chosen(context) * len(context.test) * (steps + points * 4 * _SLOPE)


def of_interpretability(context: DiagnosticContext, price: Price) -> Passes:
    """Targeted attacks, and maps of each image."""
    each = _sum(price(attack) for attack in targeted_attacks(context).values())
    return len(context.test) * (each + 6 * _SLOPE)


def of_targets(context: DiagnosticContext, price: Price) -> Passes:
    """Each attack towards each other class; for one with a budget, at each of nine."""
    others = len(context.test.classes) - 1
    each = Passes()
    for attack in compared_attacks(context).values():
        bounded = all(stage.attack.geometry is not None for stage in unfold(attack))
        each += (len(BUDGETS) if bounded else 1) * price(attack)
    return len(context.test) * (others * each + len(compared_attacks(context)) * _LOOK)


def of_parameters(context: DiagnosticContext, price: Price) -> Passes:
    """Each attack, and the filters' gradients of its images."""
    each = _sum(price(attack) + _SLOPE for attack in filter_attacks(context).values())
    return len(context.test) * (each + 3 * _SLOPE)
