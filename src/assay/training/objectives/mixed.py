"""A mixture of clean and adversarial loss."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.combinators import AnyAttack
from assay.core.model_calls import classify
from assay.core.model_state import preserve_state
from assay.training.objectives.batch import Batch, attacked, needs_of
from assay.util.validate import number, one_of


@dataclass(frozen=True)
class Mixed:
    """``σ·J(θ, x, y) + (1 − σ)·J(θ, x + ξ(x), y)``.

    By name it takes BIM with the recipe's number of steps; ``share`` and ``labels`` go with the name, and another
    attack with the recipe: ``Recipe(objective="mixed:share=0.3", attack="pgd", attack_steps=5, eps=8/255)``.

    Args:
        attack: computes ξ.
        share: weight of the clean loss (σ), in [0, 1].
        labels: ``"true"`` or ``"predicted"``: which labels the attack moves away from. With true labels and one-step
            attacks the label leaks into the image, and the model learns to read it; predicted labels cannot leak.

    Source: Goodfellow et al., ICLR 2015; Kurakin, Goodfellow & Bengio, "Adversarial machine learning at scale", ICLR
    2017, section 4.1 for label leaking; the form of Metzen, 2018, section 2, where σ = 0 and the attack is BIM with
    steps of 1/255 (``mixed:share=0`` with ``attack="bim:step_size=1/255"``). Deviation: that paper writes the predicted
    class into the loss as well; here the loss keeps the true label, as in its source.
    """

    attack: AnyAttack
    share: float = 0.5
    labels: str = "predicted"

    def __post_init__(self) -> None:
        number("share", self.share, least=0, most=1)
        one_of("labels", self.labels, ("true", "predicted"))

    @property
    def needs(self) -> tuple[str, ...]:
        """What the attack reads."""
        return needs_of(self.attack)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The weighted mean."""
        y = batch.y
        if self.labels == "predicted":
            with preserve_state(model), torch.no_grad():
                y = classify(model, batch.x).argmax(1)
        moved = F.cross_entropy(classify(model, attacked(model, batch, self.attack, y=y)), batch.y)
        if self.share == 0:
            return moved
        return self.share * F.cross_entropy(classify(model, batch.x), batch.y) + (1 - self.share) * moved
