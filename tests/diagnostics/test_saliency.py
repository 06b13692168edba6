"""Saliency maps, activation maps and scores of perturbations, by hand."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import assay
from assay.diagnostics import (
    activation_map,
    adversarial_saliency,
    boolean_map,
    interpretability,
    interpretability_score,
)
from models_for_tests import Linear, mlp, predicted

WEIGHT = torch.tensor([[[[-2.0, 1.0, -1.0, 3.0]]], [[[3.0, 2.0, -1.0, 4.0]]], [[[1.0, -4.0, -1.0, -5.0]]]])
"""Three classes, four pixels."""


def test_the_adversarial_saliency_of_a_linear_model():
    """t0 = 0, t = 1. The sums over j ≠ 1 are (−1, −3, −2, −2); ∂Z_1 is (3, 2, −1, 4); ∂Z_0 is (−2, 1, −1, 3)."""
    found = adversarial_saliency(Linear(WEIGHT), torch.rand(2, 1, 1, 4), torch.zeros(2).long(), torch.ones(2).long())
    for i in range(2):
        assert found.promotion[i].flatten().tolist() == [3, 2, -1, 4]
        assert found.suppression[i].flatten().tolist() == [2, -1, 1, -3]
        assert found.full[i].flatten().tolist() == [3, 6, 0, 8]  # equation 60
        assert found.dual[i].flatten().tolist() == [6, 0, 0, 0]  # equation 61


def test_saliency_of_every_pixel_is_the_sum_written_out():
    """Equation 60 with its sum over classes one by one, on a curved network."""
    model, x = mlp(), torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    y, target = torch.tensor([0, 1, 2]), torch.tensor([3, 0, 1])
    found = adversarial_saliency(model, x, y, target, batch=2)
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda z: model(z)[0], x[i : i + 1])[:, 0]
        others = sum(jacobian[j] for j in range(4) if j != target[i])
        chosen = (jacobian[target[i]] >= 0) & (others <= 0)
        expected = torch.where(chosen, jacobian[target[i]] * others.abs(), 0.0)
        assert torch.allclose(found.full[i], expected, atol=1e-6)


def test_labels_that_cannot_be():
    x = torch.rand(2, 1, 1, 4)
    with pytest.raises(ValueError, match="target: expected labels other than the true ones"):
        adversarial_saliency(Linear(WEIGHT), x, torch.tensor([0, 1]), torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="a label for each of the 2 images"):
        adversarial_saliency(Linear(WEIGHT), x, torch.tensor([0, 1]), torch.tensor([1]))


def test_a_boolean_map_and_the_score():
    scores = torch.tensor([[[[0.0, 1.0, 2.0, 3.0, 4.0]]], [[[4.0, 3.0, 2.0, 1.0, 0.0]]]])
    chosen = boolean_map(scores, 50)
    assert chosen.flatten(1).tolist() == [[False, False, False, True, True], [True, True, False, False, False]]
    delta = torch.tensor([[[[4.0, 0, 0, 3.0, 0]]], [[[3.0, 4.0, 0, 0, 0]]]])
    assert interpretability_score(delta, chosen).tolist() == pytest.approx([3 / 5, 1.0])
    assert interpretability_score(torch.zeros_like(delta), chosen).isnan().all()


class Pooled(nn.Module):
    """Two feature maps, their means, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 1, bias=False)
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.maps.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
            self.head.weight.copy_(torch.tensor([[2.0, 1.0], [1.0, 3.0]]))

    def forward(self, x):
        return self.head(self.maps(x).mean((2, 3)))


def test_a_class_activation_map_where_the_head_allows_it():
    x = torch.tensor([[[[1.0, -2.0], [3.0, 0.0]]]])
    found, kind = activation_map(Pooled(), x, torch.tensor([0]))
    assert kind == "CAM"
    assert not found.requires_grad
    assert found[0, 0].tolist() == [[1.0, 0.0], [3.0, 0.0]]  # (2 − 1)·x, not negative
    found, _ = activation_map(Pooled(), x, torch.tensor([1]))
    assert found[0, 0].tolist() == [[0.0, 4.0], [0.0, 0.0]]  # (1 − 3)·x


def test_grad_cam_where_it_does_not():
    """Grad-CAM of a pooled head is the activation map over the number of places; of a flat head what captum says."""
    pytest.importorskip("captum")
    x = torch.tensor([[[[1.0, -2.0], [3.0, 0.0]]]])
    model = Pooled()
    found, kind = activation_map(model, x, torch.tensor([0]), layer=model.maps)
    assert kind == "Grad-CAM"
    assert found[0, 0].tolist() == [[0.25, 0.0], [0.75, 0.0]]
    flat = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    found, kind = activation_map(flat, torch.rand(2, 1, 4, 4), torch.tensor([0, 2]))
    assert kind == "Grad-CAM"
    assert found.shape == (2, 1, 4, 4)
    assert (found >= 0).all()


class Aside(nn.Module):
    """A linear layer that is never called, after the one that is."""

    def __init__(self):
        super().__init__()
        self.inner, self.unused = Pooled(), nn.Linear(2, 2)

    def forward(self, x):
        return self.inner(x)


def test_a_head_that_is_not_used_is_none():
    pytest.importorskip("captum")
    _, kind = activation_map(Aside(), torch.rand(1, 1, 2, 2), torch.tensor([0]))
    assert kind == "Grad-CAM"


def test_without_convolutions_the_other_maps_are_answer_enough():
    model = mlp()
    x = torch.rand(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    y = predicted(model, x)
    found = interpretability(model, x, y, (y + 1) % 4, {"PGD": assay.PGD(0.5, steps=20)})
    assert set(found.score) == {"full", "dual", "promotion", "suppression"}
    assert "No activation map: model: expected a network with convolutions" in found.verdict()


def test_scores_of_attacks_on_images_that_all_of_them_turned():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(144, 4))
    x = torch.rand(6, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    y = predicted(model, x)
    attacks = {"PGD": assay.PGD(0.3, steps=10), "DDN": assay.attacks.DDN(steps=20)}
    found = interpretability(model, x, y, (y + 1) % 4, attacks)
    assert set(found.score) == {"full", "dual", "promotion", "suppression", "Grad-CAM"}
    for by in found.score.values():
        for values in by.values():
            assert all(0 <= v <= 1 for v in values)
            assert all(b <= a + 1e-6 for a, b in pairwise(values))  # a higher percentile leaves less of it
    assert found.count == len(found.each["full"]["PGD"])
    assert len(found.shown) % found.columns == 0
    assert "PGD" in found.verdict()
    with pytest.raises(ValueError, match="at least one image that all of them turn"):
        interpretability(model, x, y, (y + 1) % 4, {"none": assay.PGD(0.0, steps=1)})
