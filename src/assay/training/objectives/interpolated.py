"""Training on mixtures: interpolated adversarial training, and adversarial vertex mixup."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.combinators import AnyAttack
from assay.core.model_calls import classify
from assay.training.objectives.batch import Batch, attacked, needs_of
from assay.util.validate import number


@dataclass(frozen=True)
class Interpolated:
    """The mean of mixup's loss on clean images and mixup's loss on adversarial ones.

    Args:
        attack: the inner maximiser.
        alpha: both parameters of the Beta distribution of the shares.

    Source: Lamb, Verma, Kannala & Bengio, "Interpolated adversarial training", AISec 2019, algorithm 1.
    """

    attack: AnyAttack
    alpha: float = 1.0

    def __post_init__(self) -> None:
        number("alpha", self.alpha, least=0, above=True)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the attack reads."""
        return needs_of(self.attack)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean of the two losses, mixed with the same partners and share."""
        generator = torch.Generator().manual_seed(batch.seed)
        order = torch.randperm(len(batch.x), generator=generator).to(batch.y.device)
        share = _beta(self.alpha, generator)
        moved = attacked(model, batch, self.attack)
        clean = _mixed_loss(model, batch.x, batch.y, order, share)
        return 0.5 * (clean + _mixed_loss(model, moved, batch.y, order, share))


def _mixed_loss(model: nn.Module, x: Tensor, y: Tensor, order: Tensor, share: float) -> Tensor:
    logits = classify(model, share * x + (1 - share) * x[order])
    return share * F.cross_entropy(logits, y) + (1 - share) * F.cross_entropy(logits, y[order])


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A draw of Beta(α, α) from two of the gamma distribution."""
    pair = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator)
    return float(pair[0] / pair.sum())


@dataclass(frozen=True)
class VertexMixup:
    """Points between an image and its adversarial vertex ``x + γδ``, with labels that soften along the way.

    Args:
        attack: finds δ.
        gamma: how far beyond the adversarial image the vertex is (γ).
        near: what the label keeps at the image (λ₁).
        far: what it keeps at the vertex (λ₂).

    Source: Lee, Lee & Yoon, "Adversarial vertex mixup: toward better adversarially robust generalization", CVPR 2020,
    algorithm 1; γ = 2, λ₁ = 1, λ₂ = 0.1 as for CIFAR-10.
    """

    attack: AnyAttack
    gamma: float = 2.0
    near: float = 1.0
    far: float = 0.1

    def __post_init__(self) -> None:
        number("gamma", self.gamma, least=0)
        number("near", self.near, least=0, most=1)
        number("far", self.far, least=0, most=1)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the attack reads."""
        return needs_of(self.attack)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy with soft labels at a random point of each row's line."""
        vertex = batch.x + self.gamma * (attacked(model, batch, self.attack) - batch.x)
        share = batch.uniform("vertex", (1, 1, 1))
        logits = classify(model, (share * batch.x + (1 - share) * vertex).clamp(0, 1))
        kept = share.flatten(1) * self.near + (1 - share.flatten(1)) * self.far
        own = F.one_hot(batch.y, logits.shape[1]).to(logits)
        soft = kept * own + (1 - kept) / (logits.shape[1] - 1) * (1 - own)
        return F.cross_entropy(logits, soft)
