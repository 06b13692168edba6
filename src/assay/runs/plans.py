"""The attacks of a study: at its budgets, and on its curves."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from assay.attacks.registry import SUITES, Planned, plan
from assay.attacks.registry import curve as curve_of

if TYPE_CHECKING:
    from assay.runs.schema import Config


def plans(config: "Config") -> list[Planned]:
    """The attacks of a study at each of its budgets, none twice."""
    names = [*(SUITES[config.suite] if config.suite else ()), *config.attacks]
    names = names or list(SUITES["quick"])
    return distinct(plan(name, eps=threat.eps, norm=threat.norm, eps_background=threat.background)
                    for threat in config.budgets for name in names)  # fmt: skip


def distinct(plans: Iterable[Planned]) -> list[Planned]:
    """The attacks, none twice: what is the same attack would be the same results."""
    found: dict[str, Planned] = {}
    for planned in plans:
        found.setdefault(repr(planned.attack), planned)
    return list(found.values())


def curve_plans(config: "Config") -> list[Planned]:
    """The attacks of a study's accuracy–budget curves, about its first budget."""
    threat, found = config.budgets[0], []
    wide = 5 * threat.eps if threat.background is None else threat.background
    for vary, own in (("eps", threat.eps), ("background", wide), ("foreground", threat.eps)):
        budgets = getattr(config.curve, vary)
        if budgets:
            found += curve_of([*budgets, own], vary, eps=threat.eps, norm=threat.norm, eps_background=threat.background)
    return found


def is_budget(asked: str, budget: str) -> bool:
    """Whether a budget is the one that is asked for, with its norm or without.

    Example:
        >>> is_budget("8/255", "linf 8/255"), is_budget("l2 0.5", "l2 0.5"), is_budget("0.5", "l2 1.5")
        (True, True, False)
    """
    return asked == budget or asked == budget.partition(" ")[2]
