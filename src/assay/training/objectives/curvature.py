"""Curvature regularisation."""

from dataclasses import dataclass

from torch import Tensor, nn

from assay.core.tree import expand_rows
from assay.training.objectives.batch import Batch, input_gradient
from assay.util.validate import number


@dataclass(frozen=True)
class Curvature:
    """``J(x) + γ·‖(∇J(x + hz) − ∇J(x))/h‖²``, z the normalised sign of the gradient: a flat loss without an attack.

    Args:
        weight: γ.
        step: h, an l2 length in input units.

    Source: Moosavi-Dezfooli, Fawzi, Uesato & Frossard, "Robustness via curvature regularization, and vice versa",
    CVPR 2019, equation 7. Deviations: the quotient is divided by h, so that γ means the same for any h; h is fixed,
    where the paper raises it to 1.5 over five epochs (on images of 3,072 values; the default here suits smaller ones).
    """

    weight: float = 4.0
    step: float = 1.0

    def __post_init__(self) -> None:
        number("weight", self.weight, least=0)
        number("step", self.step, least=0, above=True)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond images and labels."""
        return ()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Loss and squared difference of gradients, means over the batch."""
        loss, grad = input_gradient(model, batch.x, batch.y)
        sign = grad.detach().sign()
        direction = sign / expand_rows(sign.flatten(1).norm(dim=1).clamp_min(1e-12), sign)
        _, moved = input_gradient(model, batch.x + self.step * direction, batch.y)
        bend = ((moved - grad) / self.step).flatten(1).square().sum(1)
        return (loss + self.weight * bend).mean()
