"""Adversarial logit pairing."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.combinators import AnyAttack
from assay.core.model_calls import classify
from assay.training.objectives.batch import Batch, attacked, needs_of
from assay.util.validate import number


@dataclass(frozen=True)
class Pairing:
    """Half clean, half adversarial cross-entropy, and ``λ/N·Σ ‖f(x_i) − f(x′_i)‖²/k``: logits that stay together.

    Args:
        attack: the inner maximiser.
        weight: λ.

    Source: Kannan, Kurakin & Goodfellow, "Adversarial logit pairing", 2018, section 4.1 (Balasubramanian's form, with D
    the squared distance); the mean over logits keeps λ independent of the number of classes. It was broken by stronger
    attacks (Engstrom, Ilyas & Athalye, 2018): measure it with those.
    """

    attack: AnyAttack
    weight: float = 0.5

    def __post_init__(self) -> None:
        number("weight", self.weight, least=0)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the attack reads."""
        return needs_of(self.attack)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Both losses and the pairing."""
        moved = classify(model, attacked(model, batch, self.attack))
        clean = classify(model, batch.x)
        losses = 0.5 * (F.cross_entropy(clean, batch.y) + F.cross_entropy(moved, batch.y))
        return losses + self.weight * F.mse_loss(clean, moved)
