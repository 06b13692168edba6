"""What attacks that minimise a distance have in common: measuring it, claiming a hit, the budget they may be given."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from assay.core.geometry import Geometry
from assay.core.rows import Rows
from assay.core.types import Flag, Images, Logits, PerRow
from assay.parts.balls import Ball
from assay.parts.sparse_sets import Support
from assay.util.validate import number, one_of, radius, reject

_ROUNDING = 2e-5
"""How far beyond a budget, as a share of it, a claim may be: less than the referee's own tolerance."""


class Claim(NamedTuple):
    """What a candidate is worth.

    Attributes:
        hit: it reached the goal (inside the budget, if there is one), ``(b,)``.
        cost: its distance where it is a hit, infinity elsewhere, ``(b,)``.
        reached: it reached the goal, at whatever distance, ``(b,)``.
        length: its distance, ``(b,)``.
    """

    hit: Flag
    cost: PerRow
    reached: Flag
    length: PerRow


def length_of(delta: Tensor, norm: str) -> PerRow:
    """Norm of each row: ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"`` (values that are not zero)."""
    flat = delta.flatten(1)
    if norm == "l0":
        return (flat != 0).sum(1).to(flat.dtype)
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
    length: PerRow = torch.linalg.vector_norm(flat, ord=order, dim=1)
    return length


def hair(x: Images, norm: str) -> float:
    """A distance that is hardly one, but moves pixels: the norm of a change of every value by its last digit.

    Who stands closer to a boundary than this is moved by nothing that is only a share of the distance to it.

    Args:
        x: images, ``(b, c, h, w)``; what counts are their shape and type.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.

    Example:
        >>> hair(torch.zeros(1, 1, 2, 2), "l1") / torch.finfo(torch.float32).eps
        4.0
    """
    values, last = x[0].numel() if len(x) else 0, torch.finfo(x.dtype).eps
    return float(last * {"linf": 1.0, "l2": values**0.5, "l1": values}[norm])


def dual_of(norm: str) -> str:
    """The dual norm."""
    return {"linf": "l1", "l2": "l2", "l1": "linf"}[norm]


def claim(rows: Rows, image: Images, logits: Logits, norm: str, geometry: Geometry | None) -> Claim:
    """Judge candidates as the referee will: hits are those at the goal and, if there is a budget, inside it.

    Args:
        rows: the rows.
        image: candidates, ``(b, c, h, w)``.
        logits: what the model returned for them.
        norm: in which the distance is measured.
        geometry: the budget, or None.
    """
    reached = rows.goal.reached(logits, image)
    delta = image - rows.x
    length = length_of(delta, norm)
    hit = reached
    if geometry is not None:
        hit = reached & (geometry.size(delta, rows) <= 1 + _ROUNDING)
    return Claim(hit, torch.where(hit, length, torch.inf), reached, length)


def budget(norm: str, eps: float | None) -> Geometry | None:
    """The set that a limit on the distance stands for; None for no limit.

    Args:
        norm: ``"linf"``, ``"l2"``, ``"l1"``, ``"l0"`` or ``"pixels"``.
        eps: the limit, or None.
    """
    if eps is None:
        return None
    if norm not in ("l0", "pixels"):
        return Ball(norm, eps)
    if number("eps", eps, least=0) != int(eps):
        reject("eps", f"a whole number of {'values' if norm == 'l0' else 'pixels'}", eps)
    return Support(int(eps), "values" if norm == "l0" else "pixels")


def check_budget(attack: Any, norm: str) -> None:
    """Check the limit ``eps`` of a frozen attack; a fraction as text becomes a number.

    Raises:
        TypeError, ValueError: a wrong limit.
    """
    if isinstance(attack.eps, str):
        object.__setattr__(attack, "eps", radius("eps", attack.eps))
    budget(norm, attack.eps)


def check_norm(norm: str, allowed: tuple[str, ...]) -> str:
    """Return the norm after checking that the attack has it."""
    return one_of("norm", norm, allowed)


def within(norm: str, eps: float | None) -> str:
    """Words for tables: the norm, and the limit if there is one."""
    geometry = budget(norm, eps)
    return norm if geometry is None else geometry.describe()
