"""Diagnostics of one or several models, by hand."""

import pytest
import torch
from torch import nn

import assay
from assay.corruptions import Damage
from assay.diagnostics import Profile, Tradeoff, gradients, surface, tradeoff
from models_for_tests import Linear, mlp, predicted


def test_the_gradient_of_a_linear_model_lies_where_its_weights_do():
    weight = torch.zeros(2, 1, 2, 2)
    weight[1, 0, 0, 0], weight[1, 0, 1, 1] = 3.0, 1.0
    x, y = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.ones(5, dtype=torch.int64)
    masks = torch.zeros(5, 1, 2, 2)
    masks[:, 0, 0] = 1  # the upper row: 3 of 4 parts of the gradient
    found = gradients({"linear": Linear(weight)}, x, y, masks=masks)
    assert found.inside["linear"].tolist() == pytest.approx([0.75] * 5)
    assert found.foreground == 0.5
    assert "50 % of the pixels: linear 75 %" in found.verdict()
    bare = gradients({"linear": Linear(weight)}, x, y)
    assert bare.inside is None
    assert bare.frame()[0]["on the foreground"] is None


class Straight(nn.Module):
    """Two logits whose cross-entropy is nearly linear where the second is far below."""

    def forward(self, x):
        z = 50 * x.flatten(1).mean(1)
        return torch.stack([torch.zeros_like(z), -z - 20], 1)


def test_a_linear_loss_has_no_bend():
    x, y = torch.full((3, 1, 2, 2), 0.5), torch.ones(3, dtype=torch.int64)
    found = surface({"straight": Straight()}, x, y, eps=0.1, places=5)
    assert found.bend["straight"] == pytest.approx(0, abs=1e-4)
    assert found.loss["straight"][4, 2] - found.loss["straight"][0, 2] == pytest.approx(10.0, rel=1e-4)
    assert len(found.frame()) == 25
    x = torch.rand(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    curved = surface({"mlp": mlp()}, x, torch.zeros(4, dtype=torch.int64), eps=0.2, places=4)
    assert len(curved.steps) == 5
    assert curved.bend["mlp"] > 0.01


def test_the_frontier():
    found = Tradeoff(("a", "b", "c", "d"), (0.9, 0.8, 0.8, 0.7), (0.1, 0.5, 0.4, 0.6), "PGD", 100)
    assert found.frontier == ("a", "b", "d")
    assert [row["on the frontier"] for row in found.frame()] == [True, True, False, True]
    model = mlp()
    x = torch.rand(20, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    y = predicted(model, x)
    measured = tradeoff({"m": model}, x, y, assay.PGD(0.1, steps=5))
    assert measured.clean == (1.0,)
    assert measured.robust == (assay.attack(model, x, y, assay.PGD(0.1, steps=5), preflight=False).robust_accuracy,)


def test_a_profile_names_what_hurts_most():
    found = Profile({"m": Damage(0.9, {"fog": (0.8,) * 5, "snow": (0.4,) * 5}, 10)})
    assert "m 60 % of 90 % clean (least under snow: 40 %)" in found.verdict()
    assert len(found.frame()) == 10
