"""Outputs that squeeze are named before the attack, whatever their form; honest outputs are not."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import assay
from assay.engine.outputs import describe_squeeze
from assay.engine.preflight import ModelWarning, inspect


def logits(kind, n=32, k=10, seed=0):
    """Outputs as trained networks have them: one class above the others, more or less clearly."""
    draw = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(n, k, generator=draw)
    top = torch.randint(0, k, (n,), generator=draw)
    lift = {"untrained": 0.0, "unsure": 3.0, "sure": 12.0, "collapsed": 30.0}[kind]
    z = z * (0.1 if kind == "untrained" else 0.3 if kind == "collapsed" else 1)
    return z.scatter_add(1, top[:, None], torch.full((n, 1), lift))


HONEST = {
    "logits": lambda z: z,
    "scaled logits": lambda z: 1e4 * z + 3,
    "tiny logits": lambda z: 1e-3 * z,
    "log-probabilities": lambda z: z.log_softmax(1),
    "centred": lambda z: z - z.mean(1, keepdim=True),
    "less the greatest": lambda z: z - z.amax(1, keepdim=True),
    "less the least": lambda z: z - z.amin(1, keepdim=True),
    "normed rows": lambda z: F.normalize(z, dim=1),
    "negative distances": lambda z: -(z - 3).abs(),
    "two classes": lambda z: z[:, :2],
    "a binary margin": lambda z: torch.stack([-z[:, 0], z[:, 0]], 1),
    "bfloat16": lambda z: z.bfloat16().float(),
    "masked classes": lambda z: torch.cat([z, torch.full((len(z), 3), -1e4)], 1),
    "columns far apart": lambda z: z[:, :2] + torch.tensor([6e4, 0.0]),
    "the same image many times": lambda z: z[:1].expand(32, -1),
}
SQUEEZED = {
    "softmax": lambda z: z.softmax(1),
    "scaled softmax": lambda z: 10 * z.softmax(1) - 3,
    "sharp softmax": lambda z: (100 * z).softmax(1),
    "sigmoid": lambda z: torch.sigmoid(10 * z),
    "scaled sigmoid": lambda z: 5 * torch.sigmoid(10 * z) - 2,
    "tanh": lambda z: torch.tanh(30 * z),
    "hardtanh": lambda z: F.hardtanh(z),
    "clamp": lambda z: 7 * z.clamp(-0.5, 0.5) + 100,
    "floor": lambda z: z.clamp_min(0),
    "ceiling": lambda z: z.clamp_max(5),
    "floored log-probabilities": lambda z: z.softmax(1).clamp_min(1e-4).log(),
    "one-hot": lambda z: F.one_hot(z.argmax(1), z.shape[1]).float(),
}


@pytest.mark.parametrize("kind", ["untrained", "unsure", "sure", "collapsed"])
@pytest.mark.parametrize("form", HONEST)
def test_honest_outputs_raise_no_alarm(form, kind):
    assert describe_squeeze(HONEST[form](logits(kind))) == ""


@pytest.mark.parametrize("form", SQUEEZED)
def test_squeezed_outputs_are_named(form):
    assert describe_squeeze(SQUEEZED[form](logits("sure")))


def test_too_little_to_tell():
    assert describe_squeeze(torch.tanh(30 * logits("sure", n=1))) == ""
    assert describe_squeeze(torch.full((4, 3), torch.nan)) == ""


class Squeezed(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form, self.net = form, nn.Sequential(nn.Flatten(), nn.Linear(48, 6))
        with torch.no_grad():
            self.net[1].weight.mul_(20)

    def forward(self, x):
        return SQUEEZED[self.form](self.net(x))


@pytest.mark.parametrize("form", ["tanh", "sigmoid", "floor", "scaled softmax"])
def test_the_user_is_warned_with_advice(form):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = Squeezed(form), torch.rand(32, 3, 4, 4)
    y = model.net(x).argmax(1)
    (finding,) = [f for f in inspect(model, x, y) if f.code == "squeezed"]
    assert "Return what goes into it" in finding.text
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assay.attack(model, x, y, assay.FGSM(0.01))
    told = [str(w.message) for w in caught if w.category is ModelWarning]
    assert any(text.startswith("squeezed: the outputs seem to pass through") for text in told)
    assert not [f for f in inspect(model.net, x, y) if f.code == "squeezed"]
