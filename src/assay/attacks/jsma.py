"""Jacobian-based saliency map attack."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from assay.core.attack import Step
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.tree import expand_rows
from assay.core.types import Count, Flag, Images, Logits
from assay.parts.losses import CrossEntropy, Margin
from assay.parts.min_distance import budget, check_budget, claim, within
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, one_of


class JSMAState(NamedTuple):
    """Where each row is, which values may still be changed, and how often it has changed some."""

    image: Images
    open: Tensor
    step: Count


@with_hints
@dataclass(frozen=True)
class JSMA:
    """One or two values a step to the end of their range: those that raise the target and lower all else most.

    Without a target the values are those that lower the label and raise all else most.

    Args:
        theta: change of a value in a step, of either sign (1: to the end of the range).
        gamma: share of the values that may be changed at most.
        pairs: two values a step, chosen together (the paper's), or one.
        saliency: ``"probabilities"`` (of the softmax: what the target gains all others lose, so that the map is the
            gradient of its logarithm), or ``"logits"`` (the target's logit, and the sum of the others, in two passes).
        both: look at raising and at lowering values, and take the better; otherwise the sign of ``theta`` alone.
        eps: images with more values changed do not count; None for no limit.

    Example:
        >>> JSMA().describe()
        'JSMA l0'

    Source: Papernot, McDaniel, Jha, Fredrikson, Celik & Swami, "The limitations of deep learning in adversarial
    settings", EuroS&P 2016, algorithms 2 and 3, equation 8; Carlini & Wagner (S&P 2017, section VI-A) call its forms on
    probabilities and on logits JSMA-F and JSMA-Z: the sum of the other logits says little of what the target competes
    with, and needed three times the values where it was measured. Section 3 of "Maximal Jacobian-based saliency map
    attack" (Wiyatno & Xu, 2018) for the untargeted form. The best pair is found exactly without looking at all
    pairs: it is made of two values that at most one other value dominates in both derivatives, so that memory grows
    with the number of values, not its square. Deviations: where no pair has the signs that the paper asks for, the
    pair with the largest difference of the two sums is taken rather than giving up.
    """

    theta: float = 1.0
    gamma: float = 1.0
    pairs: bool = True
    saliency: str = "probabilities"
    both: bool = False
    eps: float | None = None

    def __post_init__(self) -> None:
        number("theta", self.theta, least=-1, most=1)
        number("gamma", self.gamma, least=0, most=1)
        one_of("saliency", self.saliency, ("probabilities", "logits"))
        check_budget(self, "l0")

    @property
    def geometry(self) -> Geometry | None:
        """The limit on the number of values, if there is one."""
        return budget("l0", self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond the image."""
        return ()

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        most = None if self.eps is None else max(self._pairs(self.eps), 1)
        return Traits("gradient", minimises="l0", objective=Margin(), passes=most)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "JSMA | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, counts=(), norm="l0")

    def init(self, rows: Rows, rng: Rng) -> JSMAState:
        """At the clean image."""
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        return JSMAState(rows.x, torch.ones_like(rows.x, dtype=torch.bool), count)

    def step(self, rows: Rows, state: JSMAState, oracle: Oracle, rng: Rng) -> Step[JSMAState]:
        """Differentiate the target and the sum of the others, and change the best values."""
        image = state.image
        logits, rise, fall = self._derivatives(rows, image, oracle)
        at = claim(rows, image, logits, "l0", self.geometry)
        moves = self._moves(state, rise, fall).view_as(image)
        moved = (image + moves).clamp(0, 1)
        touched = moves != 0
        still = state.open & ~(touched & ((moved <= 0) | (moved >= 1)))
        after = JSMAState(moved, still, state.step + 1)
        spent = after.step >= self._most(rows)
        stuck = ~touched.flatten(1).any(1)
        pending = torch.where(expand_rows(at.reached, image), image, moved) if self._most(rows) else None
        return Step(after, image, at.hit, at.cost, at.reached | stuck | spent, pending=pending)

    def describe(self) -> str:
        """Name and norm."""
        return f"JSMA {within('l0', self.eps)}"

    def _most(self, rows: Rows) -> int:
        """The most steps."""
        values = self.gamma * rows.x[0:1].numel()
        if self.eps is not None:
            values = min(values, self.eps)
        return self._pairs(values)

    def _pairs(self, values: float) -> int:
        """The steps in which so many values are changed."""
        return int(values) // (2 if self.pairs else 1)

    def _derivatives(self, rows: Rows, image: Images, oracle: Oracle) -> tuple[Logits, Tensor, Tensor]:
        """Logits, and the derivatives of what should rise and of minus what should fall, ``(b, n)``."""
        goal = rows.goal
        if self.saliency == "probabilities":
            seen = oracle.evaluate(CrossEntropy(), image, rows)
            return seen.logits, seen.grad.flatten(1), seen.grad.flatten(1)
        aimed = goal.aim >= 0
        focus = torch.where(aimed, goal.aim, goal.label)
        logits, of_focus, of_others = oracle.contrast(image, focus, rows)
        rise = torch.where(aimed[:, None], of_focus.flatten(1), of_others.flatten(1))
        fall = torch.where(aimed[:, None], of_others.flatten(1), of_focus.flatten(1))
        return logits, rise, -fall

    def _moves(self, state: JSMAState, rise: Tensor, fall: Tensor) -> Tensor:
        """The change of each value, ``(b, n)``: none but the chosen ones."""
        image = state.image.flatten(1)
        signs = (1.0, -1.0) if self.both else ((1.0,) if self.theta >= 0 else (-1.0,))
        best = torch.zeros_like(image)
        score = torch.full((len(image),), -torch.inf, dtype=torch.float64, device=image.device)
        for sign in signs:
            room = (image < 1) if sign > 0 else (image > 0)
            allowed = state.open.flatten(1) & room
            chosen, value = (best_pair if self.pairs else best_single)(sign * rise, sign * fall, allowed)
            better = value > score  # of equal ones the first
            change = torch.where(chosen, sign * abs(self.theta), 0.0).to(image)
            best = torch.where(better[:, None], change, best)
            score = torch.where(better, value, score)
        return best


def best_single(rise: Tensor, fall: Tensor, allowed: Flag) -> tuple[Tensor, Tensor]:
    """The value with the largest ``rise·fall`` where both are positive, else with the largest sum.

    Args:
        rise: what the goal gains, ``(b, n)``.
        fall: what all else loses, ``(b, n)``.
        allowed: which values may be chosen, ``(b, n)``.

    Returns:
        A mask of at most one value a row, and its score (minus infinity where none is allowed).
    """
    score = _score(rise, fall)
    score = torch.where(allowed, score, -torch.inf)
    value, at = score.max(1)
    chosen = torch.zeros_like(allowed).scatter(1, at[:, None], value.isfinite()[:, None])
    return chosen, value


def best_pair(rise: Tensor, fall: Tensor, allowed: Flag) -> tuple[Tensor, Tensor]:
    """The pair with the largest ``(rise_p + rise_q)·(fall_p + fall_q)`` with both sums positive, else largest sum.

    Exact: for a fixed partner the score grows with both derivatives, so each of the best two is dominated by the
    other at most.

    Args and returns as in `best_single`.
    """
    index, real = _undominated(rise, fall, allowed)
    a, b = rise.gather(1, index), fall.gather(1, index)
    score = _score(a[:, :, None] + a[:, None, :], b[:, :, None] + b[:, None, :])
    count = index.shape[1]
    upper = torch.ones(count, count, dtype=torch.bool, device=rise.device).triu(1)
    score = torch.where(real[:, :, None] & real[:, None, :] & upper, score, -torch.inf).flatten(1)
    value, at = score.max(1)
    has_pair = value.isfinite()[:, None]
    chosen = torch.zeros_like(allowed)
    for part in (at // count, at % count):
        chosen = chosen.scatter(1, index.gather(1, part[:, None]), has_pair) | chosen
    return chosen, value


def _score(rise: Tensor, fall: Tensor) -> Tensor:
    """The product where both are positive; elsewhere something below it that still prefers what helps."""
    other = -1 / (1 + (rise + fall).double().clamp_max(500).exp())
    return torch.where((rise > 0) & (fall > 0), (rise * fall).double(), other)


def _undominated(rise: Tensor, fall: Tensor, allowed: Flag) -> tuple[Tensor, Tensor]:
    """Places that at most one other value beats in both derivatives, ``(b, m)``, and which of them are real."""
    first = _frontier(rise, fall, allowed)
    second = _frontier(rise, fall, allowed & ~first)
    mask = first | second
    count = max(int(mask.sum(1).max()) if len(mask) else 0, 2)
    order = mask.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count]
    return order, mask.gather(1, order)


def _frontier(rise: Tensor, fall: Tensor, allowed: Flag) -> Flag:
    """Values that no other allowed value beats in both derivatives (of equal ones the first)."""
    low = torch.where(allowed, rise, -torch.inf)
    order = low.argsort(dim=1, descending=True, stable=True)
    height = torch.where(allowed, fall, -torch.inf).gather(1, order)
    highest = height.cummax(1).values
    before = torch.cat([torch.full_like(highest[:, :1], -torch.inf), highest[:, :-1]], 1)
    return torch.zeros_like(allowed).scatter(1, order, (height > before) & height.isfinite())
