"""Outputs whose margin falls where it should rise, with right gradients; and weights that no module holds."""

import copy

import torch
from torch import nn
from torch.func import functional_call

from trust.failures.base import Case, Failure, network

_KNEE, _HEIGHT, _FALL = 0.3, 6.0, 0.5


class Turned(nn.Module):
    """The surer the network is of some classes, the less it says so: steep at first, then ever less sure."""

    def __init__(self, model, classes):
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, x):
        z = self.model(x)
        best = z.topk(2, dim=1)
        margin = best.values[:, :1] - best.values[:, 1:]
        top = _HEIGHT - _FALL * _KNEE
        other = torch.where(margin < _KNEE, margin * top / _KNEE, _HEIGHT - _FALL * margin)
        chosen = torch.isin(best.indices[:, :1], torch.tensor(self.classes))
        change = torch.where(chosen, other - margin, 0.0)
        return z.scatter_add(1, best.indices[:, :1], change)


class Hidden(nn.Module):
    """A network whose weights are in a dictionary, and whose layers are in a list that is no module's."""

    def __init__(self, model, classes):
        super().__init__()
        skeleton = copy.deepcopy(model)
        self.weights = {name: value.detach() for name, value in [*model.named_parameters(), *model.named_buffers()]}
        self.skeleton = [Turned(lambda x: functional_call(skeleton, self.weights, (x,)), classes)]

    def forward(self, x):
        return self.skeleton[0](x)


def some_classes() -> Case:
    """Three classes of ten."""
    return Case(Turned(network("digits"), (3, 8, 9)), "digits", seen=network("digits"))


def all_classes() -> Case:
    """Every class."""
    return Case(Turned(network("digits"), tuple(range(10))), "digits", seen=network("digits"))


def hidden() -> Case:
    """Every class of a network whose layers cannot be seen."""
    return Case(Hidden(network("digits"), tuple(range(10))), "digits", seen=network("digits"))


FAILURES = (
    Failure("turned back for three classes, digits", "squeezed outputs", some_classes),
    Failure("turned back, digits", "squeezed outputs", all_classes),
    Failure("turned back where no module is seen, digits", "squeezed outputs", hidden),
)
