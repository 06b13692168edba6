"""Gradients made of other gradients: smoothed, corrected by their variance, or taken ahead.

With ``VarianceTuned(ball, SmoothedGradient(AveragedGradient((DiverseInput(),))))`` a momentum attack does all three.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from assay.attacks.transfer.gradients import GradientSource, Look, PlainGradient
from assay.core.evaluation import Evaluation
from assay.core.geometry import Geometry, scaled
from assay.core.types import Images
from assay.parts.balls import Ball
from assay.util.validate import number, reject, whole


@dataclass(frozen=True)
class SmoothedGradient:
    """The gradient, convolved with a Gaussian kernel: that of an average over shifted images.

    Args:
        inner: the gradient that is smoothed.
        kernel: side in pixels, odd; None for 5 % of the image's (15 of 299 pixels as in the paper), at least 3.
        spread: standard deviations from the middle of the kernel to its edge.

    Source: Dong, Pang, Su & Zhu, "Evading defenses to transferable adversarial examples by translation-invariant
    attacks", CVPR 2019, equations 7–9.
    """

    inner: GradientSource = field(default_factory=PlainGradient)
    kernel: int | None = None
    spread: float = 3.0

    def __post_init__(self) -> None:
        if self.kernel is not None and whole("kernel", self.kernel, least=1) % 2 == 0:
            reject("kernel", "an odd number of pixels", self.kernel)
        number("spread", self.spread, least=0, above=True)

    @property
    def price(self) -> int:
        """That of the inner one."""
        return self.inner.price

    @property
    def exact(self) -> bool:
        """As the inner one."""
        return self.inner.exact

    @property
    def randomised(self) -> bool:
        """As the inner one."""
        return self.inner.randomised

    def vary(self, *, step_size: float = 1, geometry: Geometry | None = None) -> "SmoothedGradient | None":
        """With the inner one varied."""
        inner = self.inner.vary(step_size=step_size, geometry=geometry)
        return None if inner is None else replace(self, inner=inner)

    def init(self, x: Images) -> Any:
        """The inner state."""
        return self.inner.init(x)

    def evaluate(self, x: Images, look: Look, state: Any) -> tuple[Evaluation, Any]:
        """The inner gradient, smoothed."""
        seen, state = self.inner.evaluate(x, look, state)
        side = self.kernel or max(3, 2 * round((0.05 * x.shape[-1] - 1) / 2) + 1)
        line = torch.linspace(-self.spread, self.spread, side, device=x.device, dtype=x.dtype)
        weights = (-0.5 * line**2).exp() if side > 1 else torch.ones_like(line)
        kernel = weights[:, None] * weights[None]
        kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, side, side)
        grad = functional.conv2d(seen.grad, kernel, padding=side // 2, groups=x.shape[1])
        return Evaluation(seen.logits, grad, seen.values), state


@dataclass(frozen=True)
class VarianceTuned:
    """The gradient, and by how much the mean of gradients around the last image differed from that image's own.

    Args:
        geometry: the budget.
        inner: the gradient that is corrected.
        samples: neighbours a step (N).
        reach: how far neighbours lie, in budgets (β).

    Source: Wang & He, "Enhancing the transferability of adversarial attacks through variance tuning", CVPR 2021,
    equations 7 and 8, algorithm 1. For norms other than linf, which the paper does not treat, neighbours are drawn
    from the ball of that norm.
    """

    geometry: Geometry
    inner: GradientSource = field(default_factory=PlainGradient)
    samples: int = 20
    reach: float = 1.5

    def __post_init__(self) -> None:
        whole("samples", self.samples, least=1)
        number("reach", self.reach, least=0, above=True)

    @property
    def price(self) -> int:
        """The image and its neighbours."""
        return self.inner.price * (1 + self.samples)

    @property
    def exact(self) -> bool:
        """As the inner one."""
        return self.inner.exact

    @property
    def randomised(self) -> bool:
        """The neighbours are drawn."""
        return True

    def vary(self, *, step_size: float = 1, geometry: Geometry | None = None) -> "VarianceTuned | None":
        """With neighbours in another budget."""
        inner = self.inner.vary(step_size=step_size, geometry=geometry)
        return None if inner is None else replace(self, inner=inner, geometry=geometry or self.geometry)

    def init(self, x: Images) -> tuple[Any, Images]:
        """The inner state, and no variance."""
        return self.inner.init(x), torch.zeros_like(x)

    def evaluate(self, x: Images, look: Look, state: tuple[Any, Images]) -> tuple[Evaluation, tuple[Any, Images]]:
        """The gradient at the image with the last step's variance, and the variance there."""
        seen, inner = self.inner.evaluate(x, look, state[0])
        around = torch.zeros_like(x)
        for index in range(self.samples):
            near = look._replace(purpose=f"{look.purpose} neighbour {index}")
            other, inner = self.inner.evaluate((x + self._offset(x, near)).clamp(0, 1), near, inner)
            around = around + other.grad
        variance = around / self.samples - seen.grad
        return Evaluation(seen.logits, seen.grad + state[1], seen.values), (inner, variance)

    def _offset(self, x: Images, look: Look) -> Images:
        if isinstance(self.geometry, Ball) and self.geometry.norm == "linf":
            draw = look.rng.uniform(look.rows.key, tuple(x.shape[1:]), look.purpose, look.step).to(x)
            return self.reach * self.geometry.eps * (2 * draw - 1)
        wide = scaled(self.geometry, self.reach)
        if wide is None:
            return reject("geometry", "a ball, or a product of balls", self.geometry)
        rows = replace(look.rows, key=look.rows.key * 1_000_003 + look.step.to(look.rows.key))
        return wide.sample(rows, look.rng, look.purpose)


@dataclass(frozen=True)
class Lookahead:
    """The gradient where the momentum would carry the image next (Nesterov).

    Args:
        ball: the budget.
        rate: step size of the attack, in budgets.
        inner: the gradient that is taken there.
        decay: factor on the old sum (μ).

    Source: Lin et al., "Nesterov accelerated gradient and scale invariance for adversarial attacks", ICLR 2020,
    equations 6 and 7. The equations divide gradients by their l1 norm, which would look ahead by less than 1e-4 of the
    budget on any image; the official code divides by the mean of absolute values, as is done here for linf. For l2 and
    l1, which the paper does not treat, gradients are divided by their norm.
    """

    ball: Ball
    rate: float
    inner: GradientSource = field(default_factory=PlainGradient)
    decay: float = 1.0

    def __post_init__(self) -> None:
        number("rate", self.rate, least=0, above=True)
        number("decay", self.decay, least=0)

    @property
    def price(self) -> int:
        """That of the inner one."""
        return self.inner.price

    @property
    def exact(self) -> bool:
        """It looks elsewhere."""
        return False

    @property
    def randomised(self) -> bool:
        """As the inner one."""
        return self.inner.randomised

    def vary(self, *, step_size: float = 1, geometry: Geometry | None = None) -> "Lookahead | None":
        """With another step size or ball."""
        inner = self.inner.vary(step_size=step_size, geometry=geometry)
        if inner is None or not isinstance(geometry, Ball | None):
            return None
        return replace(self, inner=inner, ball=geometry or self.ball, rate=step_size * self.rate)

    def init(self, x: Images) -> tuple[Any, Images]:
        """The inner state, and no momentum."""
        return self.inner.init(x), torch.zeros_like(x)

    def evaluate(self, x: Images, look: Look, state: tuple[Any, Images]) -> tuple[Evaluation, tuple[Any, Images]]:
        """The gradient ahead, and the sum with it."""
        ahead = self.rate * self.ball.eps * self.decay
        seen, inner = self.inner.evaluate((x + ahead * state[1]).clamp(0, 1), look, state[0])
        return seen, (inner, self.decay * state[1] + seen.grad / self._size(seen.grad))

    def _size(self, grad: Images) -> Tensor:
        flat = grad.flatten(1)
        if self.ball.norm == "linf":
            size: Tensor = flat.abs().mean(1)
        else:
            size = torch.linalg.vector_norm(flat, 2 if self.ball.norm == "l2" else 1, dim=1)
        return size.clamp_min(1e-37).reshape(-1, 1, 1, 1)
