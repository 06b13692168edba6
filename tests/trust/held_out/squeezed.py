"""Outputs from which an attack learns little."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.models import build
from trust.failures.base import Around, Case, Failure, network
from trust.held_out.parts import fit, fresh, lead, one_hot, training

KIND = "squeezed outputs"
NETS = ("digits", "digits l2", "digits plain")


def label_only() -> Case:
    """The service answers with a label."""
    net = network("scenes")
    return Case(Around(net, after=one_hot), "scenes", seen=net)


class Committee(nn.Module):
    """Networks that vote, or whose scores are added."""

    def __init__(self, members: list[nn.Module], *, votes: bool) -> None:
        super().__init__()
        self.members, self.votes = nn.ModuleList(members), votes

    def forward(self, x: Tensor) -> Tensor:
        each = [member(x) for member in self.members]
        if not self.votes:
            return torch.stack([z.log_softmax(1) for z in each]).mean(0)
        return torch.stack([one_hot(z) for z in each]).sum(0) + 0.1 * one_hot(each[0])


def committee() -> Case:
    """Three networks vote with one voice each."""
    members = [network(name) for name in NETS]
    return Case(Committee(members, votes=True), "digits", seen=Committee(members, votes=False), eps=0.15)


def two_digits() -> Case:
    """Probabilities are printed with one digit."""
    net = network("digits l2")
    return Case(Around(net, after=lambda z: z.softmax(1).round(decimals=1) + 0.01 * one_hot(z)), "digits l2", seen=net)


def saturated() -> Case:
    """A last layer of tanh units that are all the way up or down."""

    def after(z: Tensor) -> Tensor:
        middle = z.topk(2, 1).values.mean(1, keepdim=True)
        return (4e3 * (z - middle)).tanh()

    net = network("scenes plain")
    return Case(Around(net, after=after), "scenes plain", seen=net)


def certain_ones() -> Case:
    """Only confident answers lose their scores."""

    def after(z: Tensor) -> Tensor:
        return torch.where((lead(z) > 1.5)[:, None], 20 * one_hot(z), z)

    net = network("digits")
    return Case(Around(net, after=after), "digits", seen=net)


def distilled() -> Case:
    """Defensive distillation at a high temperature, served as probabilities at temperature one."""
    x, _ = training("digits plain")
    with torch.no_grad():
        soft = (network("digits plain")(x) / 2).softmax(1)
    student = fresh(lambda: build("tiny-cnn", channels=1, classes=10, size=8))

    def loss(at: Tensor) -> Tensor:
        return F.kl_div((student(x[at]) / 100).log_softmax(1), soft[at], reduction="batchmean")

    fit(student, loss, len(x), epochs=15)
    return Case(Around(student, after=lambda z: z.softmax(1)), "digits plain", seen=student)


def ranks() -> Case:
    """The place of each class in the order of the scores, and nothing of how far apart they are."""
    net = network("digits plain")
    return Case(Around(net, after=lambda z: z.argsort(1).argsort(1).to(z)), "digits plain", seen=net)


def disclosed() -> Case:
    """Only the first class is disclosed, with a score that is rounded."""

    def after(z: Tensor) -> Tensor:
        first = z.argmax(1, keepdim=True)
        score = (z.softmax(1).gather(1, first) * 20).round() / 20
        return torch.full_like(z, -torch.inf).scatter(1, first, score)

    net = network("digits l2")
    return Case(Around(net, after=after), "digits l2", seen=net)


def narrow() -> Case:
    """A softmax in half precision whose small values are nothing."""

    def after(z: Tensor) -> Tensor:
        p = (12 * (z - z.amax(1, keepdim=True))).half().exp()
        return (p / p.sum(1, keepdim=True)).float()

    net = network("scenes plain")
    return Case(Around(net, after=after), "scenes plain", seen=net)


FAILURES = (
    Failure("label only", KIND, label_only),
    Failure("committee of hard votes", KIND, committee),
    Failure("probabilities with one digit", KIND, two_digits),
    Failure("saturated last layer", KIND, saturated),
    Failure("scores withheld where confident", KIND, certain_ones),
    Failure("distilled and served as probabilities", KIND, distilled),
    Failure("ranks for scores", KIND, ranks),
    Failure("first class alone", KIND, disclosed),
    Failure("half precision", KIND, narrow),
)
