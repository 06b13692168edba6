"""TRADES and MART: a clean loss, and a divergence between the clean and the adversarial prediction."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.combinators import AnyAttack
from assay.core.model_calls import classify
from assay.training.objectives.batch import Batch, attacked, needs_of
from assay.util.validate import number


@dataclass(frozen=True)
class Trades:
    """``CE(f(x), y) + β·KL(f(x) ‖ f(x′))``, with x′ where the divergence is largest.

    Args:
        attack: the inner maximiser; its loss should be ``"kl"``.
        beta: weight of the divergence (the paper's 1/λ).

    Source: Zhang et al., "Theoretically principled trade-off between robustness and accuracy", ICML 2019, equation 5
    and algorithm 1. Deviation: the attack starts anywhere in the ball, not within 0.001 of the image.
    """

    attack: AnyAttack
    beta: float = 6.0

    def __post_init__(self) -> None:
        number("beta", self.beta, least=0)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the attack reads."""
        return needs_of(self.attack)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy and divergence, means over the batch."""
        moved = attacked(model, batch, self.attack)
        clean = classify(model, batch.x)
        apart = F.kl_div(
            classify(model, moved).log_softmax(1), clean.log_softmax(1), log_target=True, reduction="batchmean"
        )
        return F.cross_entropy(clean, batch.y) + self.beta * apart


@dataclass(frozen=True)
class Mart:
    """``BCE(f(x′), y) + λ·KL(f(x) ‖ f(x′))·(1 − f_y(x))``: what is misclassified clean counts more.

    ``BCE = −log p_y(x′) − log(1 − max_{k≠y} p_k(x′))``.

    Args:
        attack: the inner maximiser.
        weight: λ.

    Source: Wang et al., "Improving adversarial robustness requires revisiting misclassified examples", ICLR 2020,
    equations 10–12; λ = 5 as in its experiments.
    """

    attack: AnyAttack
    weight: float = 5.0

    def __post_init__(self) -> None:
        number("weight", self.weight, least=0)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the attack reads."""
        return needs_of(self.attack)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Boosted cross-entropy and weighted divergence, means over the batch."""
        moved = attacked(model, batch, self.attack)
        clean, logits = classify(model, batch.x).log_softmax(1), classify(model, moved).log_softmax(1)
        own = batch.y[:, None]
        rival = logits.exp().scatter(1, own, 0.0).amax(1)
        boosted = F.nll_loss(logits, batch.y) - (1 - rival).clamp_min(1e-4).log().mean()
        apart = F.kl_div(logits, clean, log_target=True, reduction="none").sum(1)
        unsure = 1 - clean.gather(1, own).squeeze(1).exp()
        weighted: Tensor = boosted + self.weight * (apart * unsure).mean()
        return weighted
