"""Every attack on images of odd shapes and with few or many classes: something happens, and nothing else changes."""

import pytest
import torch
from torch import nn

import assay
from assay import Status
from conformance.table import CASES
from models_for_tests import predicted

SHAPES = {"oblong": (1, 5, 7), "pixel": (3, 1, 1)}
CLASSES = {"two": 2, "many": 200}
SMALLEST = {"strattack": 2, "strattack-overlap": 3, "patch": 4}
"""Least side of the images, where an attack has one of its own."""

OUTSIDE = ()
"""Attacks that ask about points around the image, also beyond [0, 1]."""


class Bounded(nn.Module):
    """A smooth network whose logits are not finite outside [0, 1]."""

    def __init__(self, shape, classes):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        values = shape[0] * shape[1] * shape[2]
        self.first = nn.Parameter(torch.randn(values, 16, generator=generator) * 2.5 / values**0.5)
        self.last = nn.Parameter(torch.randn(16, classes, generator=generator))

    def forward(self, x):
        outside = ((x < 0) | (x > 1)).flatten(1).any(1, keepdim=True)
        logits = ((x - 0.5).flatten(1) @ self.first.to(x)).tanh() @ self.last.to(x)
        return torch.where(outside, torch.nan, logits)


def problem(shape, classes, n=4):
    model = Bounded(shape, classes)
    x = (1.2 * torch.rand(n, *shape, generator=torch.Generator().manual_seed(1)) - 0.1).clamp(0, 1)
    mask = torch.zeros(n, 1, *shape[1:])
    mask[:, :, : (shape[1] + 1) // 2] = 1
    return model, x, predicted(model, x), mask


def check(case, shape, classes):
    model, x, y, mask = problem(shape, classes)
    before = (x.clone(), y.clone(), mask.clone())
    outcome = assay.attack(model, x, y, case.make(case.eps), mask=mask, preflight=False, stop="never")
    assert all(torch.equal(*pair) for pair in zip((x, y, mask), before, strict=True))
    assert outcome.images.shape == x.shape
    assert ((outcome.images >= 0) & (outcome.images <= 1)).all()
    if case.name not in OUTSIDE:
        assert outcome.count(Status.INVALID) == 0, "the model was asked outside [0, 1]"
    assert outcome.count(Status.ERROR) == 0
    broken = outcome.status == int(Status.BROKEN)
    with torch.no_grad():
        logits = model(outcome.images[broken])
    own = logits.gather(1, y[broken][:, None])
    assert (logits.scatter(1, y[broken][:, None], -torch.inf).amax(1) > own.squeeze(1) - 1e-4).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_odd_shapes(case, shape):
    least = SMALLEST.get(case.name, 1)
    if min(SHAPES[shape][1:]) < least:
        model, x, y, mask = problem(SHAPES[shape], 4)
        with pytest.raises(ValueError, match=r"expected .*side of the images|side: expected"):
            assay.attack(model, x, y, case.make(case.eps), mask=mask, preflight=False)
        return
    check(case, SHAPES[shape], 4)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_few_and_many_classes(case, classes):
    check(case, (3, 5, 4), CLASSES[classes])


REACH = {"linf": 0.6, "l2": 3.0, "l1": 12.0}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", [c for c in CASES if c.gradient and c.norm in REACH], ids=str)
def test_a_large_budget_breaks_images_of_any_shape(case, shape):
    """An attack that did nothing on a shape would be seen here."""
    if min(SHAPES[shape][1:]) < SMALLEST.get(case.name, 1):
        return
    model, x, y, mask = problem(SHAPES[shape], 4)
    outcome = assay.attack(model, x, y, case.make(REACH[case.norm]), mask=mask, preflight=False)
    if (case.name, shape) != ("cw-linf", "pixel"):  # 15 steps of it are too few there
        assert outcome.success_rate > (0.0 if shape == "pixel" else 0.3)
