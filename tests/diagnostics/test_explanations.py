"""Attacks on explanations, accuracy over budgets, and the saliency of dual perturbations, by hand."""

import pytest
import torch
from torch import nn

import assay
from assay.data import scenes
from assay.diagnostics import attribution, budgets, suspicion
from assay.diagnostics.explanations import Softened, saliency, shared_top, spearman
from assay.models import build
from models_for_tests import Counting, Linear, mlp, predicted


def test_two_maps_side_by_side():
    before, after = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]]), torch.tensor([[[4.0, 1.0], [3.0, 2.0]]])
    assert shared_top(before, after, 1).tolist() == [1.0]
    assert shared_top(before, after, 2).tolist() == [0.5]
    assert spearman(before, before).tolist() == pytest.approx([1.0])
    assert spearman(before, -before).tolist() == pytest.approx([-1.0])
    assert spearman(before, after).tolist() == pytest.approx([1 - 6 * (0 + 4 + 1 + 1) / (4 * 15)])


def test_the_saliency_of_a_linear_model_cannot_be_moved():
    weight = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]], [[[4.0, 3.0, 2.0, 1.0]]]])
    model, x = Linear(weight), torch.rand(5, 1, 1, 4, generator=torch.Generator().manual_seed(0))
    y = predicted(model, x)
    assert saliency(model, x[:1], torch.tensor([0])).flatten().tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    found = attribution({"linear": model}, x, y, eps=0.1, k=2, steps=5)
    assert found.top["linear"].tolist() == [1.0] * 5
    assert found.rank["linear"].tolist() == pytest.approx([1.0] * 5)


def test_an_explanation_is_moved_and_the_answer_stays():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(512, 3),
    )
    x = torch.rand(12, 1, 8, 8)
    y = predicted(model, x)
    found = attribution({"cnn": model}, x, y, eps=0.1, k=10, steps=10)
    assert float(found.top["cnn"].mean()) < found.noise["cnn"] - 0.05
    assert model[1].inplace
    assert "cnn" in found.verdict()
    assert len(found.frame()) == 1
    with pytest.raises(ValueError, match="k: expected at most the 64 pixels"):
        attribution({"cnn": model}, x, y, eps=0.1, k=65)


class Flat(nn.Module):
    """Right about class 0 everywhere; its logits have a slope where the first pixel is above a half, or none at all."""

    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        first = x[:, 0, 0, 0]
        steep = (first - 0.5).clamp_min(0) if self.slope else (first > 2).float()
        return torch.stack([1 + steep, torch.zeros_like(steep)], 1)


@pytest.mark.parametrize("explanation", ["gradient", "integrated-gradients"])
def test_where_there_is_no_saliency_there_is_no_answer(explanation):
    x = torch.tensor([0.2, 0.8, 0.9]).view(3, 1, 1, 1).expand(3, 1, 2, 2).clone()
    y = torch.zeros(3, dtype=torch.int64)
    answer = attribution({"m": Flat(True)}, x, y, eps=0.1, steps=2, k=1, explanation=explanation)
    assert len(answer.top["m"]) == 2
    with pytest.raises(ValueError, match=r"models: expected models with a gradient at an image, got m, whose saliency"):
        attribution({"m": Flat(False)}, x, y, eps=0.1, steps=2, k=1, explanation=explanation)
    with pytest.raises(ValueError, match="models: expected at least one model"):
        attribution({}, x, y, eps=0.1, explanation=explanation)


def test_integrated_gradients_of_a_linear_model_are_its_terms():
    weight = torch.tensor([[[[1.0, -2.0, 3.0, 4.0]]], [[[4.0, 3.0, 2.0, 1.0]]]])
    x = torch.tensor([[[[0.1, 0.2, 0.0, 0.5]]]])
    terms = saliency(Linear(weight), x, torch.tensor([0]), explanation="integrated-gradients")
    assert terms.flatten().tolist() == pytest.approx([0.1 / 2.5, 0.4 / 2.5, 0.0, 2.0 / 2.5])


def test_integrated_gradients_add_up_to_the_change_of_the_logit():
    """The points of the path are even and in the middle: a quadratic logit is integrated exactly."""

    class Quadratic(nn.Module):
        def forward(self, x):
            return torch.stack([x.flatten(1).square().sum(1), x.flatten(1).sum(1)], 1)

    x = torch.tensor([[[[0.2, 0.4]]]])
    terms = saliency(Quadratic(), x, torch.tensor([0]), explanation="integrated-gradients")
    assert terms.flatten().tolist() == pytest.approx([0.04 / 0.2, 0.16 / 0.2])


def test_integrated_gradients_are_moved_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 3))
    x = torch.rand(6, 1, 8, 8)
    y = predicted(model, x)
    moved = attribution({"m": model}, x, y, eps=0.1, k=10, steps=10, explanation="integrated-gradients")
    assert float(moved.top["m"].mean()) < moved.noise["m"]
    assert moved.frame()[0]["explanation"] == "integrated-gradients"
    assert "(integrated gradients)" in moved.verdict()
    with pytest.raises(ValueError, match="explanation: expected"):
        attribution({"m": model}, x, y, eps=0.1, k=10, explanation="lime")


def test_softplus_stands_for_relu_while_the_block_lasts():
    zero, calls = torch.zeros(1), (nn.ReLU(), nn.ReLU(inplace=True), nn.functional.relu, torch.relu, lambda x: x.relu())
    for relu in calls:
        with Softened():
            assert float(relu(zero.clone())) == pytest.approx(0.6931 / 30, rel=1e-3)
        assert float(relu(zero.clone())) == 0
    with Softened():
        assert float(nn.LeakyReLU(0.2)(torch.tensor([-10.0]))) == pytest.approx(-2.0)
        assert float(nn.functional.leaky_relu(zero, 0.2)) == pytest.approx(0.8 * 0.6931 / 30, rel=1e-3)


def test_networks_that_call_relu_as_a_function_are_attacked_too():
    torch.manual_seed(0)
    model = build("resnet18", channels=3, classes=3, size=8).eval()
    x = torch.rand(4, 3, 8, 8)
    found = attribution({"r": model}, x, predicted(model, x), eps=0.05, steps=6)
    assert float(found.top["r"].mean()) < found.noise["r"]


def test_ctrl_c_within_an_attack_is_no_answer():
    model = mlp()
    x = torch.rand(6, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    counting = Counting(model, fail_at=8, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        budgets({"m": counting}, x, predicted(model, x), lambda e: assay.PGD(e, steps=3), [0.01, 0.02, 0.03])


def test_accuracy_over_budgets_of_a_linear_model():
    """Two pixels, weights ±1: an image with margin m falls at the budget m / 2."""
    weight = torch.tensor([[[[0.5, 0.5]]], [[[-0.5, -0.5]]]])
    x = 0.5 + torch.tensor([0.02, 0.06, 0.10, 0.14]).view(4, 1, 1, 1).expand(4, 1, 1, 2) / 2
    model = Linear(weight, bias=torch.tensor([-0.5, 0.5]))
    found = budgets({"linear": model}, x, torch.zeros(4).long(), lambda e: assay.PGD(e, steps=3), [0.06, 0.02, 0.04])
    assert found.eps == (0.0, 0.02, 0.04, 0.06)
    assert found.accuracy["linear"] == (1.0, 0.75, 0.5, 0.25)
    assert found.half["linear"] == pytest.approx(0.04)
    assert "linear 0.04" in found.verdict()
    with pytest.raises(ValueError, match="at least one budget"):
        budgets({"linear": model}, x, torch.zeros(4).long(), assay.PGD, [])


class Even(nn.Module):
    def forward(self, x):
        return torch.full_like(x[:, :1], 1 / x[0, 0].numel()) + 0 * x[:, :1]


def test_the_score_of_an_even_saliency_is_the_share_of_the_foreground():
    data = scenes("test", 8, size=16)
    model = mlp(classes=8, size=16, channels=3)
    found = suspicion(
        {"m": model}, data.images(), data.y, data.masks, eps=0.02, eps_background=0.1, lambdas=(0, 5), saliency=Even()
    )
    share = float(data.masks.float().flatten(1).mean(1).mean())
    assert found.clean == pytest.approx(share, rel=1e-4)
    assert found.score["m"] == pytest.approx((share, share), rel=1e-4)
    assert found.accuracy["m"][0] == found.accuracy["m"][1]
    assert len(found.frame()) == 2


def test_more_weight_on_saliency_gives_a_higher_score():
    data = scenes("test", 12, size=32)
    model = mlp(classes=8, size=32, channels=3)
    found = suspicion(
        {"m": model}, data.images(), data.y, data.masks, eps=4 / 255, eps_background=20 / 255, lambdas=(0, 1000)
    )
    assert found.score["m"][1] > found.score["m"][0]
