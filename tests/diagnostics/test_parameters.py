"""Saliency of filters: equation 6 by hand, against loops and against finite differences."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import assay
from assay.diagnostics import Parameters, Standard, filter_gradients, filters_of, input_saliency, parameters
from assay.diagnostics.filters import sorted_profile
from assay.models import build


def two_filters():
    """Two logits, each from a filter of two weights, at 0: probabilities are a half each."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    nn.init.zeros_(model[1].weight)
    return model


def test_equation_six_on_two_filters():
    """The gradient of the cross-entropy for label 0 is (−½, ½) ⊗ x: each filter's mean absolute one is mean|x| / 2."""
    x = torch.tensor([[2.0, 0.0], [4.0, 2.0], [1.0, 1.0]]).view(3, 1, 1, 2)
    gradients = filter_gradients(two_filters(), x, torch.zeros(3).long(), chunk=2)
    assert gradients.tolist() == [[0.5, 0.5], [1.5, 1.5], [0.5, 0.5]]
    standard = Standard.of(gradients[:2])  # mean 1, deviation ½
    assert standard.mean.tolist() == [1.0, 1.0]
    assert standard.deviation.tolist() == [0.5, 0.5]
    assert standard.saliency(torch.tensor([[3.0, 0.5]])).tolist() == [[4.0, 1.0]]
    with pytest.raises(ValueError, match="those of at least 2 images"):
        Standard.of(gradients[:1])


def test_a_filter_that_never_varies_is_not_salient():
    standard = Standard.of(torch.tensor([[1.0, 2.0], [1.0, 4.0]]))
    assert standard.saliency(torch.tensor([[5.0, 5.0]])).tolist() == [[0.0, 2.0]]


def test_profiles_are_sorted_layer_by_layer():
    saliency = torch.tensor([[1.0, 3.0, 0.0, 5.0, 4.0], [2.0, 0.0, 7.0, 1.0, 3.0]])
    assert sorted_profile(saliency, {"a": 2, "b": 3}).tolist() == [2.5, 0.5, 6.0, 3.5, 0.5]
    levels = torch.stack([saliency[:, :2].mean(1), saliency[:, 2:].mean(1)], 1)
    profiles = Parameters(
        {"a": 2, "b": 3}, {"PGD": sorted_profile(saliency, {"a": 2, "b": 3})}, {"PGD": 2}, {"PGD": levels}
    )
    assert profiles.by_layer("PGD") == pytest.approx({"a": 1.5, "b": 10 / 3})
    assert "PGD layer 2 of 2 (3.3 deviations)" in profiles.verdict()
    *layers, depth = profiles.frame()
    assert [row["layer"] for row in layers] == ["a", "b"]
    assert depth["layer"] == "last third less first third"
    assert depth["saliency"] == pytest.approx(10 / 3 - 1.5)  # of the images: 3 − 2 and 11 / 3 − 1
    assert (depth["saliency from"] + depth["saliency to"]) / 2 == pytest.approx(depth["saliency"])
    assert depth["saliency to"] - depth["saliency"] == pytest.approx(12.706 * 5 / 6, rel=1e-3)  # Student, 1 degree


@pytest.mark.parametrize("arch", ["tiny-cnn", "preactresnet18"])
def test_gradients_at_once_are_those_of_one_image_after_the_other(arch):
    torch.manual_seed(0)
    model = build(arch, channels=3, classes=4, size=16).eval()
    x, y = torch.rand(3, 3, 16, 16), torch.tensor([0, 3, 1])
    found = filter_gradients(model, x, y, chunk=2)
    names = filters_of(model)
    assert found.shape == (3, sum(names.values()))
    own = copy.deepcopy(model).requires_grad_(True)
    for i in range(3):
        own.zero_grad()
        F.cross_entropy(own(x[i : i + 1]), y[i : i + 1]).backward()
        weights = dict(own.named_parameters())
        expected = torch.cat([weights[name].grad.abs().flatten(1).mean(1) for name in names])
        assert torch.allclose(found[i], expected, rtol=1e-3, atol=1e-6)
    assert not any(p.grad is not None for p in model.parameters())


class Twice(nn.Module):
    """A layer that is called twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.conv(torch.tanh(self.conv(x)))[..., :2, :2].flatten(1))


class Changed(nn.Module):
    """The input of a layer is changed after it has been used."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(72, 3)

    def forward(self, x):
        z = x * 2
        out = self.conv(z)
        with torch.no_grad():
            z.add_(1)
        return self.head(torch.tanh(out).flatten(1))


class Unused(nn.Module):
    """A layer whose output is thrown away."""

    def __init__(self):
        super().__init__()
        self.idle, self.head = nn.Linear(72, 2), nn.Linear(72, 3)

    def forward(self, x):
        self.idle(x.flatten(1))
        return self.head(x.flatten(1))


def tied():
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 72), nn.Tanh(), nn.Linear(72, 72), nn.Tanh(), nn.Linear(72, 3))
    model[3].weight = model[1].weight
    return model


@pytest.mark.parametrize(
    "model",
    [
        Twice(),
        Unused(),
        tied(),
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 3)),
        nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)),
        nn.Sequential(nn.Conv2d(2, 4, 3, padding="same", dilation=2), nn.Flatten(), nn.Linear(144, 3)),
        nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, dilation=2, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3)),
        nn.Sequential(nn.Flatten(2), nn.Linear(36, 4), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)),
    ],
    ids=["twice", "unused", "tied", "inplace", "groups", "same", "stride", "sequence"],
)
def test_gradients_of_unusual_layers(model):
    torch.manual_seed(0)
    x, y = torch.rand(3, 2, 6, 6), torch.tensor([0, 2, 1])
    found, names = filter_gradients(model, x, y), filters_of(model)
    weights = dict(model.named_parameters())
    for i in range(3):
        loss = F.cross_entropy(model(x[i : i + 1].clone()), y[i : i + 1])
        own = [weights[name] for name in names]
        slopes = torch.autograd.grad(loss, own, allow_unused=True, materialize_grads=True)
        expected = torch.cat([slope.abs().flatten(1).mean(1) for slope in slopes])
        assert torch.allclose(found[i], expected, rtol=1e-4, atol=1e-7)


def test_an_input_that_is_changed_after_its_use_is_an_error_and_no_number():
    with pytest.raises(RuntimeError, match="inplace operation"):
        filter_gradients(Changed(), torch.rand(3, 2, 6, 6), torch.tensor([0, 2, 1]))


def test_input_saliency_is_the_slope_of_the_cosine_distance():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)).double()
    x, y = torch.rand(2, 1, 3, 3, dtype=torch.float64), torch.tensor([0, 2])
    standard = Standard.of(filter_gradients(model, torch.rand(9, 1, 3, 3, dtype=torch.float64), torch.arange(9) % 3))
    found = input_saliency(model, x, y, standard, top=2, boost=100.0)
    assert found.shape == x.shape
    for i in range(2):
        base = standard.saliency(filter_gradients(model, x[i : i + 1], y[i : i + 1]))[0]
        boosted = base.clone()
        boosted[base.topk(2).indices] *= 100
        for place in ((0, 0), (1, 2), (2, 1)):
            sides = []
            for sign in (1, -1):
                moved = x[i : i + 1].clone()
                moved[0, 0, place[0], place[1]] += sign * 1e-6
                near = standard.saliency(filter_gradients(model, moved, y[i : i + 1]))[0]
                sides.append(1 - F.cosine_similarity(near, boosted, dim=0))
            slope = abs(float(sides[0] - sides[1])) / 2e-6
            assert float(found[i, 0, place[0], place[1]]) == pytest.approx(slope, rel=1e-3, abs=1e-7)


def test_profiles_of_attacks():
    torch.manual_seed(0)
    model = build("tiny-cnn", channels=1, classes=3, size=8).eval()
    x = torch.rand(20, 1, 8, 8)
    with torch.no_grad():
        y = model(x).argmax(1)
    found = parameters(model, x, y, {"PGD": assay.PGD(0.3, steps=5), "none": assay.PGD(0.0, steps=1)}, (x, y))
    assert found.counts["clean"] == 20
    assert found.counts["none"] == 0
    assert found.counts["PGD"] > 0
    assert len(found.frame()) == 3 * (len(found.layers) + 1)
    assert found.figure() is not None
    assert [title for title, _ in found.shown] == [
        "clean",
        "PGD",
        "none",
        "clean: pixels",
        "PGD: pixels",
        "none: pixels",
    ]
    assert found.pictures() is not None


def test_weights_that_are_tied_or_made_of_others_and_random_networks():
    tied = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4))
    tied[2].weight = tied[1].weight
    assert filters_of(tied) == {"1.weight": 4}
    torch.manual_seed(0)
    normed = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 3, 3)), nn.Flatten()
    )
    assert filters_of(normed) == {"0.weight": 2}
    x, y = torch.rand(3, 1, 5, 5), torch.tensor([0, 1, 2])
    assert filter_gradients(normed.eval(), x, y).shape == (3, 2)
    noisy = build("tiny-cnn+noise", channels=1, classes=3, size=8).eval()
    assert filter_gradients(noisy, torch.rand(2, 1, 8, 8), y[:2]).isfinite().all()


def test_an_attack_that_turns_nothing_is_said_to():
    nothing = Parameters({"a": 2}, {"weak": torch.full((2,), torch.nan)}, {"weak": 0}, {"weak": torch.zeros(0, 1)})
    assert "weak breaks no image" in nothing.verdict()
    assert nothing.frame()[0]["saliency from"] is None
    none = torch.zeros(0, 1)
    assert "no clean image is right" in Parameters({"a": 2}, {"clean": none}, {"clean": 0}, {"clean": none}).verdict()
    with pytest.raises(ValueError, match="attacks: expected at least one attack"):
        parameters(two_filters(), torch.rand(2, 1, 1, 2), torch.zeros(2).long(), {}, (torch.rand(2, 1, 1, 2), y_of(2)))


def test_saliency_is_standardised_over_two_images_at_least():
    x = torch.rand(2, 1, 1, 2)
    with pytest.raises(
        ValueError, match="validation: expected at least 2 images, over which saliency is standardised, go"
    ):
        parameters(two_filters(), x, y_of(2), {"a": assay.FGSM(0.1)}, (x[:1], y_of(1)))


def y_of(n):
    return torch.zeros(n, dtype=torch.int64)


def test_a_model_without_filters():
    with pytest.raises(ValueError, match="at least one convolution or linear layer"):
        filters_of(nn.Flatten())
