"""Adversarial patches: one square of the image, for each image its own."""

from assay.core.objective import Objective
from assay.core.types import Eps
from assay.parts.first_order import FirstOrder
from assay.parts.losses import objective
from assay.parts.patch_set import Placed
from assay.parts.step_rules import Ascent
from assay.util.hints import with_hints
from assay.util.validate import radius


@with_hints
def Patch(
    side: int,
    eps: float = 1.0,
    *,
    steps: int = 100,
    step_size: Eps | None = None,
    place: tuple[int, int] | None = None,
    loss: str | Objective = "ce",
) -> FirstOrder:
    """Projected gradient ascent on a square at a random place: LaVAN, and the patch attack of Souri et al., 2021.

    More places are restarts: ``Restarts(Patch(8), 10)``. A patch that works wherever it is put is a universal one:
    `UniversalPatch`.

    Args:
        side: of the square in pixels.
        eps: limit on each change inside it; 1 for none.
        steps: gradient steps.
        step_size: in input units; ``eps / 10``, at most 0.05, by default.
        place: top and left in pixels; by default random, for each image (and restart) its own.
        loss: objective or its name.

    Returns:
        An attack of ``steps`` passes forward and backward.

    Example:
        >>> Patch(8, 16/255).describe()
        'Patch-100 patch 8×8 linf 16/255'

    Source: Karmon, Zoran & Goldberg, "LaVAN: localized and visible adversarial noise", ICML 2018; Souri et al., 2021,
    section 3.2 and table 2 (100 steps, sides 4, 8, 16, eps 4/255, 8/255, 16/255).
    """
    geometry = Placed(side, eps, place)
    usual = min(0.1, 0.05 / geometry.eps) if geometry.eps else 0.1
    rate = usual if step_size is None else radius("step_size", step_size, above=True) / max(geometry.eps, 1e-12)
    return FirstOrder("Patch", geometry, objective(loss), Ascent(geometry, rate), steps, "inside")
