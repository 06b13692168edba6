"""Local linearity regularisation."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.model_calls import classify, gradients
from assay.core.model_state import preserve_state
from assay.core.rows import Rows, untargeted
from assay.core.types import Images
from assay.parts.balls import Ball
from assay.training.objectives.batch import Batch, input_gradient
from assay.util.validate import number, whole


@dataclass(frozen=True)
class LocalLinearity:
    """``ℓ(x) + λ·|ℓ(x+δ) − ℓ(x) − δᵀ∇ℓ(x)| + μ·|δᵀ∇ℓ(x)|``, δ where the loss is furthest from its tangent.

    Args:
        eps: budget of δ in input units.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: of the search for δ.
        weight: λ.
        slope: μ.

    Source: Qin et al., "Adversarial robustness through local linearization", NeurIPS 2019, equations 8–10 and
    algorithm 1; λ = 4, μ = 3 as for CIFAR-10.
    """

    eps: float
    norm: str = "linf"
    steps: int = 2
    weight: float = 4.0
    slope: float = 3.0

    def __post_init__(self) -> None:
        whole("steps", self.steps, least=1)
        number("weight", self.weight, least=0)
        number("slope", self.slope, least=0)
        Ball(self.norm, self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond images and labels."""
        return ()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The three terms, means over the batch."""
        delta = self._furthest(model, batch)
        loss, grad = input_gradient(model, batch.x, batch.y)
        along = (delta * grad).flatten(1).sum(1)
        moved = F.cross_entropy(classify(model, batch.x + delta), batch.y, reduction="none")
        return (loss + self.weight * (moved - loss - along).abs() + self.slope * along.abs()).mean()

    def _furthest(self, model: nn.Module, batch: Batch) -> Images:
        """δ by projected ascent on the distance between loss and tangent."""
        ball, rows = Ball(self.norm, self.eps), Rows(batch.x, untargeted(batch.y), batch.index)
        delta = ball.project(self.eps * (2 * batch.uniform("linearity", tuple(batch.x.shape[1:])) - 1), rows)
        with preserve_state(model):
            loss, grad = input_gradient(model, batch.x, batch.y, graph=False)
            loss = loss.detach()
            for _ in range(self.steps):

                def gap(leaf: Images, loss: Tensor = loss) -> tuple[list[Tensor], None]:
                    moved = F.cross_entropy(classify(model, batch.x + leaf), batch.y, reduction="none")
                    return [(moved - loss - (leaf * grad).flatten(1).sum(1)).abs().sum()], None

                (slope,), _ = gradients(gap, delta)
                here = delta.detach()
                delta = ball.project(here + ball.steepest(slope, here, rows, 1 / self.steps), rows)
        return delta.detach()
