"""Attacks that need an image to start from: where it comes from, and what becomes of samples without one."""

import pytest
import torch

import assay
from assay import Status
from assay.engine.starts import nearest_starts
from models_for_tests import images, mlp, predicted

LABEL_ONLY = {
    "hopskipjump": lambda eps=None: assay.HopSkipJump(3, samples=20, starts=3, eps=eps),
    "hopskipjump-linf": lambda eps=None: assay.HopSkipJump(3, "linf", samples=20, starts=3, eps=eps),
    "boundary": lambda eps=None: assay.Boundary(40, starts=3, eps=eps),
    "opt": lambda eps=None: assay.OPT(steps=1, samples=3, starts=3, eps=eps),
    "sign-opt": lambda eps=None: assay.SignOPT(steps=2, samples=10, starts=3, eps=eps),
}


class Rare(torch.nn.Module):
    """Class 1 only on images that are dark on the left and bright on the right: noise never is."""

    def forward(self, x):
        flat = x.flatten(1)
        half = flat.shape[1] // 2
        score = flat[:, half:].mean(1) - flat[:, :half].mean(1) - 0.5
        return torch.stack([torch.zeros_like(score), 20 * score], 1)


def rare(n=6):
    x = torch.full((n, 1, 4, 4), 0.4)
    x += 0.02 * torch.arange(n).view(-1, 1, 1, 1)
    other = torch.zeros(1, 1, 4, 4)
    other[:, :, 2:] = 1
    return torch.cat([x, other]), torch.tensor([0] * n + [1]), other


@pytest.mark.parametrize("name", LABEL_ONLY)
def test_a_row_without_a_start_has_not_survived(name):
    x, y, _ = rare()
    outcome = assay.attack(Rare(), x[:-1], y[:-1], LABEL_ONLY[name](), preflight=False)
    assert outcome.count(Status.NOT_RUN) >= 5  # a random direction may find the class by chance
    assert outcome.count(Status.SURVIVED) == 0
    assert outcome.readings[0] == 0
    assert outcome.readings[1] == outcome.count(Status.NOT_RUN) / (len(x) - 1)
    assert outcome.interval()[1] > 0.9
    assert " samples were not attacked, because no adversarial image to start from" in outcome.events[0]


@pytest.mark.parametrize("name", LABEL_ONLY)
def test_start_images_are_used(name):
    x, y, other = rare()
    start = other.expand(len(x) - 1, -1, -1, -1)
    outcome = assay.attack(Rare(), x[:-1], y[:-1], LABEL_ONLY[name](), start=start, preflight=False)
    assert outcome.count(Status.BROKEN) == len(x) - 1
    assert (outcome.norm("l2") <= (start - x[:-1]).flatten(1).norm(dim=1) + 1e-5).all()
    assert not outcome.events


@pytest.mark.parametrize("name", LABEL_ONLY)
def test_an_image_of_the_target_class_is_found_in_the_data(name):
    x, y, _ = rare()
    outcome = assay.attack(Rare(), x, y, LABEL_ONLY[name](), target=1 - y, preflight=False)
    assert outcome.count(Status.BROKEN) == len(x)


def test_what_other_attacks_did_counts():
    """In a cascade the samples that one part could not begin on are not robust, and those that broke are broken."""
    x, y, _ = rare()
    both = assay.Cascade((assay.FGSM(0.01), assay.Boundary(10, starts=2, eps=0.01)))
    outcome = assay.attack(Rare(), x[:-1], y[:-1], both, preflight=False)
    assert outcome.count(Status.NOT_RUN) == len(x) - 1
    strong = assay.Cascade((assay.FGSM(0.9), assay.Boundary(10, starts=2)))
    assert assay.attack(Rare(), x[:-1], y[:-1], strong, preflight=False).count(Status.BROKEN) == len(x) - 1


def test_a_restart_that_finds_a_start_is_enough():
    model, x = mlp(), images(8)
    outcome = assay.attack(model, x, predicted(model, x), assay.Restarts(assay.Boundary(20, starts=1, eps=1e-3), 6))
    assert outcome.count(Status.SURVIVED) > 0


def test_a_budget_that_pays_for_no_step_is_no_robustness():
    model, x = mlp(), images(8)
    outcome = assay.attack(model, x, predicted(model, x), assay.NES(0.01, queries=100, samples=20), max_forwards=3)
    assert outcome.count(Status.NOT_RUN) == 8
    assert "max_forwards does not pay for a first step" in outcome.events[0]


def test_the_nearest_image_of_another_class():
    x = torch.tensor([0.0, 0.1, 0.5, 1.0]).view(4, 1, 1, 1)
    y = torch.tensor([0, 0, 1, 2])
    assert nearest_starts(x, y, x, y).flatten().tolist() == pytest.approx([0.5, 0.5, 0.1, 0.5])
    towards = nearest_starts(x, y, x, y, target=torch.tensor([2, 1, 0, 5]))
    assert towards.flatten().tolist() == pytest.approx([1.0, 0.5, 0.1, 1.0])  # none of class 5: the image itself


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (torch.zeros(3, 1, 4, 4), r"start: expected .*one to start from for each of x, got shape \(3, 1, 4, 4\)"),
        (torch.full((7, 1, 4, 4), 2.0), "start: expected .*got 112 values outside, from 2 to 2"),
        (torch.zeros(7, 1, 4, 4, dtype=torch.uint8), "start: expected .*got dtype torch.uint8"),
        ("nearest", "start: expected .*got str"),
    ],
)
def test_wrong_starts(start, message):
    x, y, _ = rare()
    with pytest.raises((TypeError, ValueError), match=message):
        assay.attack(Rare(), x, y, assay.Boundary(5), start=start)


def test_a_target_that_is_the_label_costs_its_own_sample_alone():
    model, x = mlp(), images(8)
    y = predicted(model, x)
    target = (y + 1) % 4
    target[2] = y[2]
    outcome = assay.attack(model, x, y, assay.PGD(0.1), target=target)
    assert outcome.status[2] == int(Status.NOT_RUN)
    assert outcome.count(Status.NOT_RUN) == 1
    assert outcome.events == ("1 samples were not attacked: their target is their own label",)


def test_images_that_are_no_numbers_are_no_starts():
    x, y, _ = rare()
    wrong = x.clone()
    wrong[0, 0, 0, 0] = torch.nan
    assert nearest_starts(x, y, wrong, (y + 1) % 3).isfinite().all()
    with pytest.raises(ValueError, match=r"start: expected .* got NaN or infinite values"):
        assay.attack(Rare(), x, y, assay.Boundary(5), start=wrong)
