"""Attacks on the command line: suites, specs, budgets and curves."""

from typing import Any

from assay.attacks.plan import Planned, plan
from assay.attacks.plan import curve as curve_of
from assay.attacks.registry import SUITES
from assay.core.types import NORMS
from assay.util.parse import parse_number
from assay.util.validate import one_of, reject


def plan_attacks(
    suite: str | None,
    attack: list[str] | None,
    eps: str,
    eps_background: str | None,
    norm: str,
    *,
    eps_curve: str | None = None,
    background_curve: str | None = None,
    foreground_curve: str | None = None,
) -> tuple[list[Planned], list[Planned]]:
    """The attacks asked for, and those of the curves."""
    if suite is not None:
        one_of("suite", suite, tuple(SUITES))
    radius = _number("eps", eps)
    background = None if eps_background is None else _number("eps_background", eps_background)
    names = [*(SUITES[suite] if suite else ()), *(attack or ())] or list(SUITES["quick"])
    one_of("norm", norm, NORMS)
    plans = [_plan(name, eps=radius, norm=norm, eps_background=background) for name in names]
    wide = 5 * radius if background is None else background
    points: list[Planned] = []
    for vary, text, own in (
        ("eps", eps_curve, radius),
        ("background", background_curve, wide),
        ("foreground", foreground_curve, radius),
    ):
        budgets = [_number("curve", part) for part in (text or "").split(",") if part.strip()]
        if budgets:
            points += curve_of([*budgets, own], vary, eps=radius, norm=norm, eps_background=background)
    return plans, points


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


def _number(name: str, text: str) -> float:
    try:
        value = parse_number(text)
    except ValueError:
        return reject(name, "a number or a fraction such as 8/255", text)
    return value if value >= 0 else reject(name, "a number that is at least 0, or a fraction such as 8/255", text)
