"""The attacks of questions that need more than the attacks of their context."""

from collections.abc import Mapping

from assay.attacks.auto_pgd.apgd import APGD
from assay.attacks.carlini_wagner.l2 import CarliniWagnerL2
from assay.attacks.deepfool import DeepFool
from assay.attacks.ead import EAD
from assay.attacks.fgsm import FGSM
from assay.attacks.patch import Patch
from assay.attacks.pgd import BIM, PGD
from assay.attacks.structured.strattack import StrAttack
from assay.attacks.universal_perturbations.perturbation import UniversalSign
from assay.core.combinators import AnyAttack
from assay.diagnostics.context import DiagnosticContext
from assay.parts.balls import Ball
from assay.parts.first_order import FirstOrder
from assay.parts.losses import Margin
from assay.parts.step_rules import Adam

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Budgets of ``budgets``, as multiples of the context's."""


def universal_attack(context: DiagnosticContext) -> UniversalSign:
    """What makes universal perturbations; by default of two and a half times the budget, as in Metzen, 2018."""
    eps = 2.5 * context.eps if context.universal_eps is None else context.universal_eps
    return UniversalSign(eps, updates=context.updates, batches=context.batches)


def transferred_attack(context: DiagnosticContext) -> AnyAttack:
    """What images are made with that other networks are tried on."""
    return context.single_attack if context.attacks or not context.models else PGD(context.eps, steps=20)


def measuring_attack(eps: float) -> AnyAttack:
    """What accuracy at a budget is measured by."""
    return APGD(eps, steps=20)


def targeted_attacks(context: DiagnosticContext) -> Mapping[str, AnyAttack]:
    """The attacks whose perturbations are compared with what the network is sensitive to."""
    steps = context.search_steps
    own = {"StrAttack": StrAttack(steps=steps), "C&W l2": CarliniWagnerL2(steps=steps, rounds=6)}
    return context.attacks or own


def compared_attacks(context: DiagnosticContext) -> Mapping[str, AnyAttack]:
    """The attacks whose distances are compared: those of Xu et al.'s table 1."""
    steps = context.search_steps
    own = {
        "StrAttack": StrAttack(steps=steps),
        "StrAttack, overlapping": StrAttack(group=3, stride=2, steps=steps),
        "C&W l2": CarliniWagnerL2(steps=steps, rounds=6),
        "EAD": EAD(steps=steps),
        "IFGM": BIM(1.0, steps=10, norm="l2"),
        "FGM": FGSM(1.0, norm="l2"),
    }
    return context.attacks or own


def filter_attacks(context: DiagnosticContext) -> Mapping[str, AnyAttack]:
    """The attacks whose filters are compared: those of Souri et al.'s table 6, with one constant of C&W's l2."""
    side = max(min(context.test.x.shape[2:]) // 4, 1)
    eps = context.eps
    return {
        "PGD": PGD(eps, steps=100, step_size=min(0.01, eps)),
        "DeepFool": DeepFool(steps=50),
        "C&W l2": CarliniWagnerL2(steps=context.search_steps, rounds=1, constant=100.0, rate=0.01),
        "C&W linf": FirstOrder("C&W-Adam", Ball("linf", eps), Margin(0.0), Adam(0.005), 100, "clean"),
        "patch": Patch(side, eps, steps=100),
    }
