"""Networks with one logit, with independent labels, with a fixed batch."""

import pytest
import torch
from torch import nn

import assay
from assay.core.model_calls import classify
from assay.models import BinaryLogit, FixedBatch, MultiLabel

WEIGHT = torch.tensor([[1.0, -1.5, 0.5, 0.0], [0.5, 0.5, -1.0, 1.0], [-1.0, 0.0, 0.0, 2.0]])
BIAS = torch.tensor([0.1, -0.2, -0.4])  # rows of one l1 norm: the nearest label in logits is the nearest in linf


def labels_network(x):
    """Three independent labels, linear."""
    return x.flatten(1) @ WEIGHT.T + BIAS


@pytest.mark.parametrize("threshold", [0.0, -0.3, 1.5])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_logit_is_two_classes(threshold, shape):
    torch.manual_seed(3)
    x, w = torch.rand(64, 1, 2, 2), torch.tensor([1.0, -2.0, 0.5, 1.5])
    model = BinaryLogit(lambda x: (x.flatten(1) @ w).reshape(shape), threshold)
    z = x.flatten(1) @ w
    logits = classify(model, x)
    assert torch.equal(logits.argmax(1), (z > threshold).long())
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], z - threshold)
    torch.testing.assert_close(logits.sum(1), torch.zeros(64))
    # the least linf distance to the other class is |z - t| / ||w||_1, inside the box
    x = 0.4 + 0.2 * torch.rand(16, 1, 2, 2)
    z = x.flatten(1) @ w
    model = BinaryLogit(lambda x: x.flatten(1) @ w, float(z.median()))
    distance = (z - z.median()).abs() / w.abs().sum()
    outcome = assay.attack(model, x, model(x).argmax(1), assay.FMN(norm="linf", steps=200), preflight=False)
    torch.testing.assert_close(outcome.norm("linf"), distance, rtol=0.02, atol=1e-4)


def test_a_module_with_one_logit_is_trained_evaluated_and_left_alone():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 1))
    model = BinaryLogit(network)
    assert len(list(model.parameters())) == 2
    x = torch.rand(8, 1, 2, 2)
    model.train()
    y = model.eval()(x).argmax(1)
    model.train()
    outcome = assay.attack(model, x, y, assay.PGD(0.5, steps=10), preflight=False)
    assert network.training
    assert outcome.robust_accuracy < 1
    assert "threshold=0.0" in repr(model)


def test_label_sets_are_classes():
    torch.manual_seed(1)
    x = torch.rand(200, 1, 2, 2)
    on = labels_network(x) > 0
    model = MultiLabel.of(labels_network, on)
    assert torch.equal(model(x).argmax(1), model.index(on))
    assert torch.equal(model(x[:1]).argmax(1), model.index(on[:1]))
    missing = MultiLabel.of(labels_network, on[:1])
    other = (on != on[0]).any(1)
    assert torch.equal(missing(x).argmax(1), other.long())  # the last class is any other set
    shifted = MultiLabel.of(labels_network, on, threshold=0.7)
    every = torch.cartesian_prod(*3 * [torch.tensor([0, 1])])
    shifted = MultiLabel(labels_network, every, threshold=0.7)
    assert torch.equal(every[shifted(x).argmax(1)].bool(), labels_network(x) > 0.7)


def test_the_distance_to_the_nearest_flip_is_known_for_a_linear_model():
    torch.manual_seed(2)
    x = 0.45 + 0.1 * torch.rand(24, 1, 2, 2)
    on = (labels_network(x) > 0).int()
    distance = (labels_network(x).abs() / WEIGHT.abs().sum(1)).amin(1)
    x, on, distance = x[distance < 0.4], on[distance < 0.4], distance[distance < 0.4]
    model = MultiLabel.of(labels_network, on)
    outcome = assay.attack(model, x, model.index(on), assay.FMN(norm="linf", steps=300), preflight=False)
    torch.testing.assert_close(outcome.norm("linf"), distance, rtol=0.02, atol=1e-4)
    flipped = ((labels_network(outcome.images) > 0) != on.bool()).any(1)
    assert flipped.all()
    for budget in (0.05, 0.15, 0.3):
        ours = assay.attack(model, x, model.index(on), assay.PGD(budget, steps=40), preflight=False)
        assert ours.robust_accuracy == pytest.approx((distance > budget).float().mean().item(), abs=0.05)


def test_a_targeted_attack_succeeds_when_the_whole_set_is_reached():
    torch.manual_seed(4)
    x = torch.rand(16, 1, 2, 2)
    on = (labels_network(x) > 0).int()
    targets = on.clone()
    targets[:, 2] = 1 - targets[:, 2]  # one label more or less; the others have to stay
    model = MultiLabel.of(labels_network, on, targets)
    outcome = assay.attack(
        model, x, model.index(on), assay.PGD(1.0, steps=100), target=model.index(targets), preflight=False
    )
    reached = ((labels_network(outcome.images) > 0).int() == targets).all(1)
    broken = outcome.status == int(assay.Status.BROKEN)
    assert torch.equal(reached, broken)
    assert broken.float().mean() > 0.5


def test_a_network_that_squeezes_one_row():
    model = MultiLabel.of(lambda x: labels_network(x).squeeze(0), torch.tensor([[1, 0, 1]]))
    assert model(torch.rand(1, 1, 2, 2)).shape == (1, 2)
    assert BinaryLogit(lambda x: x.mean((1, 2, 3)).squeeze())(torch.rand(1, 1, 2, 2)).shape == (1, 2)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
def test_a_fixed_batch_takes_any_number_of_images(count):
    sizes = []

    def fixed(x):
        sizes.append(len(x))
        return x.reshape(4, 12)[:, :3] * 2

    x = torch.rand(count, 3, 2, 2, requires_grad=True)
    got = FixedBatch(fixed, 4)(x)
    assert torch.equal(got, x.flatten(1)[:, :3] * 2)
    assert set(sizes) == {4}
    assert len(sizes) == max(1, -(-count // 4))
    if count:
        got.sum().backward()
        assert torch.equal(x.grad.flatten(1), torch.tensor([2.0, 2, 2] + 9 * [0]).expand(count, 12))


def test_attacks_go_through_a_fixed_batch_as_through_the_model_itself():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3)).eval()

    def fixed(x):
        if len(x) != 4:
            raise RuntimeError(f"four images, not {len(x)}")
        return network(x)

    x = torch.rand(7, 3, 2, 2)
    y = network(x).argmax(1)
    alone, grouped = (assay.attack(m, x, y, assay.PGD(0.2, steps=10)) for m in (network, FixedBatch(fixed, 4)))
    assert torch.equal(alone.status, grouped.status)


def test_adapters_do_not_change_images():
    x = torch.rand(2, 1, 2, 2)
    before = x.clone()
    BinaryLogit(lambda x: x.sub_(0.5).mean((1, 2, 3)))(x)
    MultiLabel.of(lambda x: x.mul_(2).flatten(1)[:, :2], torch.tensor([[0, 1]]))(x)
    FixedBatch(lambda x: x.zero_().flatten(1), 2)(x)
    assert torch.equal(x, before)


SETS = torch.tensor([[1, 0], [0, 1]])
IMAGES = torch.rand(3, 1, 2, 2)
BAD = {
    "no model": (lambda: BinaryLogit(3), "model"),
    "no model for labels": (lambda: MultiLabel("net", SETS), "model"),
    "no model for a batch": (lambda: FixedBatch(None, 2), "model"),
    "threshold of words": (lambda: BinaryLogit(lambda x: x, "0.5"), "threshold"),
    "threshold NaN": (lambda: BinaryLogit(lambda x: x, float("nan")), "threshold"),
    "two logits for one": (lambda: BinaryLogit(lambda x: x.flatten(1)[:, :2])(IMAGES), "model"),
    "one logit for all": (lambda: BinaryLogit(lambda x: x.mean())(IMAGES), "model"),
    "whole numbers": (lambda: BinaryLogit(lambda x: x.mean((1, 2, 3)).long())(IMAGES), "model"),
    "a string": (lambda: BinaryLogit(lambda x: "cat")(IMAGES), "model"),
    "sets of three axes": (lambda: MultiLabel(lambda x: x, torch.zeros(1, 2, 3)), "sets"),
    "sets as a list": (lambda: MultiLabel(lambda x: x, [[0, 1]]), "sets"),
    "no sets": (lambda: MultiLabel(lambda x: x, torch.zeros(0, 2)), "sets"),
    "sets of no labels": (lambda: MultiLabel(lambda x: x, torch.zeros(2, 0)), "sets"),
    "sets of 2": (lambda: MultiLabel(lambda x: x, 2 * SETS), "sets"),
    "sets of probabilities": (lambda: MultiLabel(lambda x: x, torch.tensor([[0.5, 1.0]])), "sets"),
    "sets with NaN": (lambda: MultiLabel(lambda x: x, torch.tensor([[float("nan"), 1.0]])), "sets"),
    "a set twice": (lambda: MultiLabel(lambda x: x, torch.cat((SETS, SETS))), "sets"),
    "no labels at all": (lambda: MultiLabel.of(lambda x: x), "labels"),
    "labels of two widths": (lambda: MultiLabel.of(lambda x: x, SETS, torch.zeros(1, 3)), "labels"),
    "an unknown set": (lambda: MultiLabel(lambda x: x, SETS).index(torch.tensor([[1, 0], [1, 1]])), "labels"),
    "labels of another width": (lambda: MultiLabel(lambda x: x, SETS).index(torch.ones(1, 3)), "labels"),
    "labels of one axis": (lambda: MultiLabel(lambda x: x, SETS).index(torch.ones(2)), "labels"),
    "too many logits": (lambda: MultiLabel(lambda x: x.flatten(1), SETS)(IMAGES), "model"),
    "fewer rows": (lambda: MultiLabel(lambda x: x.flatten(1)[:2, :2], SETS)(IMAGES), "model"),
    "batch of 0": (lambda: FixedBatch(lambda x: x, 0), "size"),
    "batch of a half": (lambda: FixedBatch(lambda x: x, 2.5), "size"),
    "batch that shrinks": (lambda: FixedBatch(lambda x: x.flatten(1)[:1], 2)(IMAGES), "model"),
    "batch that is summed": (lambda: FixedBatch(lambda x: x.sum(), 2)(IMAGES), "model"),
}


@pytest.mark.parametrize("case", BAD, ids=lambda name: name.replace(" ", "-"))
def test_bad_input_is_one_sentence(case):
    call, name = BAD[case]
    with pytest.raises((ValueError, TypeError), match=rf"^{name}: expected [^\n]*, got [^\n]*$"):
        call()


def test_a_whole_set_is_reached_where_it_can_be():
    """Each label moves by up to the budget, so every set within it can be reached, from any other."""
    x = 0.3 + 0.4 * torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def tags(x):
        return x.mean((2, 3)) - 0.5

    labels = (tags(x) > 0).int()
    model = MultiLabel.of(tags, labels, 1 - labels)
    for attack in (assay.PGD(0.1), assay.APGD(0.1, steps=20), assay.PGD(0.8, norm="l2", steps=60)):
        outcome = assay.attack(model, x, model.index(labels), attack, target=model.index(1 - labels))
        assert outcome.robust_accuracy == 0
