"""Diagnostics of a training trail: quantities that can be worked out by hand, and a small trail end to end."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from torch import nn

import assay
from assay.data import Dataset, load
from assay.diagnostics import (
    Answer,
    Sharedness,
    Stability,
    Trail,
    Transfer,
    destruction,
    destruction_rate,
    detectability,
    learning,
    load_trail,
    sharedness,
    spread,
    stability,
    transfer,
    universality,
)
from assay.diagnostics.detectability import best_threshold
from assay.diagnostics.sharedness import log_correlation
from assay.training import Recipe, train


class Plane(nn.Module):
    """Two classes by the sign of ``w·(sum of x − middle)``."""

    def __init__(self, w, middle=0.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(float(w)))
        self.middle = middle

    def forward(self, x):
        z = self.w * (x.flatten(1).sum(1) - self.middle)
        return torch.stack([-z / 2, z / 2], 1)


def one_pixel(*values):
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_a_profile_of_two_epochs_by_hand():
    """p(y=1 | x) = sigmoid(w·x): FGSM by 0.1 against each network's own sign, tried on both."""
    trail = Trail({0: Plane(2.0), 1: Plane(-3.0)})
    x, y = one_pixel(0.5, 0.8), torch.tensor([1, 1])
    found = stability(trail, x, y, assay.FGSM(0.1))

    def p(w, v):
        return 1 / (1 + math.exp(-w * v))

    for i, v in enumerate((0.5, 0.8)):
        expected = [[p(2, v - 0.1), p(-3, v - 0.1)], [p(2, v + 0.1), p(-3, v + 0.1)]]
        assert np.allclose(found.profile[i].numpy(), expected, atol=1e-6)
        assert found.max_min[i] == pytest.approx(min(max(row) for row in expected))
        assert found.min_max[i] == pytest.approx(max(min(column) for column in zip(*expected, strict=True)))
    assert "100 % robust" in found.verdict()


def test_kinds_of_profiles():
    robust = torch.tensor([[0.9, 0.9], [0.1, 0.8]])  # the second network withstands both
    oscillating = torch.tensor([[0.1, 0.9], [0.9, 0.1]])  # each is withstood by the other network
    stable = torch.tensor([[0.2, 0.3], [0.9, 0.9]])  # the first fools both
    found = Stability((0, 1), torch.stack([robust, oscillating, stable]))
    assert found.kind.tolist() == [0, 1, 2]
    assert found.max_min.tolist() == pytest.approx([0.8, 0.9, 0.3])
    assert found.min_max.tolist() == pytest.approx([0.8, 0.1, 0.3])
    assert [row["kind"] for row in found.frame()] == ["robust", "oscillating", "stable"]
    assert bool((found.max_min >= found.min_max).all())


def test_spread_by_hand():
    """Three inputs, two perturbations, one pixel: costs are softplus, turns are crossings of the middle."""
    model = Plane(1.0, middle=0.5)
    x, y = one_pixel(0.55, 0.8, 0.2), torch.tensor([1, 1, 1])  # the last one is wrong already
    deltas = one_pixel(-0.1, -0.4)
    found = spread(model, deltas, x, y)

    def cost(v):
        return math.log1p(math.exp(-(v - 0.5)))

    for d, total in zip((-0.1, -0.4), found.cost.tolist(), strict=True):
        moved = [max(v + d, 0.0) for v in (0.55, 0.8, 0.2)]
        expected = sum(cost(m) - cost(v) for m, v in zip(moved, (0.55, 0.8, 0.2), strict=True)) / 3
        assert total == pytest.approx(expected, abs=1e-6)
    assert found.fooled.tolist() == pytest.approx([1 / 3, 2 / 3])  # two of the three are right
    for batch in (1, 2, 5, 100):
        again = spread(model, deltas, x, y, batch=batch)
        assert torch.allclose(again.cost, found.cost)
        assert torch.equal(again.fooled, found.fooled)


def test_shared_perturbations_and_the_correlation():
    """Networks whose boundaries differ: what pushes everything over fools all others."""
    trail = Trail({0: Plane(4.0, 0.5), 1: Plane(8.0, 0.4), 2: Plane(2.0, 0.45)})
    generator = torch.Generator().manual_seed(0)
    own = one_pixel(*torch.linspace(0.51, 0.7, 12).tolist()), torch.ones(12, dtype=torch.int64)
    others = torch.rand(40, 1, 1, 1, generator=generator), torch.ones(40, dtype=torch.int64)
    found = sharedness(trail, own, others, assay.FGSM(0.1))
    assert set(found.ratio) == {0, 1, 2}
    right = others[0].flatten() > 0.5
    expected = ((others[0].flatten() - 0.1 <= 0.5) & right).double().mean()
    assert len(found.ratio[0]) == int((own[0] <= 0.6 + 1e-6).sum())  # effective ones only
    assert found.ratio[0].tolist() == pytest.approx([float(expected)] * len(found.ratio[0]), abs=0.06)
    assert found.shared[0] == 1.0
    ten = torch.tensor([1.0, 10, 100])
    log = Sharedness((0,), {0: torch.ones(1)}, ten, 1 / ten, -1.0, 0.0, 0.5, 0.1)
    assert "-1.00 in logarithms (p = 0), within classes 0.50 (p = 0.1)" in log.verdict()


def test_the_correlation_is_of_logarithms():
    a = torch.tensor([1.0, 10.0, 100.0, 1000.0, -5.0])
    b = torch.tensor([8.0, 4.0, 2.0, 1.0, 7.0])
    r, p = log_correlation(a, b)  # straight in logarithms; the pair with a negative one is left out
    assert r == pytest.approx(-1.0, abs=1e-6)
    assert p < 1e-6
    assert log_correlation(a, 1 / b)[0] == pytest.approx(1.0, abs=1e-6)
    assert math.isnan(log_correlation(a[:2], b[:2])[0])
    assert math.isnan(log_correlation(a, torch.ones(5))[0])
    noisy = torch.tensor([3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.3])
    expected = pearsonr(a[:4].repeat(2)[:7].log().numpy(), noisy.log().numpy())
    assert log_correlation(a[:4].repeat(2)[:7], noisy) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-5)


def test_the_threshold_of_a_detector_is_the_best_one():
    clean, bad = torch.tensor([0.0, 1.0, 2.0, 5.0]), torch.tensor([3.0, 4.0, 6.0])
    assert best_threshold(clean, bad) == 2.5  # three of four, three of three
    assert best_threshold(torch.tensor([7.0]), torch.tensor([9.0])) == 8.0


def test_classes_can_hide_a_correlation():
    """Two classes, falling within each, the second far above the first: rising over all, −1 within."""
    a, b = torch.tensor([1.0, 2, 4, 100, 200, 400]), torch.tensor([4.0, 2, 1, 400, 200, 100])
    assert log_correlation(a, b)[0] > 0.8
    assert log_correlation(a, b, torch.tensor([3, 3, 3, 7, 7, 7]))[0] == pytest.approx(-1.0, abs=1e-6)
    alone = torch.arange(6)
    assert math.isnan(log_correlation(a, b, alone)[0])


def test_a_destruction_rate_of_four_images_by_hand():
    """Right iff above 0.5. Four effective images but one; brightening by 0.1 saves two of three."""
    model = Plane(10.0, 0.5)
    x, y = one_pixel(0.6, 0.6, 0.6, 0.4), torch.tensor([1, 1, 1, 1])  # the last one is wrong clean
    moved = one_pixel(0.45, 0.45, 0.3, 0.3)
    assert destruction_rate(model, x, moved, y, lambda z: z + 0.1) == pytest.approx(2 / 3)
    assert destruction_rate(model, x, moved, y, lambda z: z) == 0
    assert math.isnan(destruction_rate(model, x, x, y, lambda z: z))
    trail = Trail({0: model, 5: Plane(10.0, 0.55)})
    found = destruction(
        trail, x, y, {"FGSM": assay.FGSM(0.15)}, transforms={"brightness": (lambda z, s: z + s, (0.0, 0.1))}
    )
    assert found.effective["FGSM"] == (3, 3)
    assert found.rate["FGSM", "brightness"].tolist() == [[0.0, 1.0], [0.0, 0.0]]
    assert found.change("FGSM", "brightness") == pytest.approx(-0.5)
    assert "brightness -50" in found.verdict()


def test_a_network_that_hides_its_gradient_is_named():
    hidden = Transfer(("a", "b"), torch.tensor([[0.9, 0.2], [0.3, 0.1]]), torch.tensor([0.95, 0.9]), "PGD")
    assert "a is fooled more by images made on another network (30 %) than by its own (90 %)" in hidden.verdict()
    honest = Transfer(("a", "b"), torch.tensor([[0.1, 0.6], [0.7, 0.2]]), torch.tensor([0.95, 0.9]), "PGD")
    assert "no network is fooled more" in honest.verdict()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    data = load("scenes:size=16,count=400", split="train")
    folder = tmp_path_factory.mktemp("trail")
    recipe = Recipe(epochs=4, rate=3e-3, objective="mixed:share=0.5", eps=0.05, batch=64)
    train(data, recipe, folder, trail=(0, 2, 4))
    return folder


TEST = load("scenes:size=16,count=64", split="test")
TRAIN = load("scenes:size=16,count=400", split="train").take(slice(0, 96))


def test_every_answer_end_to_end(run):
    trail = load_trail(run)
    assert trail.epochs == (0, 2, 4)
    attack = assay.BIM(0.03, steps=3)
    both = {"FGSM": assay.FGSM(0.03), "BIM": attack}
    x, y = TEST.images(), TEST.y
    answers = [
        learning(
            trail, {"train": (TRAIN.images(), TRAIN.y), "test": (x, y)}, {"FGSM": assay.FGSM(0.03), "BIM": attack}
        ),
        stability(trail, x, y, attack),
        sharedness(trail, (x[:16], y[:16]), (TRAIN.images(), TRAIN.y), attack),
        universality(trail, {"train": TRAIN, "test": TEST}, TEST, assay.UniversalSign(0.1, updates=5, batches=2)),
        destruction(trail, x, y, both),
        detectability(trail, TRAIN, TEST, {"BIM": attack}, eps=0.03, epochs=1, updates=3),
        transfer(trail, x, y, attack),
    ]
    for answer in answers:
        assert isinstance(answer, Answer)
        rows = answer.frame()
        assert rows
        assert len({tuple(row) for row in rows}) == 1
        assert answer.verdict().endswith(".")
        figure = answer.figure()
        figure.savefig(run / f"{type(answer).__name__}.png", dpi=60)
    made = answers[3]
    assert made.accuracy["train"].shape == (3, 3)
    assert float(made.deltas["test"].abs().max()) <= 0.1 + 1e-6
    for answer in (made, answers[5]):
        answer.pictures().savefig(run / f"{type(answer).__name__}-pictures.png", dpi=60)
    curves = answers[0].accuracy
    assert curves["test, clean"][-1] > curves["test, clean"][0]
    assert all(b <= c for b, c in zip(curves["test, BIM"], curves["test, clean"], strict=True))


def test_trails(run, tmp_path):
    trail = load_trail(run / "trail")
    assert trail.thinned(2).epochs == (0, 4)
    assert trail.thinned(9).epochs == (0, 2, 4)
    with pytest.raises(FileNotFoundError, match="assay train --trail all"):
        load_trail(tmp_path)
    with pytest.raises(ValueError, match="epoch: expected one of 0, 2, 4"):
        trail.model(1)
    with pytest.raises(ValueError, match="at least one epoch"):
        Trail({})
    with pytest.raises(ValueError, match="a label for each of the 3 images"):
        stability(trail, TEST.images()[:3], TEST.y[:2], assay.FGSM(0.1))
    assert isinstance(TEST, Dataset)
