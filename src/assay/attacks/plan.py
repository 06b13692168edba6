"""Attacks as a report names them: at a budget, on a curve, none twice."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from assay.attacks.registry import background_budget, make, source_of
from assay.core.combinators import AnyAttack, check_attack, unfold
from assay.core.types import NORMS
from assay.parts.balls import Ball
from assay.util.parse import format_budget


@dataclass(frozen=True)
class Planned:
    """An attack with the words for it.

    Attributes:
        attack: the attack.
        family: without the size of its budget, ``PGD-40 linf``.
        budget: ``linf 8/255``, ``linf F 4/255, B 20/255``, ``l0 20``, or any other set in words.
        eps: the radius; the background's, or the foreground's, where one of two is varied along a curve.
        curve: what the attacks of one curve have in common.
        source: the module of the function that made the attack; empty where nobody says.
        spec: the attack as a study or a command writes it; empty for one from Python.
    """

    attack: AnyAttack
    family: str
    budget: str
    eps: float | None
    curve: str = ""
    source: str = ""
    spec: str = ""

    def __post_init__(self) -> None:
        check_attack(self.attack)


def plan(spec: str, *, eps: float, norm: str = "linf", eps_background: float | None = None) -> Planned:
    """`make`, with the words for tables."""
    attack = make(spec, eps=eps, norm=norm, eps_background=eps_background)
    return replace(describe_plan(attack), source=source_of(spec), spec=spec)


def describe_plan(attack: AnyAttack) -> Planned:
    """An attack from Python, with the words for tables.

    Raises:
        TypeError: what is no attack.

    Example:
        >>> from assay import PGD
        >>> describe_plan(PGD(8 / 255)).family
        'PGD-40 linf'
    """
    geometry = unfold(check_attack(attack))[0].attack.geometry
    words = attack.describe()
    if geometry is None:
        return Planned(attack, words, "none", None)
    budget = geometry.describe()
    norm_name = budget.partition(" ")[0]
    family = words.replace(budget, norm_name if norm_name in (*NORMS, "l0") else "").strip()
    radius = geometry.eps if isinstance(geometry, Ball) else None
    return Planned(attack, family, budget, radius, family)


def curve(
    budgets: Sequence[float],
    vary: str,
    *,
    eps: float,
    norm: str = "linf",
    eps_background: float | None = None,
    lam: float = 0.0,
) -> list[Planned]:
    """The attacks of an accuracy–budget curve: 20 steps for linf, 100 for l2 and l1 (as Tong et al., 2020, evaluate).

    Args:
        budgets: the budgets along the curve.
        vary: ``"eps"`` (PGD), ``"background"`` or ``"foreground"`` (dual-perturbation, the other budget fixed, as in
            Tong et al., 2020, figure 4).
        eps: the fixed foreground budget.
        norm: of all budgets.
        eps_background: the fixed background budget; by default five times ``eps``.
        lam: weight λ of the foreground score (1 in the paper's figure 4, 0.1 on STL-10).

    Returns:
        One attack a budget, in order.
    """
    background = background_budget(eps, norm, eps_background)
    steps = 20 if norm == "linf" else 100
    planned = []
    zero = set() if vary == "eps" else {0.0}  # where the other budget is still there, nothing is not the clean image
    for budget in sorted({*budgets, *zero}):
        if vary == "eps":
            planned.append(plan(f"pgd:steps={steps}", eps=budget, norm=norm))
            continue
        pair = (eps, budget) if vary == "background" else (budget, background)
        point = plan(
            f"dual:steps={steps}" + (f",lam={lam:g}" if lam else ""), eps=pair[0], norm=norm, eps_background=pair[1]
        )
        fixed = f"F {format_budget(eps)} and B varied"
        if vary == "foreground":
            fixed = f"B {format_budget(background)} and F varied"
        planned.append(replace(point, eps=budget, curve=f"{point.family}, {fixed}"))
    return planned


def distinct(plans: Iterable[Planned]) -> list[Planned]:
    """The attacks, none twice: what is the same attack would be the same results."""
    by_attack: dict[str, Planned] = {}
    for planned in plans:
        by_attack.setdefault(repr(planned.attack), planned)
    return list(by_attack.values())
