"""Adversarial images inside a training loop: whose random numbers they are."""

import pytest
import torch

import assay
from models_for_tests import images, mlp, predicted

MODEL, X = mlp(), images(8)
Y = predicted(MODEL, X)
NOISE = assay.UniformNoise(0.1)


def drawn(**more):
    return assay.perturb(MODEL, X, Y, NOISE, **more)


def test_each_call_draws_afresh():
    assert not torch.equal(drawn(), drawn())


def test_the_global_seed_decides_and_goes_on():
    torch.manual_seed(3)
    first, second = drawn(), drawn()
    torch.manual_seed(3)
    assert torch.equal(drawn(), first)
    assert torch.equal(drawn(), second)
    assert not torch.equal(first, second)


def test_with_a_seed_and_a_step_it_repeats():
    state = torch.get_rng_state()
    assert torch.equal(drawn(seed=1), drawn(seed=1))
    assert torch.equal(drawn(seed=1, step=4), drawn(seed=1, step=4))
    draws = [drawn(seed=seed, step=step) for seed in (1, 2) for step in (0, 1, 2)]
    assert not any(torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": 1.5}, "seed: expected a whole number"),
        ({"seed": 1, "step": -1}, "step: expected a whole number"),
        ({"keep": "first"}, "keep: expected one of"),
    ],
)
def test_wrong_words(wrong, message):
    with pytest.raises((TypeError, ValueError), match=message):
        drawn(**wrong)


def test_adversarial_training_meets_other_noise_at_every_step():
    """In the plainest loop there is, two epochs over one batch."""
    model = mlp().train()
    rule = torch.optim.SGD(model.parameters(), 0.0)
    seen = []
    for _ in range(2):
        moved = assay.perturb(model, X, Y, assay.PGD(0.1, steps=1))
        seen.append(moved)
        rule.zero_grad()
        torch.nn.functional.cross_entropy(model(moved), Y).backward()
        rule.step()
        assert model.training
    assert not torch.equal(*seen)
