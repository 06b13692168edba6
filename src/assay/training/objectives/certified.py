"""Training for certificates: losses of the worst logits that bounds allow."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.pgd import PGD
from assay.certify.backward import form_below
from assay.certify.interval import intervals
from assay.certify.linear_bounds import margins
from assay.certify.network import Network
from assay.certify.region import BallPart, Region, region_of
from assay.certify.tracing import live_network
from assay.core.model_calls import classify
from assay.core.types import Images
from assay.parts.balls import Ball
from assay.training.meters import Recorder
from assay.training.objectives.batch import Batch, attacked
from assay.util.validate import number, one_of

_CERTIFIERS = "ibp, crown-ibp"


@dataclass(frozen=True)
class Schedule:
    """How a certified training begins: budget from 0, clean loss first.

    Attributes:
        warmup: share of the training at a budget of 0.
        ramp: share of the training after that in which the budget grows along a line.
    """

    warmup: float = 0.02
    ramp: float = 0.5

    def at(self, done: float) -> float:
        """The share of the budget, from 0 to 1, when a share of the training is over."""
        return min(max((done - self.warmup) / self.ramp, 0.0), 1.0) if self.ramp else float(done >= self.warmup)


@dataclass(frozen=True)
class BoundTraining:
    """``κ CE(z) + (1 − κ) CE(ẑ)``, ẑ the worst logits that certified margins within a growing budget allow.

    The margins are those of interval bounds; with ``linear``, ``β CROWN-IBP + (1 − β) IBP``. κ and β fall from 1 as the
    budget grows, β to 0.

    Args:
        eps: the budget in input units, reached after ``warmup`` and ``ramp``.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        clean: κ at the end.
        linear: begin with linear bounds (CROWN-IBP).
        warmup: share of the training at a budget of 0.
        ramp: share of the training in which the budget grows.

    Source: Gowal et al., "On the effectiveness of interval bound propagation for training verifiably robust models",
    2018, equations 12–13 and section 4 (κ from 1 to 1/2); Zhang et al., "Towards stable and efficient training of
    verifiably robust neural networks", ICLR 2020, equation 10 and section 4 (κ and β from 1 to 0). Deviation: shares of
    the training for steps and epochs. Batch normalisation is bounded with its running statistics.
    """

    eps: float
    norm: str = "linf"
    clean: float = 0.5
    linear: bool = False
    warmup: float = 0.02
    ramp: float = 0.5

    def __post_init__(self) -> None:
        _check(self.eps, self.norm, self.warmup, self.ramp)
        number("clean", self.clean, least=0, most=1)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond images and labels."""
        return ()

    @property
    def certifiers(self) -> str:
        """What certifies images held out."""
        return _CERTIFIERS

    def share(self, done: float) -> float:
        """The share of the budget when a share of the training is over."""
        return Schedule(self.warmup, self.ramp).at(done)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Both losses, means over the batch."""
        logits = classify(model, batch.x)
        share = self.share(batch.done)
        region, network = region_of(Ball(self.norm, self.eps * share), batch.x), _network(model, batch.x)
        bound = _interval_margins(network, region, batch.y)
        if self.linear and share < 1:
            known = intervals(network, region, unit=0.0)
            form = form_below(network, len(network.nodes) - 1, margins(network, batch.y), known)
            bound = (1 - share) * form.least(region) + share * bound
        kappa = 1 - share * (1 - self.clean)
        return kappa * F.cross_entropy(logits, batch.y) + (1 - kappa) * _worst_loss(bound)


@dataclass(frozen=True)
class SmallBoxes:
    """``CE(ẑ)``, ẑ the worst logits that intervals of a box of radius λ·eps around an adversarial image allow.

    Args:
        eps: the budget, reached after ``warmup`` and ``ramp``; linf.
        part: λ; 1 is interval training.
        steps: of PGD, which looks for the box's centre in what λ leaves of the ball.
        warmup: share of the training at a budget of 0, with the clean loss.
        ramp: share of the training in which the budget grows.

    Source: Müller, Eckert, Fischer & Vechev, "Certified training: small boxes are all you need", ICLR 2023, section 4
    (equation 4; λ = 0.4 for MNIST at 0.1, 0.6 at 0.3, 0.1 for CIFAR-10 at 2/255). Deviations: the centre by PGD on the
    cross-entropy in the smaller ball, from a random start; no shrinking of boxes through layers.
    """

    eps: float
    part: float = 0.4
    steps: int = 8
    warmup: float = 0.02
    ramp: float = 0.5

    def __post_init__(self) -> None:
        _check(self.eps, "linf", self.warmup, self.ramp)
        number("part", self.part, least=0, most=1, above=True)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond images and labels."""
        return ()

    @property
    def certifiers(self) -> str:
        """What certifies images held out."""
        return _CERTIFIERS

    def share(self, done: float) -> float:
        """The share of the budget when a share of the training is over."""
        return Schedule(self.warmup, self.ramp).at(done)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The worst logits' loss, the mean over the batch."""
        logits, share = classify(model, batch.x), self.share(batch.done)
        if not share:
            return F.cross_entropy(logits, batch.y)
        eps, x = self.eps * share, batch.x
        centre = x
        if self.part < 1:
            centre = attacked(model, batch, PGD((1 - self.part) * eps, steps=self.steps)).to(x)
        radius = self.part * eps
        lower = torch.maximum(centre - radius, x - eps).clamp_min(0)
        upper = torch.minimum(centre + radius, x + eps).clamp_max(1)
        box = Region(centre, (BallPart("linf", torch.full((len(x),), radius).to(x)),), lower, upper)
        return _worst_loss(_interval_margins(_network(model, x), box, batch.y))


def _check(eps: float, norm: str, warmup: float, ramp: float) -> None:
    number("eps", eps, least=0, above=True)
    one_of("norm", norm, ("linf", "l2", "l1"))
    number("warmup", warmup, least=0, most=1)
    number("ramp", ramp, least=0, most=1)


def _network(model: nn.Module, x: Images) -> Network:
    bare = model.model if isinstance(model, Recorder) else model
    bare = getattr(bare, "module", bare)  # what DistributedDataParallel holds
    return live_network(bare, tuple(x.shape[1:]))


def _interval_margins(network: Network, region: Region, y: Tensor) -> Tensor:
    """The lower bounds of all margins, ``(b, k − 1)``; the last linear layers taken together with them."""
    known = intervals(network, region, unit=0.0)
    return form_below(network, len(network.nodes) - 1, margins(network, y), known, stop=True).constant


def _worst_loss(bound: Tensor) -> Tensor:
    """Cross-entropy of logits whose margins are the bounds."""
    return F.softplus(torch.logsumexp(-bound, 1)).mean()
