"""Steps on the way: the same as the attack takes, recorded every few steps, and nothing changed by looking."""

import pytest
import torch

import assay
from models_for_tests import images, mlp, predicted


@pytest.fixture(scope="module")
def case():
    model, x = mlp(), images(12)
    return model, x, predicted(model, x)


@pytest.mark.parametrize(
    "attack",
    [assay.PGD(0.05, steps=9), assay.APGD(0.05, steps=9), assay.FMN(9), assay.Square(0.05, queries=9)],
    ids=str,
)
def test_it_records_every_few_steps_and_the_last(case, attack):
    model, x, y = case
    whole = assay.trajectory(model, x, y, attack)
    few = assay.trajectory(model, x, y, attack, every=4, images=False)
    assert few.images is None
    last = int(whole.steps[-1])
    assert few.steps.tolist() == sorted({*range(0, last + 1, 4), last})
    assert torch.equal(few.value, whole.value[few.steps])
    assert (whole.passes.diff(dim=0) >= 0).all()
    assert torch.allclose(whole.linf, (whole.images - x).abs().flatten(2).amax(2), atol=1e-6)
    wrong = torch.stack([predicted(model, taken) != y for taken in whole.images])
    assert torch.equal(wrong & whole.hit, whole.hit)


def test_it_is_the_way_that_the_attack_goes(case):
    """On samples that survive every step, the last candidate is the attack's own."""
    model, x, y = case
    attack = assay.BIM(0.01, steps=5)
    way = assay.trajectory(model, x, y, attack)
    step = torch.tensor(0.01 / 5)
    assert torch.equal(way.images[0], x)
    assert torch.allclose(way.linf[1:].amax(1), step * torch.arange(1, 5), atol=1e-6)
    assert (way.value.diff(dim=0).mean(1) > 0).all()
    assert len(way.frame()) == 5 * len(x)
    assert repr(way) == "Trajectory('BIM-5 linf 0.01': 5 steps of 12 samples)"


def test_attacks_of_several_parts_are_refused(case):
    model, x, y = case
    for attack in (assay.Standard(0.1), assay.PGD(0.1, restarts=2), assay.APGD(0.1, loss="dlr", targets=2)):
        with pytest.raises(ValueError, match="attack: expected one attack without restarts"):
            assay.trajectory(model, x, y, attack)
    with pytest.raises(ValueError, match="every: expected"):
        assay.trajectory(model, x, y, assay.PGD(0.1), every=0)
