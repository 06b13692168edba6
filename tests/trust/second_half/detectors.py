"""Classifiers that refuse, and evaluations that count refusals as they like."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from assay.defences import Adaptation
from assay.defences.detectors import Guarded, accepted
from assay.parts.losses import Evasion
from trust.failures.base import STRONG, Around, Case, Failure, images, network
from trust.second_half.common import Padded, hot, share

KIND = "detectors"


class Declares(nn.Module):
    """A model with a declaration."""

    def __init__(self, model: nn.Module, how: Adaptation) -> None:
        super().__init__()
        self.model, self.how = model, how

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def adaptation(self) -> Adaptation:
        """As declared."""
        return self.how


def sure(logits: Tensor, x: Tensor) -> Tensor:
    """Whether the answer is nearly certain."""
    return logits.softmax(1).amax(1) > 0.9995


def strict() -> Case:
    """Only answers that are nearly certain count as successes; of clean images nobody asks that."""
    model = network()
    how = Adaptation("uncertain answers are rejected, so they are no success of the attack", test=sure)

    def truth() -> float:
        (x, y), robust = images(), share(model, test=sure)
        with torch.no_grad():
            refused = (~sure(model(x), x) & (model(x).argmax(1) == y)).float().mean()
        return max(robust - float(refused), 0.0)

    return Case(Declares(model, how), truth=truth)


class Pair(nn.Module):
    """Refuses where a second network gives another label, and then shows no scores."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        z, other = self.first(x), self.second(x)
        apart = (z.argmax(1) != other.argmax(1))[:, None]
        refusal = torch.cat([torch.zeros_like(z), torch.full_like(z[:, :1], 40.0)], 1)
        return torch.where(apart, refusal, torch.cat([z, z.detach().amax(1, keepdim=True) - 40], 1))


def pair() -> Case:
    """A network and its compressed copy must agree; the attack runs into the refusal and stays there."""
    first, second = network("digits plain"), deepcopy(network("digits plain"))
    draw = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for weight in second.parameters():
            weight.mul_(1 + 0.35 * torch.randn(weight.shape, generator=draw))
    how = Adaptation("white-box on the classifier; refused images are not errors", test=accepted)
    return Case(Declares(Pair(first, second), how), "digits plain", seen=Padded(lambda x: first(x) + second(x)))


class Grid(nn.Module):
    """How far the values are from sixteenths, in which the camera counts; all or nothing."""

    def forward(self, x: Tensor) -> Tensor:
        off = (16 * x - (16 * x).round()).abs().flatten(1).amax(1)
        return 100 * torch.sign(off - 1e-3)


def grid() -> Case:
    """Refuses values that no camera of this make writes; an attacker can write a sixteenth more or less."""
    model = network("digits plain")
    how = Adaptation("joint attack on classifier and detector", test=accepted, objective=Evasion(), methods=("joint",))

    def truth() -> float:
        specs = tuple(f"{spec},eps=1/16" for spec in STRONG)
        return share(Around(model, lambda x: (16 * x).round() / 16), "digits plain", specs, seen=model)

    return Case(Declares(Guarded(model, Grid()), how), "digits plain", truth=truth)


class Votes(nn.Module):
    """Refuses unless noisy copies, always the same noise, all get the same label; answers with labels alone."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...], sigma: float) -> None:
        super().__init__()
        self.model = model
        draw = torch.Generator().manual_seed(6)
        self.register_buffer("noise", sigma * torch.randn(4, *shape, generator=draw))

    def forward(self, x: Tensor) -> Tensor:
        z = self.model(x)
        copies = torch.stack([self.model(x + noise).argmax(1) for noise in self.noise])
        torn = (copies != z.argmax(1)).any(0).to(z.dtype)
        return torch.cat([2 * hot(z), 1 + 2 * torn[:, None]], 1) + 0 * z.sum(1, keepdim=True)


def votes() -> Case:
    """The noisy copies have no say in the gradient."""
    model = network("digits l2")
    guarded = Votes(model, (1, 8, 8), 0.02)
    smooth = Padded(lambda x: torch.stack([model(x + noise) for noise in guarded.noise]).mean(0))
    how = Adaptation("refused images are harmless", test=accepted)
    return Case(Declares(guarded, how), "digits l2", seen=smooth)


class Silent(nn.Module):
    """Refuses, without scores, what has ink at the left and right edge of the picture."""

    def __init__(self, model: nn.Module, bound: float) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("bound", torch.tensor(bound))

    def ink(self, x: Tensor) -> Tensor:
        """Ink beyond the bound."""
        return x[..., [0, -1]].mean((1, 2, 3)) - self.bound

    def forward(self, x: Tensor) -> Tensor:
        z = self.model(x)
        refusal = torch.cat([torch.zeros_like(z), torch.full_like(z[:, :1], 30.0)], 1)
        return torch.where((self.ink(x) > 0)[:, None], refusal, Padded(lambda _: z)(x))


def silent() -> Case:
    """Where the detector rings all slopes are zero, and the search is at its end."""
    model, (x, _) = network(), images("digits", 600, "train")
    bound = float(x[..., [0, -1]].mean((1, 2, 3)).quantile(0.98))
    guarded = Silent(model, bound)
    how = Adaptation("refused images are no errors", test=accepted)
    smooth = Guarded(model, lambda image: 40 * guarded.ink(image))
    return Case(Declares(guarded, how), truth=lambda: share(guarded, seen=smooth, test=accepted, goal=Evasion()))


FAILURES = (
    Failure("a confidence that only the attacker must reach", KIND, strict),
    Failure("two networks must agree, one is attacked", KIND, pair),
    Failure("refuses what is off the camera's grid", KIND, grid),
    Failure("noisy copies vote on a refusal", KIND, votes),
    Failure("all slopes vanish where the detector rings", KIND, silent),
)
