"""Several classifiers as one: answers and gradients against formulas written out, cost, and what attacks reach."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import assay
from assay.core.oracle import Oracle
from assay.core.rows import Rows, untargeted
from models_for_tests import images, mlp, predicted


@pytest.fixture(scope="module")
def case():
    members = [mlp(seed=seed) for seed in range(3)]
    x = images(32)
    return members, x, predicted(assay.Ensemble(members), x)


def losses(members, x, y):
    return torch.stack([functional.cross_entropy(model(x), y, reduction="none") for model in members])


FORMULAS = {
    "loss": lambda members, x, y: losses(members, x, y).mean(0),
    "worst": lambda members, x, y: losses(members, x, y).amin(0),
    "logits": lambda members, x, y: functional.cross_entropy(
        torch.stack([model(x) for model in members]).mean(0), y, reduction="none"
    ),
    "probabilities": lambda members, x, y: functional.nll_loss(
        torch.stack([model(x).softmax(1) for model in members]).mean(0).log(), y, reduction="none"
    ),
}


@pytest.mark.parametrize("average", FORMULAS)
def test_value_and_gradient_are_those_of_the_formula(case, average):
    members, x, y = case
    oracle = Oracle(assay.Ensemble(members, average))
    oracle.start(len(x))
    seen = oracle.evaluate(assay.CrossEntropy(), x, Rows(x, untargeted(y), torch.arange(len(x))))
    leaf = x.clone().requires_grad_()
    value = FORMULAS[average](members, leaf, y)
    (grad,) = torch.autograd.grad(value.sum(), leaf)
    assert torch.allclose(seen.value, value, atol=1e-5)
    assert torch.allclose(seen.grad, grad, atol=1e-6)
    assert oracle.forwards.tolist() == [3] * len(x)


def test_it_predicts_mean_logits_or_mean_probabilities(case):
    members, x, _ = case
    logits = torch.stack([model(x) for model in members])
    assert torch.allclose(assay.Ensemble(members)(x), logits.mean(0))
    for average in ("probabilities", "loss", "worst"):
        assert torch.allclose(assay.Ensemble(members, average)(x).exp(), logits.softmax(2).mean(0), atol=1e-6)


def test_the_hardest_member_is_fooled_more_often_by_the_attack_on_it(case):
    members, x, y = case
    fooled = {}
    for average in ("logits", "worst"):
        moved = assay.perturb(assay.Ensemble(members, average), x, y, assay.PGD(0.1, steps=30), seed=0)
        fooled[average] = int(torch.stack([predicted(model, moved) != y for model in members]).all(0).sum())
    assert fooled["worst"] >= fooled["logits"] > 0


def test_an_ensemble_is_a_target_and_a_surrogate(case):
    members, x, y = case
    ensemble = assay.Ensemble(members)
    outcome = assay.attack(ensemble, x, y, assay.PGD(0.05))
    assert torch.equal(outcome.predicted, predicted(ensemble, outcome.images))
    held_out = mlp(seed=3)
    own = predicted(held_out, x)
    assert assay.attack(held_out, x, own, assay.MIM(0.1), surrogate=ensemble).counts["broken"] > 0
    assert assay.attack(assay.Ensemble([lambda z: members[0](z)]), x, predicted(members[0], x), assay.FGSM(0.05))


def test_what_cannot_be_an_ensemble_is_named():
    with pytest.raises(TypeError, match="models: expected a list of at least one classifier"):
        assay.Ensemble([])
    with pytest.raises(ValueError, match="average: expected one of"):
        assay.Ensemble([nn.Flatten()], "mean")
    uneven = assay.Ensemble([nn.Flatten(), nn.Sequential(nn.Flatten(), nn.Linear(4, 3))])
    with pytest.raises(ValueError, match=r"same number of classes, got \[3, 4\]"):
        uneven(torch.zeros(1, 1, 2, 2))
