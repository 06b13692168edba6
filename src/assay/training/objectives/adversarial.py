"""Adversarial training: cross-entropy of the worst image that an attack finds."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.pgd import PGD
from assay.core.combinators import AnyAttack
from assay.core.model_calls import classify
from assay.training.objectives.batch import Batch, attacked, needs_of
from assay.util.validate import number


@dataclass(frozen=True)
class Adversarial:
    """Cross-entropy of adversarial images: ``min_θ E max_δ L(h_θ(x+δ), y)``.

    FGSM-AT, PGD-AT and AT-Dual are this with their attacks.

    Args:
        attack: the inner maximiser.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, equation 2.1;
    with dual-perturbation, Tong et al., 2020, equation 4 (AT-Dual).
    """

    attack: AnyAttack

    @property
    def needs(self) -> tuple[str, ...]:
        """What the attack reads."""
        return needs_of(self.attack)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy on the images that the attack makes against the model as it is now."""
        return F.cross_entropy(classify(model, attacked(model, batch, self.attack)), batch.y)


def Fast(eps: float, norm: str = "linf", stretch: float = 1.25) -> Adversarial:
    """One step from a random start ("fast" adversarial training).

    Known to fail suddenly: the robust accuracy under more than one step falls to 0 within an epoch while that under
    one step rises (catastrophic overfitting). Give the recipe a ``validate`` share: robust accuracy is then measured
    after each epoch, its fall is reported, and early stopping keeps the weights from before.

    Args:
        eps: budget in input units.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        stretch: length of the step, in budgets.

    Source: Wong, Rice & Kolter, "Fast is better than free: revisiting adversarial training", ICLR 2020, algorithm 3.
    """
    number("stretch", stretch, least=0, above=True)
    return Adversarial(PGD(eps, norm=norm, steps=1, step_size=stretch * eps))
