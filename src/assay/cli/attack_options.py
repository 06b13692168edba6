"""Attacks on the command line: suites, specs, budgets and curves."""

from dataclasses import dataclass
from typing import Any, Literal

from assay.attacks.plan import Planned, plan
from assay.attacks.plan import curve as curve_of
from assay.attacks.registry import SUITES
from assay.util.fields import Budget


@dataclass(frozen=True)
class AttackOptions:
    """Which attacks run, and within which budget.

    Attributes:
        suite: Attacks that belong together: quick, gradient, dual, standard, fast, sparse or randomised.
        attack: An attack, such as pgd:steps=100,restarts=5 (see: assay ls attacks). Repeat for several.
        eps: Budget in input units, such as 8/255; the foreground's for dual attacks, a number of values for sparse
            ones. Attacks in another norm than --norm take a budget of their own (fmn:norm=l2,eps=0.5), or none.
        eps_background: Background budget of dual attacks (default five times eps).
        norm: Norm of eps: linf, l2 or l1.
    """

    suite: str | None = None
    attack: list[str] | None = None
    eps: Budget = 8 / 255
    eps_background: Budget | None = None
    norm: Literal["linf", "l2", "l1"] = "linf"

    def plan(self, *default: str) -> list[Planned]:
        """Plan the attacks.

        Args:
            default: attacks where neither a suite nor attacks are given.
        """
        if self.suite is not None:
            SUITES.find(self.suite)
        names = [*(SUITES[self.suite] if self.suite else ()), *(self.attack or ())] or list(default)
        return [_plan(name, eps=self.eps, norm=self.norm, eps_background=self.eps_background) for name in names]


@dataclass(frozen=True)
class CurveOptions:
    """Further budgets, which do not count in the verdict.

    Attributes:
        curve: Further budgets for a PGD-20 curve, such as 2/255,4/255,16/255. They do not count in the verdict.
        curve_background: Background budgets for a dual-perturbation curve at the foreground budget eps.
        curve_foreground: Foreground budgets for one at the background budget.
    """

    curve: tuple[Budget, ...] = ()
    curve_background: tuple[Budget, ...] = ()
    curve_foreground: tuple[Budget, ...] = ()

    def plan(self, attacks: AttackOptions) -> list[Planned]:
        """Plan the attacks of the curves; the budget of the verdict is a point of each."""
        wide = 5 * attacks.eps if attacks.eps_background is None else attacks.eps_background
        points: list[Planned] = []
        for vary, budgets, own in (
            ("eps", self.curve, attacks.eps),
            ("background", self.curve_background, wide),
            ("foreground", self.curve_foreground, attacks.eps),
        ):
            if budgets:
                points += curve_of(
                    [*budgets, own], vary, eps=attacks.eps, norm=attacks.norm, eps_background=attacks.eps_background
                )
        return points


def _plan(spec: str, **common: Any) -> Planned:
    """Plan an attack; errors in shared values name the flag."""
    try:
        return plan(spec, **common)
    except (ValueError, TypeError) as error:
        name, _, options = spec.partition(":")
        for flag in common:
            if str(error).startswith(f"{name}:{flag}: ") and f"{flag}=" not in options:
                raise ValueError(str(error).removeprefix(f"{name}:")) from error
        raise
