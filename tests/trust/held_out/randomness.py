"""Draws that hide a gradient, blunt a score, or are too few."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.expectation import Expectation
from assay.defences.randomised import RandomInput, ResizePad
from trust.failures.base import Around, Case, Failure, network
from trust.held_out.parts import GRADIENT, Declared, Shell, bend, lead, one_hot

KIND = "randomness"


def one_draw() -> Case:
    """Expectation over random sizes and places, of one draw a step."""
    net = network("scenes plain")
    model = RandomInput(net, ResizePad(0.6), draws=6)
    seen = Expectation(net, 1, transform=ResizePad(0.6))
    declared = Declared(model, "EOT over sizes and places", surrogate=seen, methods=("EOT",))
    attacks = ("pgd:steps=10", "apgd:steps=20,loss=dlr")
    return Case(declared, "scenes plain", attacks=attacks, seen=model)


def noisy_gradient() -> Case:
    """Noise is added to gradients on their way back, in the name of privacy."""

    def rule(grad: Tensor) -> Tensor:
        size = grad.flatten(1).norm(dim=1)[:, None, None, None]
        return grad + 0.2 * size * torch.randn_like(grad)

    net = network("scenes plain")
    model = Around(net, before=lambda x: bend(x, rule))
    return Case(model, "scenes plain", attacks=("pgd:steps=20", "apgd:steps=30"), seen=net)


def _hash(x: Tensor, count: int) -> Tensor:
    """Numbers in [0, 1] that belong to the pixels: the same for the same image, others for its neighbours."""
    place = torch.arange(1, x[0].numel() + 1, dtype=x.dtype)
    phase = (x.flatten(1) * place * 91.7).sum(1, keepdim=True)
    return (1e4 * (phase + 7.3 * torch.arange(count)).sin()).frac().abs()


def hashed() -> Case:
    """The scores of all but the first class are numbers that look drawn and are functions of the image."""
    net = network("digits l2")

    def forward(x: Tensor) -> Tensor:
        first = one_hot(net(x))
        return 4 * first + (1 - first) * 3 * _hash(x.detach(), 10)

    return Case(Shell(forward, net), "digits l2", seen=net)


def blunt_scores() -> Case:
    """The lead of the first class is redrawn at each call; only attacks by scores are run."""

    def after(z: Tensor) -> Tensor:
        width = (4 * torch.randn(len(z), 1)).exp()
        return width * (z + lead(z)[:, None] * one_hot(z) * torch.rand(len(z), 1))

    net = network("digits l2")
    attacks = ("square:queries=1000", "nes:queries=1000")
    return Case(Around(net, after=after), "digits l2", attacks=attacks, seen=net)


class Pruned(nn.Module):
    """Stochastic activation pruning: draws of activations in proportion to their size, scaled up."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        odds = flat.detach().abs()
        odds = odds / odds.sum(1, keepdim=True).clamp_min(1e-9)
        keep = 1 - (-self.share * flat.shape[1] * odds).exp()
        drawn = torch.rand_like(flat) < keep
        return (flat * drawn / keep.clamp_min(1e-6)).view_as(x)


def pruned() -> Case:
    """Activations are pruned at random; the attack sees a pass of a much stronger kind than those that answer."""
    net = network("digits")
    few = nn.Sequential(net[0], *net[1][:6], Pruned(0.02), *net[1][6:])
    many = nn.Sequential(net[0], *net[1][:6], Pruned(2.0), *net[1][6:])
    model = Declared(Expectation(many, 4, average="logits"), "EOT over the pruning", surrogate=few, methods=("EOT",))
    return Case(model, "digits", attacks=("pgd:steps=20", "apgd:steps=20"), seen=net)


def votes_of_noise() -> Case:
    """Seven noises vote; what is shown is the number of votes."""
    net = network("digits")
    noise = 0.15 * torch.randn(7, 1, 1, 8, 8, generator=torch.Generator().manual_seed(1))

    def each(x: Tensor) -> Tensor:
        return net((x + noise).flatten(0, 1)).view(7, len(x), 10)

    def votes(x: Tensor) -> Tensor:
        return torch.stack([one_hot(z) for z in each(x)]).sum(0)

    mean = Shell(lambda x: each(x).log_softmax(2).mean(0), net)
    return Case(Shell(votes, net), "digits", seen=mean)


def heavy_dropout() -> Case:
    """The model is not random; the attack averages two passes of a copy with heavy dropout."""
    net = network("digits plain")

    def thinned(x: Tensor) -> Tensor:
        return net[1](F.dropout(net[0](x), 0.9, training=True))

    seen = Expectation(Shell(thinned, net), 2)
    model = Declared(net, "EOT over dropout, ten passes", surrogate=seen, methods=("EOT",))
    return Case(model, "digits plain", attacks=("pgd:steps=20", "apgd:steps=30"), seen=net)


def moving_target() -> Case:
    """At each call another network answers for the gradient, all of them for the scores."""
    members = [network(name) for name in ("digits", "digits l2", "digits plain")]

    def forward(x: Tensor) -> Tensor:
        scores = torch.stack([member(x).log_softmax(1) for member in members]).mean(0)
        chosen = members[int(torch.randint(3, ()))](x.roll(int(torch.randint(-2, 3, ())), 3))
        return scores.detach() + chosen - chosen.detach()

    mean = Shell(lambda x: torch.stack([member(x).log_softmax(1) for member in members]).mean(0), *members)
    return Case(Shell(forward, *members), "digits l2", attacks=GRADIENT, seen=mean)


FAILURES = (
    Failure("one draw a step", KIND, one_draw),
    Failure("noise on gradients", KIND, noisy_gradient),
    Failure("noise that is a function of the image", KIND, hashed),
    Failure("blunt scores", KIND, blunt_scores),
    Failure("stochastic pruning, stronger for the attack", KIND, pruned),
    Failure("votes of noise", KIND, votes_of_noise),
    Failure("heavy dropout in the surrogate", KIND, heavy_dropout),
    Failure("another gradient at each call", KIND, moving_target),
)
