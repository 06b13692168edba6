"""The attacks under test. A new attack gets every property of this folder by one line here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from assay import (
    APGD,
    BIM,
    FGM,
    FGSM,
    MIM,
    PGD,
    Ball,
    Cascade,
    DualPerturbation,
    GaussianNoise,
    Restarts,
    Split,
    UniformNoise,
)


@dataclass(frozen=True)
class Case:
    """One configured attack.

    Attributes:
        name: test id.
        make: from a budget in units of the norm's usual size, and further arguments.
        norm: of the budget; None for two budgets.
        eps: a budget at which the test network breaks for some samples and not for others.
        steps: whether ``make`` takes ``steps``.
        gradient: whether it uses gradients.
        passes: forward and backward passes of a row that survives, from the arguments of ``make``.
        holes: properties that do not hold, with the reason.
    """

    name: str
    make: Callable[..., Any]
    norm: str | None
    eps: float
    steps: bool = True
    gradient: bool = True
    passes: Callable[[int], tuple[int, int]] = lambda steps: (steps, steps)
    holes: dict[str, str] = field(default_factory=dict)

    def __str__(self):
        return self.name


def _dual(eps, steps=5, **more):
    return DualPerturbation(eps, 4 * eps, steps=steps, **more)


CASES = [
    Case("fgsm-linf", lambda eps: FGSM(eps), "linf", 0.03, steps=False),
    Case("fgm-l2", lambda eps: FGM(eps), "l2", 0.25, steps=False),
    Case("fgm-l1", lambda eps: FGM(eps, norm="l1"), "l1", 1.0, steps=False),
    Case("bim-linf", lambda eps, steps=5: BIM(eps, steps=steps), "linf", 0.03),
    Case("pgd-linf", lambda eps, steps=5: PGD(eps, steps=steps), "linf", 0.03),
    Case("pgd-l2", lambda eps, steps=5: PGD(eps, norm="l2", steps=steps), "l2", 0.25),
    Case("pgd-l1", lambda eps, steps=5: PGD(eps, norm="l1", steps=steps), "l1", 1.0),
    Case("pgd-kl", lambda eps, steps=5: PGD(eps, steps=steps, loss="kl"), "linf", 0.03),
    Case("mim-linf", lambda eps, steps=5: MIM(eps, steps=steps), "linf", 0.03),
    Case("mim-l2", lambda eps, steps=5: MIM(eps, norm="l2", steps=steps), "l2", 0.25),
    Case("apgd-linf", lambda eps, steps=5: APGD(eps, steps=steps), "linf", 0.03),
    Case("apgd-l2", lambda eps, steps=5: APGD(eps, norm="l2", steps=steps), "l2", 0.25),
    Case("apgd-l1", lambda eps, steps=5: APGD(eps, norm="l1", steps=steps), "l1", 1.0),
    Case("apgd-dlr", lambda eps, steps=5: APGD(eps, steps=steps, loss="dlr"), "linf", 0.03),
    Case(
        "apgd-targets", lambda eps, steps=5: APGD(eps, steps=steps, loss="dlr", targets=3), "linf", 0.03,
        passes=lambda steps: (3 * steps, 3 * steps),
    ),
    Case("dual-linf", _dual, None, 0.01),
    Case("dual-l2", lambda eps, steps=5: _dual(eps, steps, norm="l2"), None, 0.08),
    Case(
        "dual-apgd", lambda eps, steps=5: APGD(Split(Ball("linf", eps), Ball("linf", 4 * eps)), steps=steps), None, 0.01
    ),
    Case(
        "dual-restarts", lambda eps, steps=5: Restarts(_dual(eps, steps), 2), None, 0.01,
        passes=lambda steps: (2 * steps, 2 * steps),
    ),
    Case(
        "cascade", lambda eps, steps=5: Cascade((PGD(eps, steps=steps), APGD(eps, steps=steps, loss="dlr"))),
        "linf", 0.03, passes=lambda steps: (2 * steps, 2 * steps),
    ),
    Case(
        "noise-uniform", lambda eps: UniformNoise(eps, draws=5), "linf", 0.12, steps=False, gradient=False,
        passes=lambda _: (5, 0),
    ),
    Case(
        "noise-gaussian", lambda eps: GaussianNoise(eps, draws=5), "l2", 1.0, steps=False, gradient=False,
        passes=lambda _: (5, 0),
    ),
]  # fmt: skip
