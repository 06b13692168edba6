"""What a training step minimises: clean cross-entropy, or that of adversarial images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks import PGD, DualPerturbation
from assay.core.arguments import one_of, reject
from assay.core.combinators import AnyAttack
from assay.core.run import perturb
from assay.core.types import Images, Labels, Mask


class TrainingObjective(Protocol):
    """Maps a batch to a loss; a frozen dataclass."""

    @property
    def needs_mask(self) -> bool:
        """Whether it reads foreground masks."""
        ...

    def __call__(self, model: nn.Module, x: Images, y: Labels, mask: Mask | None, seed: int) -> Tensor:
        """The mean loss of the batch, with a graph to the parameters."""
        ...


@dataclass(frozen=True)
class Clean:
    """Cross-entropy of the images as they are."""

    needs_mask: bool = False

    def __call__(self, model: nn.Module, x: Images, y: Labels, mask: Mask | None, seed: int) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(model(x), y)


@dataclass(frozen=True)
class Adversarial:
    """Cross-entropy of adversarial images: ``min_θ E max_δ L(h_θ(x+δ), y)``.

    Args:
        attack: the inner maximiser.
        needs_mask: whether it reads foreground masks.

    Source: Madry et al., ICLR 2018, equation 2.1; with dual-perturbation, Tong et al., 2020, equation 4 (AT-Dual).
    """

    attack: AnyAttack
    needs_mask: bool = False

    def __call__(self, model: nn.Module, x: Images, y: Labels, mask: Mask | None, seed: int) -> Tensor:
        """Mean cross-entropy on the images that the attack makes against the model as it is now."""
        adversarial = perturb(model, x, y, self.attack, mask=mask if self.needs_mask else None, seed=seed)
        return F.cross_entropy(model(adversarial), y)


def pgd_at(*, eps: float, norm: str = "linf", steps: int = 10) -> Adversarial:
    """PGD adversarial training.

    Args:
        eps: budget in input units.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: of the inner attack (paper 000: 10 for linf, 50 for l2).
    """
    return Adversarial(PGD(eps, norm=norm, steps=steps))


def at_dual(
    *,
    eps: float,
    eps_background: float,
    norm: str = "linf",
    steps: int = 10,
    lam: float = 0.0,
    salience: nn.Module | None = None,
) -> Adversarial:
    """Adversarial training with the dual-perturbation attack.

    Args:
        eps: foreground budget in input units.
        eps_background: background budget.
        norm: of both.
        steps: of the inner attack.
        lam: weight of the foreground score (0 in the paper's experiments).
        salience: the saliency model, where ``lam`` is above 0.

    Source: Tong et al., 2020, equation 4.
    """
    attack = DualPerturbation(eps, eps_background, norm=norm, steps=steps, lam=lam, salience=salience)
    return Adversarial(attack, needs_mask=True)


OBJECTIVES: dict[str, Callable[..., TrainingObjective]] = {"clean": Clean, "pgd-at": pgd_at, "at-dual": at_dual}


def training_objective(
    name: str, *, eps: float | None, eps_background: float | None, norm: str, steps: int
) -> TrainingObjective:
    """The objective of a name, from the arguments of the command line.

    Raises:
        ValueError: an unknown name, or a budget that is missing.
    """
    one_of("objective", name, tuple(OBJECTIVES))
    if name == "clean":
        return Clean()
    if eps is None:
        reject("eps", f"a budget, which {name} needs", None)
    if name == "pgd-at":
        return pgd_at(eps=eps, norm=norm, steps=steps)
    if eps_background is None:
        reject("eps_background", "the background budget, which at-dual needs", None)
    return at_dual(eps=eps, eps_background=eps_background, norm=norm, steps=steps)
