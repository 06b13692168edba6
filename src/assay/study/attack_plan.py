"""The attacks of a study: at its budgets, and on its curves."""

from assay.attacks.plan import Planned, distinct, plan
from assay.attacks.plan import curve as curve_of
from assay.attacks.registry import SUITES
from assay.study.schema import Config


def plans(config: Config) -> list[Planned]:
    """The attacks of a study at each of its budgets, none twice."""
    names = [*(SUITES[config.suite] if config.suite else ()), *config.attacks]
    names = names or list(SUITES["quick"])
    return distinct(
        plan(name, eps=threat.eps, norm=threat.norm, eps_background=threat.background)
        for threat in config.budgets
        for name in names
    )


def curve_plans(config: Config) -> list[Planned]:
    """The attacks of a study's accuracy–budget curves, about its first budget."""
    threat, planned = config.budgets[0], []
    wide = 5 * threat.eps if threat.background is None else threat.background
    for vary, own in (("eps", threat.eps), ("background", wide), ("foreground", threat.eps)):
        budgets = getattr(config.curve, vary)
        if budgets:
            planned += curve_of(
                [*budgets, own], vary, eps=threat.eps, norm=threat.norm, eps_background=threat.background
            )
    return planned
