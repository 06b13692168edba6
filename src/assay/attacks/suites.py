"""Suites: cascades of attacks whose worst case, sample by sample, is what is reported."""

from assay.attacks.auto_pgd.apgd import APGD
from assay.attacks.auto_pgd.promising import WhilePromising
from assay.attacks.blackbox.square import Square
from assay.attacks.fab import FAB
from assay.attacks.fmn import FMN
from assay.attacks.jsma import JSMA
from assay.attacks.sigma_zero import SigmaZero
from assay.core.combinators import AnyAttack, Cascade, Targets
from assay.core.types import NORMS, Eps
from assay.parts.first_order import FirstOrder
from assay.util.hints import with_hints
from assay.util.parse import format_budget
from assay.util.validate import one_of, radius, whole


@with_hints
def Standard(eps: Eps, *, norm: str = "linf", steps: int = 100, targets: int = 9, queries: int = 5000) -> Cascade:
    """AutoAttack: APGD-CE, APGD-T, FAB-T and Square, each on what survived those before.

    With fewer than ten classes there are fewer targets; with two, the targeted losses are margins.

    Args:
        eps: radius in input units.
        norm: ``"linf"``, ``"l2"`` or ``"l1"`` (without Square, which has no l1 form here).
        steps: steps of the first three.
        targets: most likely wrong classes that APGD-T and FAB-T try.
        queries: queries of Square.

    Example:
        >>> Standard(8/255).describe()
        'standard linf 8/255'

    Source: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", ICML 2020, section 5; the settings of github.com/fra31/auto-attack (``version="standard"``).
    """
    one_of("norm", norm, NORMS)
    eps = radius("eps", eps)
    attacks: list[AnyAttack] = [
        APGD(eps, norm=norm, steps=steps),
        APGD(eps, norm=norm, steps=steps, loss="dlr", targets=targets),
        FAB(eps, norm=norm, steps=steps, targets=targets),
    ]
    if norm != "l1":
        attacks.append(Square(eps, norm=norm, queries=queries))
    return Cascade(tuple(attacks), f"standard {norm} {format_budget(eps)}")


AutoAttack = Standard
"""The name of the package whose attacks `Standard` runs."""


@with_hints
def Fast(eps: Eps, *, norm: str = "linf", steps: int = 100, targets: int = 9) -> Cascade:
    """APGD-CE, then APGD-T on the survivors, each target as long as it is promising: a small part of `Standard`'s cost.

    The first has a fifth of the steps. On six networks at the budgets they were trained for it has missed no sample
    that AutoAttack breaks, at less than a tenth of its passes; at one and a half times these, where gradients mislead
    more, one of 64 on two of three (benchmarks/suite.py). Not a replacement for `Standard` in a paper: Square and FAB
    are what finds masked gradients.

    Args:
        eps: radius in input units.
        norm: ``"linf"``, ``"l2"`` or ``"l1"`` (where every target gets a third of the steps).
        steps: the most steps of a target.
        targets: most likely wrong classes that APGD-T tries.

    Example:
        >>> Fast(8/255).describe()
        'fast linf 8/255'

    Source: our own (`WhilePromising`), of Croce & Hein, ICML 2020 (APGD-CE, APGD-T); that more targets beat more steps
    is Gowal et al., "An alternative surrogate loss for PGD-based adversarial testing", 2019.
    """
    one_of("norm", norm, NORMS)
    eps = radius("eps", eps)
    first = APGD(eps, norm=norm, steps=max(whole("steps", steps) // 5, min(steps, 5)))
    each = APGD(eps, norm=norm, steps=steps, loss="dlr")
    second: AnyAttack = APGD(eps, norm=norm, steps=-(-steps // 3), loss="dlr", targets=targets)
    if isinstance(each, FirstOrder):
        looks = max(steps // 5, 1), max(steps // 10, 1)
        second = Targets(WhilePromising(each, *looks), targets)
    return Cascade((first, second), f"fast {norm} {format_budget(eps)}")


@with_hints
def Sparse(eps: float, *, steps: int = 300) -> Cascade:
    """σ-zero, FMN l0 and JSMA under a limit on the number of changed values.

    Args:
        eps: how many values may change.
        steps: steps of the first two.

    Example:
        >>> Sparse(20).describe()
        'sparse l0 20'
    """
    three = (SigmaZero(steps=steps, eps=eps), FMN(steps=steps, norm="l0", eps=eps), JSMA(both=True, eps=eps))
    return Cascade(three, f"sparse l0 {eps:g}")


@with_hints
def Randomised(eps: Eps, *, norm: str = "linf", steps: int = 100) -> Cascade:
    """APGD-CE and APGD-DLR for classifiers that draw random numbers; wrap those in `Expectation` first.

    Args:
        eps: radius in input units.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: steps of each.

    Example:
        >>> Randomised(8/255).describe()
        'randomised linf 8/255'

    Source: Croce & Hein, ICML 2020, section 5 (``version="rand"``, with 20 draws); Athalye, Carlini & Wagner,
    "Obfuscated gradients give a false sense of security", ICML 2018 (expectation over transformation).
    """
    eps = radius("eps", eps)
    pair = (APGD(eps, norm=norm, steps=steps), APGD(eps, norm=norm, steps=steps, loss="dlr"))
    return Cascade(pair, f"randomised {norm} {format_budget(eps)}")
