"""Balls, and products of balls on regions of the image."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from assay.core.geometry import Geometry, Scale
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.tree import expand_rows
from assay.core.types import NORMS, Eps, Images, Mask, PerRow
from assay.parts.projections import project_l1, project_l2, transfer_l1
from assay.util.parse import format_budget
from assay.util.validate import one_of, radius, reject


@dataclass(frozen=True)
class Ball:
    """All perturbations with ``‖δ‖ ≤ eps``.

    Args:
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        eps: radius in input units ([0, 1]), at least 0.

    Raises:
        TypeError, ValueError: a wrong argument, by name.

    Example:
        >>> from assay.core.rows import Rows, untargeted
        >>> zero = torch.zeros(1, dtype=torch.long)
        >>> rows = Rows(torch.full((1, 1, 1, 2), 0.5), untargeted(zero), zero)
        >>> Ball("l2", 0.25).project(torch.tensor([[[[0.3, 0.4]]]]), rows).flatten().tolist()
        [0.15..., 0.2...]
    """

    norm: str
    eps: float

    def __post_init__(self) -> None:
        one_of("norm", self.norm, NORMS)
        object.__setattr__(self, "eps", radius("eps", self.eps) + 0.0)  # no negative zero

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond the image."""
        return ()

    def scaled(self, factor: float) -> "Ball":
        """The set times a factor."""
        return replace(self, eps=factor * self.eps)

    def project(self, delta: Images, rows: Rows, scale: Scale = 1.0) -> Images:
        """The nearest point of the ball and the box (exact for each norm)."""
        if self.norm == "linf":
            if isinstance(scale, float):
                inside = delta.clamp(-self.eps * scale, self.eps * scale)
            else:
                radius = self._radius(delta, scale)
                inside = torch.minimum(torch.maximum(delta, -radius), radius)
            return inside.add_(rows.x).clamp_(0, 1).sub_(rows.x)
        solve = project_l2 if self.norm == "l2" else project_l1
        room = torch.where(delta > 0, 1 - rows.x, rows.x).clamp_min(0)
        moved = solve(delta.abs().flatten(1), room.flatten(1), self._radius(delta, scale).flatten(1))
        return moved.view_as(delta).copysign(delta)

    def steepest(self, grad: Images, delta: Images, rows: Rows, scale: Scale = 1.0) -> Images:
        """Sign step (linf), normalised gradient (l2), or the best transfer between coordinates (l1).

        Only the l1 step looks at where it is: one that does not keeps choosing a coordinate that is at its bound, and
        projecting afterwards takes from good coordinates as much as from bad ones.
        """
        if self.norm == "linf":
            length = self.eps * scale
            return grad.sign().mul_(length if isinstance(length, float) else expand_rows(length.to(grad), grad))
        radius = self._radius(grad, scale)
        if self.norm == "l2":
            flat = grad.flatten(1)
            flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(1e-37)  # so that squares do not underflow
            unit = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-37)
            ascent: Tensor = radius * unit.view_as(grad)
            return ascent
        sign, x = torch.where(grad < 0, -1.0, 1.0).flatten(1).to(grad.dtype), rows.x.flatten(1)
        whole = self._radius(grad, 1.0).flatten(1)
        step = transfer_l1(
            delta.flatten(1) * sign,
            grad.abs().flatten(1),
            lambda signed: (torch.where(sign > 0, 1 - x, x) - signed).clamp_min(0),
            torch.minimum(radius.flatten(1), whole),
            whole,
        )
        return (step * sign).view_as(grad)

    def bounds(self, rows: Rows) -> tuple[Images, Images] | None:
        """Of a linf ball."""
        if self.norm != "linf":
            return None
        return (rows.x - self.eps).clamp_min_(0), (rows.x + self.eps).clamp_max_(1)

    def sample(self, rows: Rows, rng: Rng, purpose: str, *, edge: bool = False) -> Images:
        """Uniform in the ball (or on its surface), then clipped to the box."""
        return self.sample_region(rows, rng, purpose, None, edge=edge)

    def sample_region(self, rows: Rows, rng: Rng, purpose: str, region: Mask | None, *, edge: bool) -> Images:
        """Uniform in the ball of those perturbations that are zero outside ``region``, ``(b, 1, h, w)``."""
        shape = tuple(rows.x.shape[1:])
        on = torch.ones_like(rows.x) if region is None else region.expand_as(rows.x)
        count = on.flatten(1).sum(1).clamp_min(1)
        if self.norm == "linf":
            raw = (2 * rng.uniform(rows.key, shape, purpose) - 1).to(rows.x) * on
            length = raw.abs().flatten(1).amax(1) if edge else torch.ones_like(count)
        elif self.norm == "l2":
            raw = rng.normal(rows.key, shape, purpose).to(rows.x) * on
            length = raw.flatten(1).norm(dim=1)
        else:
            raw = rng.exponential(rows.key, shape, purpose) * rng.signs(rows.key, shape, purpose + " sign")
            raw = raw.to(rows.x) * on
            length = raw.abs().flatten(1).sum(1)
        share = torch.ones_like(count)
        if not edge and self.norm != "linf":
            share = rng.uniform(rows.key, (1,), purpose + " radius").to(rows.x).squeeze(1) ** (1 / count)
        delta = raw * (self.eps * share / length.clamp_min(1e-30)).reshape(-1, 1, 1, 1)
        return (rows.x + delta).clamp(0, 1) - rows.x

    def size(self, delta: Images, rows: Rows) -> PerRow:
        """``‖δ‖ / eps``; with ``eps = 0``, 0 for no perturbation and infinity for any."""
        flat = delta.flatten(1)
        order = {"linf": torch.inf, "l2": 2, "l1": 1}[self.norm]
        length = torch.linalg.vector_norm(flat, ord=order, dim=1) if flat.shape[1] else flat.sum(1)
        if self.eps == 0:
            return torch.where(length > 0, torch.inf, 0.0).to(delta.dtype)
        return length / self.eps

    def describe(self) -> str:
        """Norm and radius."""
        return f"{self.norm} {format_budget(self.eps)}"

    def _radius(self, like: Images, scale: Scale) -> Float[Tensor, "b 1 1 1"]:
        radius = self.eps * scale
        if isinstance(radius, float):
            return torch.full((len(like), 1, 1, 1), radius, dtype=like.dtype, device=like.device)
        return radius.to(like).reshape(-1, 1, 1, 1)


@dataclass(frozen=True)
class Split:
    """The product of two balls on disjoint regions: ``‖δ ∘ F‖ ≤ eps_F`` and ``‖δ ∘ B‖ ≤ eps_B``.

    The regions come from the mask of the rows. With ``eps = 0`` on one side it is a patch.

    Args:
        foreground: the ball where the mask is 1.
        background: the ball where the mask is 0.

    Source: Tong, Guo, Prakash & Vorobeychik, "Towards robustness against unsuspicious adversarial examples", 2020,
    equations 3 and 5–8. Samples are uniform in each ball on its own region.
    """

    foreground: Ball
    background: Ball

    @property
    def needs(self) -> tuple[str, ...]:
        """The foreground mask."""
        return ("mask",)

    def scaled(self, factor: float) -> "Split":
        """The set times a factor."""
        return Split(self.foreground.scaled(factor), self.background.scaled(factor))

    def project(self, delta: Images, rows: Rows, scale: Scale = 1.0) -> Images:
        """Each region onto its own ball."""
        front, back = _regions(rows)
        if self._boxes:
            limit = self._radii(front, back, (scale, scale))
            inside = torch.minimum(torch.maximum(delta, -limit), limit)
            return inside.add_(rows.x).clamp_(0, 1).sub_(rows.x)
        first = self.foreground.project(delta * front, rows, scale)
        return first * front + self.background.project(delta * back, rows, scale) * back

    def steepest(self, grad: Images, delta: Images, rows: Rows, scale: Scale | tuple[float, float] = 1.0) -> Images:
        """Each region along its own part of the gradient (equation 7), with a scale of its own if a pair is given."""
        front, back = _regions(rows)
        scales = scale if isinstance(scale, tuple) else (scale, scale)
        if self._boxes:
            return grad.sign().mul_(self._radii(front, back, scales))
        first = self.foreground.steepest(grad * front, delta * front, rows, scales[0])
        return first + self.background.steepest(grad * back, delta * back, rows, scales[1])

    def bounds(self, rows: Rows) -> tuple[Images, Images] | None:
        """Of two linf balls."""
        if not self._boxes:
            return None
        radii = self._radii(*_regions(rows), (1.0, 1.0))
        return (rows.x - radii).clamp_min_(0), (rows.x + radii).clamp_max_(1)

    @property
    def _boxes(self) -> bool:
        """Whether both balls are boxes: then one radius a pixel says it all."""
        return self.foreground.norm == self.background.norm == "linf"

    def _radii(self, front: Mask, back: Mask, scales: tuple[Scale, Scale]) -> Float[Tensor, "b 1 h w"]:
        first, second = (
            torch.as_tensor(ball.eps * scale, dtype=front.dtype, device=front.device).reshape(-1, 1, 1, 1)
            for ball, scale in zip((self.foreground, self.background), scales, strict=True)
        )
        radii: Tensor = first * front + second * back
        return radii

    def sample(self, rows: Rows, rng: Rng, purpose: str, *, edge: bool = False) -> Images:
        """A random member of each ball, on its region."""
        front, back = _regions(rows)
        first = self.foreground.sample_region(rows, rng, purpose + " foreground", front, edge=edge)
        return first + self.background.sample_region(rows, rng, purpose + " background", back, edge=edge)

    def size(self, delta: Images, rows: Rows) -> PerRow:
        """The larger of the two sizes."""
        front, back = _regions(rows)
        return torch.maximum(self.foreground.size(delta * front, rows), self.background.size(delta * back, rows))

    def describe(self) -> str:
        """Both budgets."""
        return f"{self.foreground.norm} F {format_budget(self.foreground.eps)}, B {format_budget(self.background.eps)}"


def as_geometry(eps: Eps | Geometry, norm: str) -> Geometry:
    """A ball of radius ``eps``; a geometry is returned as it is.

    Raises:
        TypeError, ValueError: a wrong argument, by name.
    """
    return eps if isinstance(eps, Geometry) else as_ball("eps", eps, norm)


def as_ball(name: str, eps: Eps, norm: str) -> Ball:
    """A ball whose radius a user has typed: in units of [0, 1], so that linf needs at most 1.

    Args:
        name: the argument's name, for messages.
        eps: the radius; a number, or text such as ``"8/255"``.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.

    Raises:
        TypeError, ValueError: a wrong argument, by name.

    Example:
        >>> as_ball("eps", 8, "linf")
        Traceback (most recent call last):
        ValueError: eps: expected at most 1 for linf, as pixels are in [0, 1] (did you mean 8/255?), got 8
    """
    size = radius(name, eps)
    ball = Ball(norm, size)
    if norm == "linf" and size > 1:
        hint = f" (did you mean {size:g}/255?)" if size <= 255 else ""
        reject(name, f"at most 1 for linf, as pixels are in [0, 1]{hint}", eps)
    return ball


def _regions(rows: Rows) -> tuple[Mask, Mask]:
    if rows.mask is None:
        reject("mask", "a foreground mask of shape (b, 1, h, w), which this threat model needs", None)
    front = rows.mask.to(rows.x.dtype)
    return front, 1 - front
