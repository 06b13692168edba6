"""Rivals on models and budgets of other kinds than those they were written for: C8, C15, C17; A13's other caller."""

import pytest
import torch
from torch import nn

from assay.core.model_calls import classify
from assay.data import load
from assay.parts.balls import Ball, Split
from assay.trust import CheckRequest, Level, run_checks
from assay.trust.budgets import balls_or_regions
from assay.trust.forecast import forecast
from assay.trust.rivals.inner_layers import InnerLayer, inner_scores, layer_values
from assay.trust.rivals.stored_images import cut_to_levels, form_of
from core.test_model_calls import KINDS, X
from trust.cases import data, examined, trained
from trust.failures.base import network
from trust.failures.led_astray import AlwaysSecond, KnowsLevels, Valley


def answer(name, model, attacks=("pgd:steps=5",), **more):
    return run_checks(examined(model, attacks, **more), only=(name,))[name][0]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("bound forward", "partial")])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # as in `test_kinds_of_models`
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_models_of_any_kind_answer_in_another_thread(kind):
    model = KINDS[kind]()
    y = classify(model, X).argmax(1).detach()
    assert not answer("A13", model, ("noise:draws=2",), x=X, y=y).failed


def test_a_default_device_is_that_of_the_other_thread_too():
    class MakesTensors(nn.Module):
        """On the default device, which one may have set, and which belongs to a thread."""

        def forward(self, x):
            assert torch.get_default_device() == torch.device("cpu")
            return x.flatten(1)[:, :8] * torch.arange(1.0, 9.0)

    torch.set_default_device("cpu")
    try:
        assert not answer("A13", MakesTensors(), count=12).failed
    finally:
        torch.set_default_device(None)


class Heads(nn.Module):
    """A network, and a head that says nearly the same last, though nobody asks it."""

    def __init__(self, model):
        super().__init__()
        self.model, self.last = Valley(model), nn.Linear(3 * 16 * 16, 8)

    def forward(self, x):
        z = self.model(x)
        idle = self.last(x.flatten(1)) * 1e-3 + self.model.model(x)
        return z + 0 * (idle @ torch.eye(8))


def test_scores_inside_are_those_that_give_the_classes_and_are_not_the_outputs():
    x, _ = data(24)
    plain = trained()
    assert inner_scores(plain, x, plain(x), 8, 2) == []
    scaled = nn.Sequential(plain, nn.Linear(8, 8))
    with torch.no_grad():
        scaled[1].weight.copy_(10 * torch.eye(8))
        scaled[1].bias.fill_(3.0)
    assert inner_scores(scaled, x, scaled(x), 8, 2) == []
    valley = Valley(plain)
    (layer,) = inner_scores(valley, x, valley(x), 8, 2)
    assert torch.allclose(layer(x), plain(x), atol=1e-5)
    heads = Heads(plain)
    layers = inner_scores(heads, x, heads(x), 8, 3)
    assert any(torch.allclose(one(x), plain(x), atol=1e-2) for one in layers)


def test_a_layer_that_is_not_reached_says_so():
    with pytest.raises(RuntimeError, match="not reached"):
        InnerLayer(trained(), 99)(data(4)[0])
    assert len(layer_values(trained(), data(4)[0])) == 4


def test_what_read_outs_cost_the_model_is_counted_beforehand():
    exam = examined(trained("pgd-at"), ("pgd:steps=2",), count=24)
    left = len(exam.survivors())
    assert left
    assert forecast(exam, [CheckRequest("C15")]).passes >= 2 * 4 * 15 * 2 * left  # read-outs, rounds, steps, both ways


@pytest.mark.parametrize("attacks", [("pgd:steps=20",), ("apgd:steps=20,loss=dlr,targets=3",)])
def test_targets_are_classes_that_occur(attacks):
    model = network("digits")
    digits = load("digits", split="test", limit=48)
    x, y = digits.images(), digits.y
    astray = AlwaysSecond(model, x[0].numel(), 10)
    assert answer("C8", astray, attacks, x=x, y=y, eps=0.25).level is Level.WARNING

    class Idle(nn.Module):
        """With outputs that are out of the question, as a head for more classes has."""

        def forward(self, x):
            return nn.functional.pad(model(x), (0, 5), value=-50.0)

    assert answer("C8", Idle(), ("apgd:steps=40", "apgd:steps=40,loss=dlr,targets=9"), x=x, y=y, eps=0.25).level in (
        Level.PASSED,
        Level.NOT_APPLICABLE,
    )


def test_images_between_levels_are_told_from_others_in_two_regions_too():
    """Its fragile part has no slope there: what C15 makes on scores inside it is tried as 8-bit images."""
    scenes = load("scenes:size=16,count=1200", split="test", limit=48)
    x, dual = (scenes.images() * 255).round() / 255, ("dual:steps=10,eps_background=0.0471",)
    split = {"x": x, "y": scenes.y, "eps": 4 / 255, "masks": scenes.masks}
    astray = KnowsLevels(network("scenes"), network("scenes plain"))
    assert answer("C15", astray, dual, **split).level is Level.WARNING
    honest = run_checks(
        examined(network("scenes"), (*dual, "dual-apgd:steps=60,eps_background=0.0471"), **split), only=("C15", "C17")
    )
    assert [honest[name][0].level for name in ("C15", "C17")] == [Level.PASSED] * 2, honest


def test_regions_are_searched_where_no_ball_is_claimed():
    ball, split = Ball("linf", 0.1), Split(Ball("linf", 0.1), Ball("linf", 0.2))
    assert balls_or_regions([split, ball, Ball("l2", 0.0)]) == [ball]
    assert balls_or_regions([split]) == [split]


FORMS = {
    "few values": (torch.rand(9, 1, 8, 8) * 16).round() / 16,
    "grey": (torch.rand(9, 1, 8, 8) * 255).round().expand(9, 3, 8, 8) / 255,
    "a border": nn.functional.pad(torch.rand(9, 3, 6, 6), (1, 1, 1, 1), value=0.25),
}


@pytest.mark.parametrize("what", FORMS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_the_data_have_in_common_is_kept(what, norm):
    """Images of that form, between the clean one and the attack's, so that the budget is kept."""
    clean = FORMS[what]
    form = form_of(clean)
    images = (clean + 0.2 * torch.randn_like(clean)).clamp(0, 1)
    for kept in (form.near(images, clean[0]), form.cut(clean, images)):
        assert kept.shape == clean.shape
        assert form.levels is None or bool(torch.isin(kept, form.levels).all())
        assert not form.grey or torch.equal(kept, kept[:, :1].expand_as(kept))
        assert form.constant is None or torch.allclose(kept[:, form.constant], clean[:, form.constant], atol=3e-3)
    size = torch.inf if norm == "linf" else 2
    before, after = (torch.linalg.vector_norm((z - clean).flatten(1), size, dim=1) for z in (images, kept))
    assert bool((after <= before + 1e-4).all())
    assert form_of(torch.rand(9, 3, 8, 8)) is None


def test_a_noisy_image_gets_one_answer_in_any_company():
    class Company(nn.Module):
        """Turns its answers in a batch of which some images are noisy and some are not."""

        def forward(self, x):
            z, noisy = x.flatten(1) @ torch.eye(64, 4), x.diff(dim=3).abs().mean((1, 2, 3)) > 0.1
            return -z if bool(noisy.any()) and not bool(noisy.all()) else z

    x = torch.full((32, 1, 8, 8), 0.5)
    x[:, 0, 0, :4] += 0.1 * torch.rand(32, 4)
    y = x[:, 0, 0, :4].argmax(1)
    honest = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    assert answer("A3", honest, ("fgsm",), x=x, y=y, eps=0.2).level is Level.PASSED
    assert answer("A3", Company(), ("fgsm",), x=x, y=y, eps=0.2).level is Level.ISSUE


@pytest.mark.parametrize("data", ["digits", "scenes:size=16,count=400"])
@pytest.mark.parametrize("written", [True, False])
def test_a_label_at_the_edge_is_read(data, written):
    images = load(data, split="test", limit=64)
    x, y = images.images(), images.y
    if written:
        x[:, :, -1, 2:5] = torch.stack([(y >> bit) % 2 for bit in range(3)], 1)[:, None].float() * 0.5
        x[:, :, 0, 0] = (y >> 3)[:, None].float() * 0.5
    level = answer("E9", nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 10)), ("fgsm",), x=x, y=y, eps=0.1).level
    assert level is (Level.WARNING if written else Level.PASSED)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_images_that_are_cut_to_levels_lie_no_further(norm):
    clean = (torch.rand(6, 3, 8, 8) * 255).round() / 255
    images = (clean + 0.1 * torch.randn_like(clean)).clamp(0, 1)
    cut = cut_to_levels(clean, images)
    assert torch.allclose(cut * 255, (cut * 255).round(), atol=1e-3)
    size = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
    before, after = (torch.linalg.vector_norm((z - clean).flatten(1), size, dim=1) for z in (images, cut))
    assert bool((after <= before + 1e-4).all())
    assert float((cut - images).abs().max()) <= 1 / 255 + 1e-5
