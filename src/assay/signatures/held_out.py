"""Settings of attacks that a recogniser is tried on and does not learn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from assay.attacks.registry import make as make_attack
from assay.core.combinators import unfold
from assay.signatures.settings import Grid, Setting, settings
from assay.util.parse import format_budget
from assay.util.validate import reject


@dataclass(frozen=True)
class HeldOutSet:
    """Held-out settings, used for testing only.

    Attributes:
        about: in words.
        victims: classifiers by name.
        settings: of the attacks.
    """

    about: str
    victims: Mapping[str, nn.Module]
    settings: Sequence[Setting]


def unseen_budgets(
    budgets: Sequence[float], grid: Grid, kinds: Sequence[str], size: int, victims: Mapping[str, nn.Module]
) -> HeldOutSet:
    """The attacks that have a budget, at budgets that are not learned.

    Args:
        budgets: in linf.
        grid: of the settings that are learned.
        kinds: that are learned.
        size: side of the images.
        victims: classifiers by name.

    Raises:
        ValueError: no attack with a budget among the kinds.
    """
    bounded = tuple(name for name in kinds if name in ("pgd", "cw-linf", "patch"))
    if not bounded:
        reject("unseen-eps", "pgd, cw-linf or patch among the kinds, which have a budget", ",".join(kinds))
    words = ", ".join(map(format_budget, budgets))
    other = replace(grid, eps=tuple(budgets))
    return HeldOutSet(f"Budgets it has not seen, {words}", victims, settings(size, other, bounded))


def unseen_attacks(
    specs: Sequence[str], learned: Sequence[str], eps: float, victims: Mapping[str, nn.Module]
) -> list[HeldOutSet]:
    """Attacks that are tried and not learned, one setting each.

    Args:
        specs: names of attacks, with options.
        learned: kinds that are learned.
        eps: their budget.
        victims: classifiers by name.

    Raises:
        ValueError: an attack that is learned, or one that needs foreground masks.
    """
    sets = []
    for spec in specs:
        kind = spec.partition(":")[0]
        if kind in learned:
            reject("unseen-attack", "an attack that is not among those to be told apart", spec)
        attack = make_attack(spec, eps=eps)
        if any("mask" in stage.attack.needs for stage in unfold(attack)):
            reject("unseen-attack", "an attack that needs no foreground masks", spec)
        sets.append(HeldOutSet(f"An attack it has not seen, {attack.describe()}", victims, [Setting(kind, attack)]))
    return sets
