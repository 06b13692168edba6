"""Small models whose answers are known."""

import torch
from torch import nn


class Linear(nn.Module):
    """Logits ``W x + b`` with the weights given."""

    def __init__(self, weight, bias=None):
        super().__init__()
        self.weight = nn.Parameter(weight.clone())  # (k, c, h, w)
        self.bias = nn.Parameter(torch.zeros(len(weight)) if bias is None else bias.clone())

    def forward(self, x):
        return torch.einsum("bchw,kchw->bk", x, self.weight.to(x)) + self.bias.to(x)


class Constant(nn.Module):
    """The same logits whatever the image, but with a graph."""

    def __init__(self, classes=3):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        return 0.0 * x.flatten(1).sum(1, keepdim=True) + torch.tensor([2.0] + [0.0] * (self.classes - 1)).to(x)


class Counting(nn.Module):
    """Counts the images that pass forward and backward, and can raise on the k-th call."""

    def __init__(self, model, fail_at=None, error=RuntimeError("planted")):
        super().__init__()
        self.model, self.fail_at, self.error = model, fail_at, error
        self.calls = self.forwards = self.backwards = 0
        self.sizes = []

    def forward(self, x):
        self.calls += 1
        if self.fail_at is not None and self.calls == self.fail_at:
            raise self.error
        self.forwards += len(x)
        self.sizes.append(len(x))
        if x.requires_grad:
            x.register_hook(self._backward)
        return self.model(x)

    def _backward(self, grad):
        self.backwards += len(grad)


def mlp(classes=4, size=6, channels=2, hidden=32, seed=0, dtype=torch.float32, scale=1.0):
    """A smooth random network with curved boundaries."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * size * size, hidden),
        nn.Tanh(),
        nn.Linear(hidden, hidden),
        nn.Tanh(),
        nn.Linear(hidden, classes),
    )
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / layer.in_features**0.5 * 2.5)
                layer.bias.copy_(0.1 * torch.randn(layer.bias.shape, generator=generator))
        net[-1].weight.mul_(scale)
        net[-1].bias.mul_(scale)
    return net.to(dtype).eval()


def images(n=24, channels=2, size=6, seed=1, dtype=torch.float32):
    """Random images, some pixels at exactly 0 and 1."""
    x = torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (1.2 * x - 0.1).clamp(0, 1).to(dtype)


def masks(n=24, size=6, seed=2):
    """Random foregrounds."""
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed)) > 0.6


def predicted(model, x):
    """The labels that make every clean image right."""
    with torch.no_grad():
        return model(x).argmax(1)
