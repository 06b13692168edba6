"""Where an attack takes its gradient from: the image, or the mean over changed copies of it.

No model is asked about values outside [0, 1]: where the papers leave the box (neighbours, the point ahead, mixed
images), the point is clipped.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from assay.attacks.transfer.input_transforms import InputTransform
from assay.core.evaluation import Evaluation
from assay.core.geometry import Geometry
from assay.core.model_calls import gradients
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.types import Count, Images
from assay.util.validate import reject


class Look(NamedTuple):
    """Where a gradient is asked for.

    Attributes:
        oracle: the model.
        objective: what is maximised.
        rows: the rows.
        rng: of all draws.
        step: of each row, ``(b,)``.
        purpose: part of the draws' address.
    """

    oracle: Oracle
    objective: Objective
    rows: Rows
    rng: Rng
    step: Count
    purpose: str = "transfer"


@runtime_checkable
class GradientSource(Protocol):
    """Where an attack takes its gradient from: a frozen dataclass; tensors of its state have the rows first."""

    @property
    def price(self) -> int:
        """Forward passes of one look, each with a backward pass."""
        ...

    @property
    def exact(self) -> bool:
        """Whether logits and value belong to the image itself, and not to a changed one."""
        ...

    @property
    def randomised(self) -> bool:
        """Whether it draws random numbers."""
        ...

    def vary(self, *, step_size: float = 1, geometry: Geometry | None = None) -> "GradientSource | None":
        """The source for another step size or budget of its attack; None if it has no such thing."""
        ...

    def init(self, x: Images) -> Any:
        """The state before the first look."""
        ...

    def evaluate(self, x: Images, look: Look, state: Any) -> tuple[Evaluation, Any]:
        """The gradient at images ``(b, c, h, w)``, and the state after it."""
        ...


@dataclass(frozen=True)
class PlainGradient:
    """The gradient of the objective at the image."""

    @property
    def price(self) -> int:
        """One pass."""
        return 1

    @property
    def exact(self) -> bool:
        """It is the image's own."""
        return True

    @property
    def randomised(self) -> bool:
        """Nothing is drawn."""
        return False

    def vary(self, *, step_size: float = 1, geometry: Geometry | None = None) -> "PlainGradient":
        """The same."""
        return self

    def init(self, x: Images) -> tuple[()]:
        """No state."""
        return ()

    def evaluate(self, x: Images, look: Look, state: tuple[()]) -> tuple[Evaluation, tuple[()]]:
        """One pass forward and one backward."""
        return look.oracle.evaluate(look.objective, x, look.rows), ()


@dataclass(frozen=True)
class AveragedGradient:
    """The mean of the gradients through every copy that the transforms make, one transform after another.

    Args:
        transforms: in the order in which they change the image; the copies multiply.

    Source: Xie et al., CVPR 2019, equation 4 (one random copy); Lin et al., ICLR 2020, equation 8 (the mean over
    scaled copies); Wang et al., ICCV 2021, equation 8 (mixed-in images, then scaled copies).
    """

    transforms: tuple[InputTransform, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.transforms, tuple) or not all(isinstance(t, InputTransform) for t in self.transforms):
            expected = "a tuple of input transforms, such as (DiverseInput(),)"
            reject("transforms", expected, self.transforms, error=TypeError)

    @property
    def price(self) -> int:
        """One pass a copy."""
        return prod(transform.copies for transform in self.transforms)

    @property
    def exact(self) -> bool:
        """Whether the first copy is the image."""
        return all(transform.keeps_first for transform in self.transforms)

    @property
    def randomised(self) -> bool:
        """Whether a transform draws."""
        return any(transform.randomised for transform in self.transforms)

    def vary(self, *, step_size: float = 1, geometry: Geometry | None = None) -> "AveragedGradient":
        """The same."""
        return self

    def init(self, x: Images) -> tuple[()]:
        """No state."""
        return ()

    def evaluate(self, x: Images, look: Look, state: tuple[()]) -> tuple[Evaluation, tuple[()]]:
        """A pass forward and backward a copy."""
        total, first = torch.zeros_like(x), None
        for index in range(self.price):
            seen, grad = self._through(x, look, index)
            total = total + grad
            first = first or seen
        if first is None:
            return PlainGradient().evaluate(x, look, ())
        return Evaluation(first.logits, total / self.price, first.values), ()

    def _through(self, x: Images, look: Look, index: int) -> tuple[Evaluation, Images]:
        """Value and gradient through copy number ``index``."""

        def forward(leaf: Images) -> tuple[list[tuple[Tensor, Tensor]], Evaluation]:
            changed = self._changed(leaf, look, index)
            seen = look.oracle.evaluate(look.objective, changed.detach(), look.rows)
            return [(changed, seen.grad)], seen

        (grad,), seen = gradients(forward, x)
        return seen, grad

    def _changed(self, x: Images, look: Look, index: int) -> Images:
        for place, transform in enumerate(self.transforms):
            index, copy = divmod(index, transform.copies)
            purpose = f"{look.purpose} {place} {index}"
            x = transform.apply(x, look.rows, look.rng, look.step, purpose, copy)
        return x + (x.clamp(0, 1) - x).detach()  # within the box; the gradient passes as if it were not cut off
