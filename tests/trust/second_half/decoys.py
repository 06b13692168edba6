"""What an attack is led to: bait in the scores, stand-ins for the network, slopes of the wrong network."""

import torch
from torch import Tensor, nn

from assay.defences import Adaptation
from trust.failures.base import Case, Failure, images, network
from trust.second_half.common import GRADIENTS, hot

KIND = "decoys and substitutes"
DECLARED = (*GRADIENTS, "pgd:steps=40,restarts=2")


class Ripples(nn.Module):
    """The winner's lead goes up and down with ripples over the image that have nothing to do with its class."""

    def __init__(self, model: nn.Module, pixels: int, pitch: float = 40.0, height: float = 60.0) -> None:
        super().__init__()
        self.model, self.pitch, self.height = model, pitch, height
        self.register_buffer("waves", torch.randn(pixels, 24, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> Tensor:
        z = self.model(x)
        bait = torch.cos(self.pitch * (x.flatten(1) @ self.waves)).mean(1, keepdim=True) + 1
        return z + self.height * bait * hot(z.detach())


def ripples() -> Case:
    """Steep ripples in the lead of whichever class is winning."""
    return Case(Ripples(network("digits plain"), 64), "digits plain", seen=network("digits plain"))


class Stage(nn.Module):
    """Two networks: one decides, the other one gives the scores, in an order that fits the decision."""

    def __init__(self, decides: nn.Module, scores: nn.Module) -> None:
        super().__init__()
        self.decides, self.scores = decides, scores

    def forward(self, x: Tensor) -> Tensor:
        choice, z = self.decides(x).argmax(1, keepdim=True), self.scores(1 - x)
        return z + torch.zeros_like(z).scatter(1, choice, (z.amax(1, keepdim=True) - z.amin(1, keepdim=True)) + 1)


def stage() -> Case:
    """A network for negatives gives all scores; the one that decides only says which is raised above the others."""
    return Case(Stage(network(), network("digits l2")), seen=network())


class Declared(nn.Module):
    """A network that says that it has to be attacked through another one."""

    def __init__(self, model: nn.Module, other: nn.Module, how: str) -> None:
        super().__init__()
        self.model, self.others, self.how = model, (other,), how

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def adaptation(self) -> Adaptation:
        """Through the other one."""
        return Adaptation(self.how, surrogate=self.others[0], methods=("BPDA",))


class Imitation(nn.Module):
    """A dense network that imitates the labels of another one on training images."""

    def __init__(self, setting: str) -> None:
        super().__init__()
        x, _ = images(setting, 600, "train")
        with torch.no_grad():
            y = network(setting)(x).argmax(1)
        draw = torch.Generator().manual_seed(3)
        self.first = nn.Parameter(0.1 * torch.randn(x[0].numel(), 64, generator=draw))
        self.second = nn.Parameter(0.1 * torch.randn(64, int(y.max()) + 1, generator=draw))
        rule = torch.optim.Adam(self.parameters(), lr=1e-2)
        for _ in range(80):
            rule.zero_grad()
            nn.functional.cross_entropy(self(x), y).backward()
            rule.step()

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.first).relu() @ self.second


def imitation() -> Case:
    """Images are made for a small imitation and handed on, and that is called an adaptive attack."""
    how = "BPDA: the backward pass of a smooth stand-in that agrees with the network"
    return Case(Declared(network(), Imitation("digits").eval(), how), "digits", DECLARED, network())


class Committee(nn.Module):
    """The middle of three scores, class by class; two members are rounded, so that slopes follow the third alone."""

    def __init__(self, model: nn.Module, third: nn.Module) -> None:
        super().__init__()
        self.model, self.third = model, third

    def forward(self, x: Tensor) -> Tensor:
        z, other = self.model(x), self.third(x)
        first = (4 * z.clamp(-15, 15)).round() / 4
        second = first + 0.01 * hot(z)
        return torch.stack([first, second]).mean(0) + 1e-3 * (other - other.detach())


def committee() -> Case:
    """Of three members two are rounded, and the third, untrained in that, gives all the slopes."""
    torch.manual_seed(4)
    third = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 8)
    ).eval()
    return Case(Committee(network("scenes plain"), third), "scenes plain", GRADIENTS, network("scenes plain"))


class Routed(nn.Module):
    """Grainy images go to an old network behind a rounding of its scores; smooth ones to the network of the paper."""

    def __init__(self, smooth: nn.Module, grainy: nn.Module, most: float) -> None:
        super().__init__()
        self.smooth, self.grainy = smooth, grainy
        self.register_buffer("most", torch.tensor(most))

    def grain(self, x: Tensor) -> Tensor:
        """How much neighbours differ."""
        return (x - nn.functional.avg_pool2d(x, 3, 1, 1)).abs().mean((1, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        rough = (self.grain(x) > self.most)[:, None]
        z = self.grainy(x)
        return torch.where(rough, 3 * hot(z) + 0 * z, self.smooth(x))


def routed() -> Case:
    """Attacked images are grainier, and leave for a network that shows only labels."""
    x, _ = images("digits", 600, "train")
    model = Routed(network(), network(), 0.0)
    model.most.fill_(float(model.grain(x).quantile(0.5)))
    return Case(model, seen=network())


FAILURES = (
    Failure("ripples in the winner's lead", KIND, ripples),
    Failure("one network decides, another scores negatives", KIND, stage),
    Failure("attacked through an imitation", KIND, imitation),
    Failure("the third member gives the slopes", KIND, committee),
    Failure("grainy images leave for a silent network", KIND, routed),
)
