"""Channels last: the same verdicts, code that insists on the usual order still runs, and the weights come back."""

import pytest
import torch
from torch import nn

import assay
from assay.core.memory_format import channels_last
from models_for_tests import images, predicted


class Net(nn.Module):
    """A convolution, then ``view`` (which channels last does not allow) or ``flatten``."""

    def __init__(self, view, fail_backward=False):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.view = nn.Conv2d(2, 5, 3), nn.Linear(5 * 16, 4), view
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        z = self.conv(x).relu()
        return self.head(z.view(len(z), -1) if self.view else z.flatten(1))


@pytest.mark.parametrize("view", [True, False])
@pytest.mark.parametrize("attack", [assay.PGD(0.1, steps=5), assay.Square(0.1, queries=20), assay.DeepFool(5)])
def test_verdicts_are_those_of_the_usual_layout(view, attack, monkeypatch):
    model, x = Net(view).eval(), images(32)
    y = predicted(model, x)
    pointers = [p.data_ptr() for p in model.parameters()]
    found = assay.attack(model, x, y, attack, preflight=False)
    assert [p.data_ptr() for p in model.parameters()] == pointers
    assert model.conv.weight.is_contiguous()
    monkeypatch.setattr("assay.engine.api.channels_last", lambda model, wanted: channels_last(model, wanted=False))
    usual = assay.attack(model, x, y, attack, preflight=False)
    assert torch.equal(found.status, usual.status)
    assert torch.equal(found.forwards, usual.forwards)
    assert torch.allclose(found.images, usual.images, atol=1e-4)


def test_another_error_is_not_tried_again():
    model, x = Net(False).eval(), images(8)
    y = predicted(model, x)
    model.head = nn.Linear(7, 4)
    model.calls = 0
    with pytest.raises(RuntimeError):
        assay.attack(model, x, y, assay.FGSM(0.1), preflight=False)
    assert model.calls == 1
    assert model.conv.weight.is_contiguous()


def test_the_fast_layout_is_used():
    model = Net(False)
    with channels_last(model) as layout:
        assert layout.active
        assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert model.conv.weight.is_contiguous()


def test_what_is_measured_is_measured_in_the_usual_layout():
    """At the boundary a rounding decides: the images that are handed out stand when the user asks again."""
    model, x = Net(False).eval(), images(64)
    y = predicted(model, x)
    seen = []
    model.register_forward_hook(lambda *_: seen.append(model.conv.weight.is_contiguous()))
    found = assay.attack(model, x, y, assay.FMN(20), preflight=False)
    assert seen[0]  # the clean images
    assert not all(seen)
    broken = ~found.robust
    assert bool((predicted(model, found.images)[broken] != y[broken]).all())
