"""Honest models: architectures, trainings, data, norms and number formats; none of them may raise an alarm."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn
from torch.nn import functional as F

import assay
from assay.data import load
from assay.defences import defend
from assay.models import build

SCENES, DIGITS = "scenes:size=16,count=1200", "digits"


@dataclass(frozen=True)
class Honest:
    """A model that is what it says.

    Attributes:
        name: a few words.
        make: the trained model, in evaluation mode.
        data: a spec.
        eps: budget.
        norm: its norm.
        classes: labels below this number are kept; None for all.
        count: images; fewer for large networks.
    """

    name: str
    make: Callable[[], nn.Module]
    data: str = SCENES
    eps: float = 4 / 255
    norm: str = "linf"
    classes: int | None = None
    count: int = 64

    def pair(self):
        """Images and labels."""
        return pair(self.data, "test", self.count, self.classes)


@lru_cache
def pair(data, split="test", limit=64, classes=None):
    """Images and labels; of the lowest classes alone, if so many are given."""
    loaded = load(data, split=split)
    x, y = loaded.images(), loaded.y
    keep = (y < (classes or 10**6)).nonzero().squeeze(1)[:limit]
    return x[keep], y[keep]


def fitted(network, data, *, steps=250, eps=0.0, norm="linf", classes=None, loss=None, rate=2e-3, limit=None):
    """A network after some steps of Adam, adversarially where there is a budget."""
    x, y = pair(data, "train", limit, classes)
    torch.manual_seed(0)
    for part in network.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    rule = torch.optim.Adam(network.parameters(), lr=rate)
    draw = torch.Generator().manual_seed(0)
    for step in range(steps):
        at = torch.randint(0, len(x), (64,), generator=draw)
        images, labels = x[at], y[at]
        if eps:
            images = assay.perturb(network, images, labels, assay.PGD(eps, norm=norm, steps=4), seed=step)
        network.train()
        rule.zero_grad()
        (loss or F.cross_entropy)(network(images), labels).backward()
        rule.step()
    return network.eval()


def built(arch, data=SCENES, **more):
    channels, classes, size = (1, 10, 8) if data == DIGITS else (3, 8, 16)
    network = build(arch, channels=channels, classes=more.get("classes") or classes, size=size)
    return fitted(network, data, **more)


class Transformer(nn.Module):
    """A small vision transformer: patches, a class token, two layers, a head."""

    def __init__(self, channels=3, classes=8, size=16, patch=4, width=48):
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2 + 1, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        tokens = self.patches(x - 0.5).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.places
        return self.head(self.layers(tokens)[:, 0])


class Block(nn.Module):
    """Two convolutions, each after batch normalisation, beside a short cut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first, self.second = (
            nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)),
            nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU(), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)),
        )
        self.short = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        return self.short(x) + self.second(self.first(x))


class Residual(nn.Module):
    """A residual network of three blocks."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.head = nn.Sequential(nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.last = nn.Linear(64, 8)

    def forward(self, x):
        return self.last(self.head(self.body(x - 0.5)))


def convolutions():
    return nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU())


class Cosines(nn.Module):
    """Logits are cosines between features and the vectors of classes."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(convolutions(), nn.Flatten()), nn.Linear(64 * 16, 8, bias=False)

    def forward(self, x):
        return 10 * F.linear(F.normalize(self.body(x), dim=1), F.normalize(self.head.weight, dim=1))


class Places(nn.Module):
    """A linear layer at each place of the image; the logits are its mean."""

    def __init__(self):
        super().__init__()
        self.body, self.head = convolutions(), nn.Linear(64, 8)

    def forward(self, x):
        return self.head(self.body(x).flatten(2).transpose(1, 2)).mean(1)


def mlp(inputs, classes, act=nn.ReLU, width=128):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, width), act(), nn.Linear(width, width), act(), nn.Linear(width, classes)
    )


def linear(inputs, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))


def dropping():
    """Dropout layers, silent in evaluation mode."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, 2, 1),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(24 * 64, 64),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(64, 8),
    )


def grouped():
    """Group normalisation and GELU."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1),
        nn.GroupNorm(4, 32),
        nn.GELU(),
        nn.Conv2d(32, 64, 3, 2, 1),
        nn.GroupNorm(4, 64),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 8),
    )


class Wide(nn.Module):
    """A head of a thousand classes, of which the data have eight."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Linear(64 * 16, 1000)

    def forward(self, x):
        return self.head(self.body(x))


def smooth(z, y):
    return F.cross_entropy(z, y, label_smoothing=0.1)


def squared(z, y):
    return F.mse_loss(z, F.one_hot(y, z.shape[1]).float())


def converted(model, kind):
    return copy.deepcopy(model).to(kind)


@lru_cache
def base():
    return built("tiny-cnn")


@lru_cache
def robust():
    return built("tiny-cnn", eps=8 / 255, steps=350)


HONEST = (
    Honest("tiny-cnn", base),
    Honest("tiny-cnn, PGD-AT", robust, eps=8 / 255),
    Honest("tiny-cnn, PGD-AT, l2", lambda: built("tiny-cnn", eps=0.5, norm="l2"), eps=0.5, norm="l2"),
    Honest("tiny-cnn, PGD-AT, l1", lambda: built("tiny-cnn", eps=8 / 255), eps=3.0, norm="l1"),
    Honest("tiny-cnn in l2", base, eps=0.2, norm="l2"),
    Honest("strattack-cnn", lambda: built("strattack-cnn", steps=400, rate=1e-3)),
    Honest("strattack-cnn, PGD-AT", lambda: built("strattack-cnn", steps=500, rate=1e-3, eps=4 / 255)),
    Honest("gtsrb-cnn", lambda: built("gtsrb-cnn", steps=250, rate=1e-3), eps=2 / 255, count=32),
    Honest("residual network", lambda: fitted(Residual(), SCENES, steps=250)),
    Honest("residual network, PGD-AT", lambda: fitted(Residual(), SCENES, steps=250, eps=4 / 255)),
    Honest("vision transformer", lambda: fitted(Transformer(), SCENES, steps=300)),
    Honest("vision transformer, PGD-AT", lambda: fitted(Transformer(), SCENES, steps=300, eps=4 / 255)),
    Honest("MLP", lambda: fitted(mlp(768, 8), SCENES, steps=400)),
    Honest("MLP with tanh", lambda: fitted(mlp(64, 10, nn.Tanh), DIGITS, steps=300), data=DIGITS, eps=0.1),
    Honest("MLP, PGD-AT", lambda: fitted(mlp(64, 10), DIGITS, steps=400, eps=0.15), data=DIGITS, eps=0.15),
    Honest("linear", lambda: fitted(linear(768, 8), SCENES, steps=300), eps=2 / 255),
    Honest("linear, digits", lambda: fitted(linear(64, 10), DIGITS, steps=300), data=DIGITS, eps=0.1),
    Honest("digits", lambda: built("tiny-cnn", DIGITS), data=DIGITS, eps=0.1),
    Honest("digits, PGD-AT", lambda: built("tiny-cnn", DIGITS, eps=0.2, steps=350), data=DIGITS, eps=0.25),
    Honest(
        "digits, PGD-AT, l2", lambda: built("tiny-cnn", DIGITS, eps=1.0, norm="l2"), data=DIGITS, eps=0.75, norm="l2"
    ),
    Honest("two classes", lambda: built("tiny-cnn", DIGITS, classes=2, steps=100), data=DIGITS, eps=0.2, classes=2),
    Honest("three classes", lambda: built("tiny-cnn", classes=3), classes=3),
    Honest("a thousand outputs", lambda: fitted(Wide(), SCENES, steps=300)),
    Honest("dropout", lambda: fitted(dropping(), SCENES, steps=400)),
    Honest("group normalisation, GELU", lambda: fitted(grouped(), SCENES, steps=400)),
    Honest("label smoothing", lambda: built("tiny-cnn", loss=smooth)),
    Honest("squared loss", lambda: built("tiny-cnn", loss=squared)),
    Honest("not trained long", lambda: built("tiny-cnn", steps=40)),
    Honest("float64", lambda: converted(base(), torch.float64)),
    Honest("bfloat16", lambda: converted(base(), torch.bfloat16)),
    Honest("compiled", lambda: torch.compile(copy.deepcopy(base()), backend="eager")),
    Honest("cosines", lambda: fitted(Cosines(), SCENES, steps=300)),
    Honest("mean over places", lambda: fitted(Places(), SCENES, steps=300)),
    Honest("channels last", lambda: copy.deepcopy(base()).to(memory_format=torch.channels_last)),
    Honest("scaled logits", lambda: nn.Sequential(base(), Scale(30.0))),
    Honest("log-probabilities", lambda: nn.Sequential(base(), nn.LogSoftmax(1))),
    Honest("smoothed", lambda: defend(robust(), "smoothing:sigma=0.03"), eps=8 / 255),
    Honest("two networks, averaged", lambda: Mean(base(), built("tiny-cnn", steps=300, rate=1e-3))),
)


class Scale(nn.Module):
    """A temperature."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, z):
        return self.factor * z


class Mean(nn.Module):
    """The mean of the logits of some networks."""

    def __init__(self, *members):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x):
        return torch.stack([member(x) for member in self.members]).mean(0)
