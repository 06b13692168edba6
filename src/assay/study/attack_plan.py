"""The attacks of a study: at its budgets, and on its curves."""

from collections.abc import Iterator

from assay.attacks.plan import Planned, distinct, plan
from assay.attacks.plan import curve as curve_of
from assay.attacks.registry import SUITES
from assay.core.combinators import AnyAttack
from assay.store.judged_claims import AttackNames
from assay.study.schema import Config
from assay.study.training_schema import Added


def plans(config: Config) -> list[Planned]:
    """The attacks of a study at each of its budgets, none twice."""
    return distinct(_at_budgets(config))


def _at_budgets(config: Config) -> Iterator[Planned]:
    names = [*(SUITES[config.suite] if config.suite else ()), *config.attacks] or list(SUITES["quick"])
    for threat in config.budgets:
        for name in names:
            yield plan(name, eps=threat.eps, norm=threat.norm, eps_background=threat.background)


def curve_plans(config: Config) -> list[Planned]:
    """The attacks of a study's accuracy–budget curves, about its first budget."""
    threat, planned = config.budgets[0], []
    wide = 5 * threat.eps if threat.background is None else threat.background
    for vary, own in (("eps", threat.eps), ("background", wide), ("foreground", threat.eps)):
        budgets = getattr(config.curve, vary)
        if budgets:
            planned += curve_of(
                [*budgets, own],
                vary,
                eps=threat.eps,
                norm=threat.norm,
                eps_background=threat.background,
                lam=config.curve.lam,
            )
    return planned


def beside_plans(config: Config) -> list[Planned]:
    """The attacks that do not count in the verdict, at the first budget where they have none of their own."""
    threat = config.budgets[0]
    return distinct(
        plan(name, eps=threat.eps, norm=threat.norm, eps_background=threat.background) for name in config.beside
    )


def added_attack(config: Config, added: Added) -> AnyAttack:
    """The attack of adversarial images that a training adds, at the first budget where it has none of its own."""
    threat = config.budgets[0]
    return plan(added.attack, eps=threat.eps, norm=threat.norm, eps_background=threat.background).attack


def attack_names(config: Config) -> AttackNames:
    """By each attack as the study writes it, its cells: at the study's budgets, beside them and on its curves."""
    names: dict[str, list[tuple[str, str, bool]]] = {}
    for planned in (*_at_budgets(config), *beside_plans(config)):
        names.setdefault(planned.spec, []).append((planned.family, planned.budget, False))
    for planned in curve_plans(config):
        names.setdefault(planned.spec, []).append((planned.family, planned.budget, True))
    return names
