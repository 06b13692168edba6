"""A ladder of networks from plain to certified: two data sets, two architectures, six ways to train; trained once.

Each is small enough for a processor and strong enough that some images survive at its budget. ``python ladder.py``
trains those that are missing. CIFAR-10 is read from ``ASSAY_CIFAR10``, a data spec such as
``parquet:path/to/cifar10-{split}.parquet``; without it the ladder has Fashion-MNIST alone.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass

import torch
from common import CACHE, FASHION
from torch import nn
from torch.nn import functional as F

import assay
from assay.data import load as load_data
from assay.models.normalize import Normalize
from assay.models.small import strattack_cnn
from assay.models.wideresnet import WideBlock, WideResNet, WideStage

SOURCES = {"fashion": FASHION, "cifar10": os.environ.get("ASSAY_CIFAR10", "")}
IMAGES = {"fashion": 12000, "cifar10": 20000}
BUDGETS = {"fashion": 0.1, "cifar10": 8 / 255}
SMALL_L2 = {"fashion": 0.5, "cifar10": 0.25}


@dataclass(frozen=True)
class Rung:
    """One network and the budget it is measured at."""

    data: str
    architecture: str
    training: str
    norm: str
    eps: float

    @property
    def name(self):
        return f"{self.data}-{self.architecture}-{self.training}"


def rungs():
    """Every network whose data are here."""
    kinds = {"plain": 0.25, "pgd-at": 1, "trades": 1, "awp": 1, "ibp": 1, "small-l2": None}
    every = []
    for data, source in SOURCES.items():
        for architecture in ARCHITECTURES:
            for kind, share in kinds.items():
                budget = ("l2", 2 * SMALL_L2[data]) if share is None else ("linf", share * BUDGETS[data])
                every += [Rung(data, architecture, kind, *budget)] if source else []
    return every


def images(data, split, limit=None):
    return load_data(SOURCES[data], split=split, limit=limit)


def _cnn(channels, size):
    return strattack_cnn(channels, 10, size, features=16, dense=100)


def _residual(channels, size):
    return WideResNet(channels, 10, 10, 1)


ARCHITECTURES = {"cnn": _cnn, "residual": _residual}


def adversarial(model, x, y, eps, step):
    moved = assay.perturb(model, x, y, assay.PGD(eps, steps=4), seed=step)
    return F.cross_entropy(model(moved), y)


def small_l2(model, x, y, eps, step):
    moved = assay.perturb(model, x, y, assay.PGD(SMALL_L2[_data_of(eps)], norm="l2", steps=4), seed=step)
    return F.cross_entropy(model(moved), y)


def trades(model, x, y, eps, step):
    """Zhang et al., ICML 2019, with a factor of 6."""
    moved = assay.perturb(model, x, y, assay.PGD(eps, steps=4, loss="kl"), seed=step)
    clean, away = model(x), model(moved)
    divergence = F.kl_div(away.log_softmax(1), clean.log_softmax(1), log_target=True, reduction="batchmean")
    return F.cross_entropy(clean, y) + 6 * divergence


def weights_too(model, x, y, eps, step, size=0.01):
    """Wu, Xia & Wang, NeurIPS 2020: the loss under the worst small change of each layer's weights."""
    moved = assay.perturb(model, x, y, assay.PGD(eps, steps=4), seed=step)
    kernels = [p for p in model.parameters() if p.dim() > 1]
    grads = torch.autograd.grad(F.cross_entropy(model(moved), y), kernels)
    with torch.no_grad():
        shifts = [size * p.norm() * g / g.norm().clamp_min(1e-12) for p, g in zip(kernels, grads, strict=True)]
        for p, shift in zip(kernels, shifts, strict=True):
            p.add_(shift)
    F.cross_entropy(model(moved), y).backward()
    with torch.no_grad():
        for p, shift in zip(kernels, shifts, strict=True):
            p.sub_(shift)
    return


def certified(model, x, y, eps, step, ramp=1200):
    """Gowal et al., 2018: cross-entropy of the worst logits that interval bounds allow; budget and weight grow."""
    share = min(1.0, max(0.0, step / ramp - 0.1))
    clean = F.cross_entropy(model(x), y)
    eps = share * eps
    low, high = intervals(model, (x - eps).clamp(0, 1), (x + eps).clamp(0, 1))
    worst = torch.where(F.one_hot(y, low.shape[1]).bool(), low, high)
    return clean * (1 - 0.5 * share) + 0.5 * share * F.cross_entropy(worst, y)


def intervals(layer, low, high):
    """Bounds of a layer's output over a box of inputs."""
    if isinstance(layer, nn.Sequential):
        for part in layer:
            low, high = intervals(part, low, high)
        return low, high
    if isinstance(layer, WideStage):
        return intervals(layer.layer, low, high)
    if isinstance(layer, WideBlock):
        inner = tuple(map(torch.relu, intervals(layer.bn1, low, high)))
        short = (low, high) if layer.convShortcut is None else intervals(layer.convShortcut, *inner)
        inner = intervals(layer.conv1, *inner)
        inner = tuple(map(torch.relu, intervals(layer.bn2, *inner)))
        inner = intervals(layer.conv2, *inner)
        return short[0] + inner[0], short[1] + inner[1]
    if isinstance(layer, WideResNet):
        for part in (layer.conv1, layer.block1, layer.block2, layer.block3):
            low, high = intervals(part, low, high)
        low, high = (torch.relu(z).mean((2, 3)) for z in intervals(layer.bn1, low, high))
        return intervals(layer.fc, low, high)
    if isinstance(layer, nn.Dropout):
        return low, high
    if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
        middle, half = _affine(layer, (low + high) / 2, (high - low) / 2)
        return middle - half, middle + half
    return layer(low), layer(high)  # increasing: ReLU, pooling, normalisation, flattening


def _affine(layer, middle, half):
    """Middle and half width of what a layer makes of a box."""
    if isinstance(layer, nn.Linear):
        return layer(middle), F.linear(half, layer.weight.abs())
    if isinstance(layer, nn.Conv2d):
        return layer(middle), F.conv2d(half, layer.weight.abs(), None, layer.stride, layer.padding)
    scale = (layer.weight / (layer.running_var + layer.eps).sqrt())[None, :, None, None]
    offset = layer.bias[None, :, None, None] - layer.running_mean[None, :, None, None] * scale
    return middle * scale + offset, half * scale.abs()


def plain(model, x, y, eps, step):
    return F.cross_entropy(model(x), y)


LOSSES = {
    "plain": plain,
    "pgd-at": adversarial,
    "trades": trades,
    "awp": weights_too,
    "ibp": certified,
    "small-l2": small_l2,
}


def _data_of(eps):
    return next(name for name, budget in BUDGETS.items() if budget == eps)


def network(rung):
    """The trained network of a rung, in evaluation mode, without gradients for its weights."""
    train = images(rung.data, "train", 64)
    channels, size = train.x.shape[1], train.x.shape[3]
    torch.manual_seed(0)
    model = nn.Sequential(Normalize(0.5, 0.5), ARCHITECTURES[rung.architecture](channels, size))
    path = CACHE / "ladder" / f"{rung.name}.pt"
    if path.is_file():
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        _fit(model, rung, 6 if rung.training != "ibp" else 16)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), path)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.eval()


def _fit(model, rung, epochs):
    data, loss_of = images(rung.data, "train", IMAGES[rung.data]), LOSSES[rung.training]
    batches = -(-len(data) // 128)
    optimiser = torch.optim.Adam(model.parameters())
    highest = 4e-3 if rung.training != "ibp" else 1e-3
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, highest, total_steps=epochs * batches)
    began, generator = time.time(), torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        for step, at in enumerate(torch.randperm(len(data), generator=generator).split(128)):
            model.train()
            x, y = data.images(at), data.y[at]
            optimiser.zero_grad()
            loss = loss_of(model, x, y, BUDGETS[rung.data], epoch * batches + step)
            if loss is not None:
                loss.backward()
            optimiser.step()
            schedule.step()
    print(rung.name, f"{time.time() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[])
    wanted = parser.parse_args().only
    for each in rungs():
        if not wanted or each.name in wanted:
            network(each)
