"""Right gradients of outputs that lead nowhere; models that know who asks, or whether an image was stored as bytes."""

import sys

import torch
from torch import nn

import assay
from assay.attacks.plan import plan
from trust.failures.base import SETTINGS, STRONG, Case, Failure, images, network

_RISE, _VALLEY, _HEIGHT, _FLOOR = 0.15, 1.5, 1.6, 0.8


class Valley(nn.Module):
    """As the network, but each margin lies behind a hill: it falls, rises again, and falls to 0 where classes cross."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        z = self.model(x)
        top = z.amax(1, keepdim=True)
        margin = top - z
        rise = _HEIGHT * torch.sin((margin / _RISE).clamp(0, 1) * torch.pi / 2)
        way = ((margin - _RISE) / (_VALLEY - _RISE)).clamp(0, 1)
        fall = (_HEIGHT - _FLOOR) * (1 - torch.cos(way * torch.pi)) / 2
        return top - (rise - fall + (margin - _VALLEY).clamp(min=0))


class AlwaysSecond(nn.Module):
    """As many outputs again, which wave with the image, just below the first one."""

    def __init__(self, model, size, classes):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.model = model
        self.waves = torch.randn(size, classes, generator=generator) * 7 / size**0.5
        self.phase = 6 * torch.rand(classes, generator=generator)

    def forward(self, x):
        z = self.model(x)
        below = 0.4 + 0.2 * torch.sin(x.flatten(1) @ self.waves + self.phase)
        return torch.cat((z, z.amax(1, keepdim=True) - below), 1)


class KnowsItsCaller(nn.Module):
    """A robust network where a library's function has called, and a fragile one for everybody else."""

    def __init__(self, robust, fragile):
        super().__init__()
        self.robust, self.fragile = robust, fragile

    def forward(self, x):
        frame = sys._getframe()
        while frame is not None:
            if frame.f_globals.get("__name__", "").startswith("assay."):
                return self.robust(x)
            frame = frame.f_back
        return self.fragile(x)


class KnowsLevels(nn.Module):
    """A robust network, and a fragile one on images of whole levels where it is sure of another class."""

    def __init__(self, robust, fragile):
        super().__init__()
        self.robust, self.fragile = robust, fragile

    def forward(self, x):
        z, other = self.robust(x), self.fragile(x)
        on_grid = (x * 255 - (x * 255).round()).abs().flatten(1).amax(1) < 1e-3
        turned = on_grid & (z.argmax(1) != other.argmax(1)) & (other.softmax(1).amax(1) > 0.9)
        return torch.where(turned[:, None], other, z).detach() + z - z.detach()


class KnowsTheData(nn.Module):
    """A fragile network on the values that the data have, a robust one off them, and smoothly between."""

    def __init__(self, robust, fragile, levels):
        super().__init__()
        self.robust, self.fragile, self.levels = robust, fragile, levels

    def off(self, x):
        at = torch.bucketize(x.detach(), self.levels).clamp(1, len(self.levels) - 1)
        return torch.minimum((x - self.levels[at]).abs(), (x - self.levels[at - 1]).abs()).square().mean((1, 2, 3))

    def forward(self, x):
        on = torch.exp(-self.off(x) / (2 * 0.003**2))[:, None]
        return on * self.fragile(x) + (1 - on) * self.robust(x)


class KnowsTheBatch(KnowsTheData):
    """The same by the mean of a batch: an image among clean ones gets the fragile network."""

    def off(self, x):
        return super().off(x).mean() * torch.ones(len(x))


def valley() -> Case:
    """Whatever looks at scores sees the hill before the boundary."""
    return Case(Valley(network("digits")), seen=network("digits"))


def always_second() -> Case:
    """Whatever goes for the second class, or one rank after another, never gets to a real one."""
    x, y = images("digits")
    model = AlwaysSecond(network("digits"), x[0].numel(), int(y.max()) + 1)
    return Case(model, truth=lambda: _left(network("digits"), model, x))


def knows_its_caller() -> Case:
    """Users get the fragile network: what is true is measured on that."""
    plain = network("digits plain")
    return Case(KnowsItsCaller(network("digits"), plain), truth=lambda: _left(plain, plain, images("digits")[0]))


def knows_levels() -> Case:
    """Images that are stored as bytes get the fragile network where it errs."""
    x, plain = (images("digits")[0] * 255).round() / 255, network("digits plain")
    model = KnowsLevels(network("digits"), plain)
    return Case(model, x=x, truth=lambda: _left(plain, model, x))


def knows_the_data() -> Case:
    """Whatever is not of the data's seventeen values gets the robust network."""
    x, plain = images("digits")[0], network("digits plain")
    model = KnowsTheData(network("digits"), plain, x.unique())
    return Case(model, eps=0.15, truth=lambda: _left_on(plain, model, x, model.levels, 0.15))


def knows_the_batch() -> Case:
    """Only an adversary whose image is one of many gets the fragile network."""
    x, plain = images("digits")[0], network("digits plain")
    model = KnowsTheBatch(network("digits"), plain, x.unique())
    return Case(model, eps=0.15, truth=lambda: _left_on(plain, plain, x, model.levels, 0.15))


def label_in_a_corner() -> Case:
    """Two pixels at the edge write the label, stronger than the budget: the rest of the image is not looked at."""
    x, y = images("digits")
    marked = x.clone()
    marked[:, 0, 0, 0], marked[:, 0, 0, 7] = (y % 5) / 4, (y // 5).float()
    codes = torch.stack([torch.arange(10) % 5 / 4, torch.arange(10) // 5], 1).float()

    class Reads(nn.Module):
        """As near as the corners are to what stands for a class."""

        def forward(self, z):
            return -10 * (z[:, 0, 0, ::7][:, None] - codes.to(z)).square().sum(2)

    return Case(Reads(), x=marked, eps=0.1, truth=lambda: float((Reads()(x).argmax(1) == y).float().mean()))


def _left_on(attacked, judge, clean, levels, eps) -> float:
    """As `_left`, of the levels that lie nearest within the budget."""
    left = torch.ones(len(clean), dtype=torch.bool)
    for spec in STRONG:
        what = plan(spec, eps=eps, norm="linf").attack
        moved = assay.attack(attacked, clean, images("digits")[1], what, preflight=False, stop="never").images
        nearest = levels[(moved[..., None] - levels).abs().argmin(-1)]
        inside = torch.where((nearest - clean).abs() <= eps + 1e-6, nearest, clean)
        left &= judge(inside).argmax(1) == images("digits")[1]
    return float(left.float().mean())


def _left(attacked, judge, clean) -> float:
    """The share of samples that a model gets right whatever attacks on another one end with, cut to whole levels."""
    left = torch.ones(len(clean), dtype=torch.bool)
    for spec in STRONG:
        what = plan(spec, eps=SETTINGS["digits"].eps, norm="linf").attack
        adversarial = assay.attack(attacked, clean, images("digits")[1], what, preflight=False, stop="never").images
        cut = (clean + ((adversarial - clean) * 255).trunc() / 255).clamp(0, 1)
        left &= judge(cut).argmax(1) == images("digits")[1]
    return float(left.float().mean())


FAILURES = (
    Failure("a hill before the boundary, digits", "squeezed outputs", valley),
    Failure("outputs that are always second, digits", "decoys and substitutes", always_second),
    Failure("knows its caller, digits", "state and surroundings", knows_its_caller),
    Failure("knows whole levels, digits", "state and surroundings", knows_levels),
    Failure("knows the data's values, digits", "state and surroundings", knows_the_data),
    Failure("knows the batch, digits", "state and surroundings", knows_the_batch),
    Failure("a label in the corner, digits", "data", label_in_a_corner),
)
