"""The attacks whose signatures are learned, each in the settings in which it is seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from assay.attacks.carlini_wagner.l2 import CarliniWagnerL2
from assay.attacks.deepfool import DeepFool
from assay.attacks.patch import Patch
from assay.attacks.pgd import PGD
from assay.core.combinators import AnyAttack
from assay.parts.balls import Ball
from assay.parts.first_order import FirstOrder
from assay.parts.losses import Margin
from assay.parts.step_rules import Adam
from assay.util.fields import Budget, Number, Whole
from assay.util.registry import Registry
from assay.util.validate import number, one_of, reject, whole

CLEAN = "clean"
EPS = (4 / 255, 8 / 255, 16 / 255)
SIDES = (4, 8, 16)
CONSTANTS = (100.0, 1000.0)


@dataclass(frozen=True)
class Setting:
    """One attack in one setting.

    Attributes:
        kind: the class that it belongs to, such as ``"pgd"``.
        attack: the attack.
        more: what its own words leave out, such as a constant.
    """

    kind: str
    attack: AnyAttack
    more: str = ""

    def __post_init__(self) -> None:
        if not self.kind or self.kind == CLEAN:
            reject("kind", f"a name other than {CLEAN!r}", self.kind)

    @property
    def words(self) -> str:
        """For tables."""
        return self.attack.describe() + (f", {self.more}" if self.more else "")


@dataclass(frozen=True)
class Grid:
    """What the settings are made of.

    Args:
        eps: Budgets in linf of PGD, C&W linf and the patch.
        sides: Sides of the patch in pixels; those that an image has no room for are left out.
        constants: C&W's c for l2.
        steps: Steps of PGD, C&W linf and the patch.
        carlini_steps: Steps of C&W l2.
        rounding: How attacked images come to 8 bits: nearest, or down, as the paper's do, which cuts bytes off.
        innocent: Each clean image once more, with noise, compression, blur or another corruption, as no attack.

    Source: Souri et al., 2021, table 2.
    """

    eps: tuple[Budget, ...] = EPS
    sides: tuple[Whole, ...] = SIDES
    constants: tuple[Number, ...] = CONSTANTS
    steps: Whole = 100
    carlini_steps: Whole = 1000
    rounding: Literal["nearest", "down"] = "nearest"
    innocent: bool = True

    def __post_init__(self) -> None:
        for name in ("eps", "sides", "constants"):
            if not isinstance(getattr(self, name), tuple | list):
                reject(name, "values, such as (4, 8)", getattr(self, name), error=TypeError)
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if not getattr(self, name):
                reject(name, "at least one value", getattr(self, name))
        for eps in self.eps:
            number("eps", eps, least=0, above=True, most=1)
        for side in self.sides:
            whole("sides", side, least=1)
        for constant in self.constants:
            number("constants", constant, least=0, above=True)
        whole("steps", self.steps, least=1)
        whole("carlini_steps", self.carlini_steps, least=1)
        one_of("rounding", self.rounding, ("nearest", "down"))
        if not isinstance(self.innocent, bool):
            reject("innocent", "True or False", self.innocent, error=TypeError)


def _deepfool(grid: Grid, size: int) -> list[AnyAttack]:
    return [DeepFool(steps=50)]


def _pgd(grid: Grid, size: int) -> list[AnyAttack]:
    return [PGD(eps, steps=grid.steps, step_size=min(0.01, eps)) for eps in grid.eps]


def _cw_l2(grid: Grid, size: int) -> list[AnyAttack]:
    return [CarliniWagnerL2(steps=grid.carlini_steps, rounds=1, constant=c, rate=0.01) for c in grid.constants]


def _cw_linf(grid: Grid, size: int) -> list[AnyAttack]:
    return [
        FirstOrder("C&W-Adam", Ball("linf", eps), Margin(0.0), Adam(0.005), grid.steps, "clean") for eps in grid.eps
    ]


def _patch(grid: Grid, size: int) -> list[AnyAttack]:
    return [
        Patch(side, eps, steps=grid.steps, step_size=min(0.01, eps))
        for side in grid.sides
        if side <= size
        for eps in grid.eps
    ]


KINDS: Registry[Callable[[Grid, int], list[AnyAttack]]] = Registry(
    "kinds",
    {"deepfool": _deepfool, "pgd": _pgd, "cw-l2": _cw_l2, "cw-linf": _cw_linf, "patch": _patch},
)
"""The five attacks of Souri et al., 2021; a new one is a function and a line here."""


def settings(size: int, grid: Grid | None = None, kinds: Sequence[str] = tuple(KINDS)) -> tuple[Setting, ...]:
    """The settings of Souri et al.'s table 2.

    Args:
        size: side of the images in pixels (the shorter one).
        grid: budgets, patch sides, constants and steps.
        kinds: names of `KINDS`.

    Returns:
        One `Setting` for each attack and cell of its grid.

    Raises:
        ValueError: an unknown kind, or a grid that leaves an attack without a setting.

    Example:
        >>> [setting.words for setting in settings(32, Grid(eps=(8 / 255,), steps=10), ("pgd", "patch"))][:2]
        ['PGD-10 linf 8/255', 'Patch-10 patch 4×4 linf 8/255']

    Source: Souri et al., "Identification of attack-specific signatures in adversarial examples", section 3.2, table 2.
    C&W linf has there a largest perturbation, 100 steps, a learning rate and a constant: Adam on the logit margin
    inside the ball, on which the constant has no effect. C&W l2 ends a search early where its loss no longer falls, as
    its authors' code does; the step of the patch, which is not stated, is that of PGD.
    """
    grid, grid_settings = grid or Grid(), []
    for kind in kinds:
        attacks = KINDS.find(kind)(grid, whole("size", size, least=4))
        if not attacks:
            reject("sides", f"a patch smaller than the images, which have {size} pixels", grid.sides)
        more = [f"c = {c:g}" for c in grid.constants] if kind == "cw-l2" else [""] * len(attacks)
        grid_settings += [Setting(kind, attack, suffix) for attack, suffix in zip(attacks, more, strict=True)]
    return tuple(grid_settings)
