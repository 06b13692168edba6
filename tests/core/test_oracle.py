"""The oracle: gradients, counts, precision, compilation."""

import pytest
import torch
from torch import nn

import assay
from assay.core.model_state import preserve_state
from assay.core.oracle import Oracle
from assay.core.rows import Rows, untargeted
from models_for_tests import Linear, images, mlp, predicted


def rows(x, y):
    return Rows(x, untargeted(y), torch.arange(len(x)))


def test_gradients_of_a_linear_model_are_its_weights():
    weight = torch.randn(3, 2, 4, 4)
    x, y = torch.rand(5, 2, 4, 4), torch.zeros(5, dtype=torch.long)
    oracle = Oracle(Linear(weight))
    oracle.start(5)
    classes = torch.tensor([[0, 1], [2, 0], [1, 1], [0, 2], [2, 2]])
    logits, grads = oracle.jacobian(x, classes, rows(x, y))
    assert torch.allclose(grads, weight[classes], atol=1e-6)
    assert torch.allclose(logits, Linear(weight)(x), atol=1e-6)
    assert oracle.forwards.tolist() == [1] * 5
    assert oracle.backwards.tolist() == [2] * 5
    away = Linear(torch.stack([torch.zeros(2, 4, 4), weight[0]]))
    oracle = Oracle(away)
    oracle.start(5)
    made = oracle.evaluate(assay.Margin(), x, rows(x, y))
    assert torch.allclose(made.grad, weight[0].expand_as(made.grad), atol=1e-6)
    oracle.logits(x, rows(x, y))
    assert oracle.forwards.tolist() == [2] * 5
    assert oracle.backwards.tolist() == [1] * 5


def test_a_model_without_a_gradient_gives_zeros():
    class Rounded(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3].round().detach()

    x = torch.rand(4, 1, 2, 2)
    oracle = Oracle(Rounded())
    oracle.start(4)
    made = oracle.evaluate(assay.CrossEntropy(), x, rows(x, torch.zeros(4, dtype=torch.long)))
    assert (made.grad == 0).all()


def test_parameters_get_no_gradient_and_inference_is_in_evaluation_mode():
    seen = []

    class Watch(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, x):
            seen.append((self.training, any(p.requires_grad for p in self.parameters()), x.requires_grad))
            return self.inner(x)

    model, x = Watch().train(), images(6)
    assay.attack(model, x, predicted(model.inner, x), assay.FGSM(0.01), preflight=False)
    assert not any(training or frozen for training, frozen, _ in seen)
    assert [grad for _, _, grad in seen].count(True) == 1


def test_untouched_restores_global_settings_after_an_exception():
    before = (torch.backends.cudnn.allow_tf32, torch.get_rng_state())
    model = mlp()
    before = (before[0], torch.get_rng_state())

    def work():
        with preserve_state(model):
            torch.rand(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert torch.backends.cudnn.allow_tf32 == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_plain_functions_are_models_too():
    model = mlp()
    x = images(8)
    y = predicted(model, x)
    outcome = assay.attack(lambda z: model(z), x, y, assay.PGD(0.03, steps=5))
    assert torch.equal(outcome.status, assay.attack(model, x, y, assay.PGD(0.03, steps=5)).status)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_search_gives_the_same_verdicts():
    model, x = mlp(), images(40)
    y = predicted(model, x)
    eager = assay.attack(model, x, y, assay.PGD(0.03, steps=5), slots=16)
    compiled = assay.attack(model, x, y, assay.PGD(0.03, steps=5), slots=16, compile="default")
    assert torch.equal(eager.status, compiled.status)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_gives_the_verdicts_of_the_cpu():
    model, x = mlp(), images(40)
    y = predicted(model, x)
    here = assay.attack(model, x, y, assay.PGD(0.03, steps=10, restarts=2))
    there = assay.attack(model.cuda(), x, y, assay.PGD(0.03, steps=10, restarts=2))
    assert (here.status != there.status).sum() <= 1
    keys = torch.arange(100)
    from assay.core.rng import Rng

    for draw in ("uniform", "normal", "exponential", "signs"):
        assert torch.equal(getattr(Rng(0), draw)(keys, (8,), "a"), getattr(Rng(0), draw)(keys.cuda(), (8,), "a").cpu())
