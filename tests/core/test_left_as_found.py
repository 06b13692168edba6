"""What models do to themselves, and where networks hide: everything is found, and put back."""

import pytest
import torch
from torch import nn

import assay
from assay.core.model_parts import modules_in
from assay.core.model_state import preserve_state
from models_for_tests import images, mlp, predicted

MODEL, X = mlp(), images(16)
Y = predicted(MODEL, X)
ATTACK = assay.PGD(0.05, steps=5)


class Resizes(nn.Module):
    """Keeps a buffer of the size of the batch."""

    def __init__(self):
        super().__init__()
        self.net = mlp()
        self.register_buffer("seen", torch.zeros(5))

    def forward(self, x):
        self.seen.resize_(len(x))
        return self.net(x)


class Casts(nn.Module):
    """Changes its own type on the way."""

    def __init__(self):
        super().__init__()
        self.net, self.extra = mlp(), nn.Linear(2, 2)

    def forward(self, x):
        self.extra.bfloat16()
        return self.net(x)


class Replaces(nn.Module):
    """Has another module after a pass than before."""

    def __init__(self):
        super().__init__()
        self.net, self.extra = mlp(), nn.Linear(2, 2)

    def forward(self, x):
        self.extra = nn.Identity()
        return self.net(x)


@pytest.mark.parametrize("kind", [Resizes, Casts, Replaces])
def test_a_model_that_changes_its_own_form(kind):
    model = kind().train()
    before = {name: (t.shape, t.dtype, t.clone()) for name, t in model.state_dict().items()}
    assay.attack(model, X, Y, ATTACK, preflight=False)
    after = model.state_dict()
    assert list(after) == list(before)
    for name, (shape, dtype, content) in before.items():
        assert (after[name].shape, after[name].dtype) == (shape, dtype)
        assert torch.equal(after[name], content)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_buffers_of_nan_are_as_they_were():
    model = mlp()
    model.register_buffer("unknown", torch.full((1,), torch.nan).expand(4))
    with preserve_state(model):
        pass
    assert model.unknown.isnan().all()


def test_hooks_with_keywords_come_back_with_them():
    model = mlp()
    handle = model.register_forward_hook(lambda module, given, kw, out: out, with_kwargs=True)
    with preserve_state(model):
        handle.remove()
    model(X)


NETWORK = mlp()


@torch.no_grad()
def decorated(x):
    return NETWORK(x)


@torch.autocast("cpu", enabled=False)
def cast(x):
    return NETWORK(x)


@pytest.mark.parametrize("function", [decorated, cast, torch.inference_mode()(lambda x: NETWORK(x))])
def test_networks_behind_a_librarys_decorator_are_found(function):
    assert NETWORK in modules_in(function)


def masked(x):
    return torch.cat([MODEL(x), torch.full((len(x), 2), -torch.inf)], 1)


@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
@pytest.mark.parametrize("average", ["loss", "logits", "probabilities"])
def test_masked_classes_in_expectation(loss, average):
    attack = assay.PGD(0.2, steps=5, loss=loss)
    plain = assay.attack(masked, X, Y, attack, preflight=False)
    seen = assay.attack(assay.Expectation(masked, 2, average=average), X, Y, attack, preflight=False)
    assert seen.counts["invalid"] == 0
    assert seen.counts["broken"] >= plain.counts["broken"] - 1 > 3


def test_masked_classes_of_a_surrogate():
    outcome = assay.attack(MODEL, X, Y, assay.PGD(0.2, steps=5), surrogate=masked, preflight=False)
    assert outcome.counts["invalid"] == 0
    assert outcome.counts["broken"] > 3


def test_perturb_moves_every_row_of_a_model_that_masks_some():
    def sometimes(x):
        logits = masked(x)
        return torch.where((x[:, 0, 0, 0] > 0.5)[:, None], logits, torch.cat([MODEL(x), MODEL(x)[:, :2] - 9], 1))

    moved = assay.perturb(sometimes, X, Y, assay.PGD(0.1, steps=3, random_start=False), seed=0)
    assert ((moved - X).abs().flatten(1).amax(1) > 0.05).all()


def test_a_transform_gets_images_of_its_own():
    def transform(x, rng, keys, step, purpose):
        return x.add_(0.25).clamp_(0, 1)

    seen = []
    model = assay.Expectation(lambda x: (seen.append(x), MODEL(x))[1], 3, transform=transform)
    before = X.clone()
    model(X)
    assert torch.equal(X, before)
    assert all(torch.equal(part, (X + 0.25).clamp(0, 1)) for part in seen[0].split(len(X)))
