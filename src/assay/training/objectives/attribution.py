"""Robust attribution regularisation."""

from dataclasses import dataclass

from torch import Tensor, nn

from assay.core.combinators import AnyAttack
from assay.core.model_calls import classify
from assay.training.objectives.batch import Batch, attacked, input_gradient, needs_of
from assay.util.validate import number, whole


@dataclass(frozen=True)
class RobustAttribution:
    """``ℓ(x) + λ·‖IG(x, x′)‖₁``: the attribution of the change of the loss, held small under attack.

    IG is the integrated gradient of the loss from x to x′; its sum is ``ℓ(x′) − ℓ(x)``.

    Args:
        attack: finds x′.
        weight: λ.
        segments: points of the integral, by the midpoint rule.

    Source: Chen, Wu, Rastogi, Liang & Jha, "Robust attribution regularization", NeurIPS 2019, equation 5 (IG-NORM, s
    the 1-norm) and section 4. Deviation: x′ maximises the loss rather than the norm of the attribution, of which it is
    a lower bound, and which would need second derivatives at each step of the attack.
    """

    attack: AnyAttack
    weight: float = 1.0
    segments: int = 5

    def __post_init__(self) -> None:
        number("weight", self.weight, least=0)
        whole("segments", self.segments, least=1)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the attack reads."""
        return needs_of(self.attack)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Loss and norm of the attribution, means over the batch."""
        delta = attacked(model, batch, self.attack) - batch.x
        count = len(batch.x)
        points = [batch.x + (k + 0.5) / self.segments * delta for k in range(self.segments)]
        total = sum(
            (input_gradient(model, point, batch.y)[1] for point in points[1:]),
            start=input_gradient(model, points[0], batch.y)[1],
        )
        attribution = delta * total / self.segments
        clean = nn.functional.cross_entropy(classify(model, batch.x), batch.y)
        return clean + self.weight * attribution.abs().sum() / max(count, 1)
