"""Every objective: it trains, resumes to the same weights, does not depend on the batch's order, and is its formula."""

import copy
import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from assay import PGD
from assay.core.model_state import preserve_state
from assay.core.smooth_activations import Softened
from assay.data import load
from assay.engine.api import perturb
from assay.models import build, digest
from assay.models import load as load_model
from assay.training import OBJECTIVES, Batch, Recipe, train, with_stored
from assay.training.average import Average
from assay.training.objectives import Clean, Distillation, Free, Mart, Mixed, VertexMixup, WeightPerturbation, make
from assay.training.objectives.alignment import misalignment
from assay.training.objectives.batch import updates
from assay.training.records import Epoch
from assay.training.validation import collapse

DATA = load("scenes:size=16,count=96", split="train")
SMALL = {
    "arch": "tiny-cnn",
    "epochs": 2,
    "batch": 32,
    "rate": 2e-3,
    "attack_steps": 2,
    "eps": 8 / 255,
    "eps_background": 20 / 255,
}
SPECS = {name: name for name in OBJECTIVES} | {"cure": "cure:weight=0.1", "awp": "awp:gamma=0.02"}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return str(train(DATA, Recipe(**SMALL), tmp_path_factory.mktemp("teacher")).path)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 16), nn.Tanh(), nn.Linear(16, len(DATA.classes)))


def batch(n=16, seed=0):
    return Batch(DATA.images(slice(0, n)), DATA.y[:n], torch.arange(n), seed, DATA.masks[:n].float())


GROWING = ("ibp", "crown-ibp", "sabr")
"""Their budget grows over the whole of the training, so that fewer epochs are another training."""


def interrupt(epoch):
    raise KeyboardInterrupt


def spec_of(name, teacher):
    return f"distillation:teacher={teacher},temperature=5" if name == "distillation" else SPECS[name]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_trains_and_resumes_to_the_same_weights(name, teacher, tmp_path):
    recipe = Recipe(**SMALL, objective=spec_of(name, teacher))
    whole = train(DATA, recipe, tmp_path / "whole")
    if name in GROWING:
        with pytest.raises(KeyboardInterrupt):
            train(DATA, recipe, tmp_path / "parts", progress=interrupt)
    else:
        train(DATA, Recipe(**{**vars(recipe), "epochs": 1}), tmp_path / "parts")
    torch.manual_seed(99)
    resumed = train(DATA, recipe, tmp_path / "parts")
    assert digest(resumed.model) == digest(whole.model)
    start = build("tiny-cnn", channels=3, classes=8, size=16)
    moved = [(a - b).abs().max() for a, b in zip(whole.model.parameters(), start.parameters(), strict=True)]
    assert max(moved) > 1e-3
    assert whole.history[-1].passes > 0


@pytest.mark.parametrize("name", [n for n in OBJECTIVES if n not in ("iat",)])  # mixup couples images on purpose
def test_the_loss_does_not_depend_on_the_order_of_the_batch(name, teacher, net):
    objective = make(spec_of(name, teacher), eps=0.05, eps_background=0.2, steps=3, load=load_model)
    if name in GROWING:
        net[2] = nn.ReLU()  # bounds know no tanh
    whole = batch()
    order = torch.randperm(len(whole.x), generator=torch.Generator().manual_seed(1))
    turned = Batch(whole.x[order], whole.y[order], whole.index[order], whole.seed, whole.mask[order])
    losses = [next(updates(objective, copy.deepcopy(net), b)).loss.detach() for b in (whole, turned)]
    assert torch.allclose(losses[0], losses[1], rtol=1e-4)


def attacked(net, b, attack, y=None):
    return perturb(net, b.x, b.y if y is None else y, attack, seed=b.seed, ids=b.index)


def test_alignment_of_a_linear_network_by_hand():
    """There the gradients are the rows of the matrix, whatever the image."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]]))
    x = torch.tensor([[0.5, 0.2, 0.1, 0.1], [0.3, 0.3, 0.3, 0.3]], dtype=torch.float64).view(2, 1, 2, 2)
    cosine = F.cosine_similarity(x.flatten(1)[:, None], net[1].weight[None], dim=2)
    y, other = torch.tensor([0, 2]), torch.tensor([2, 0])  # of equal logits the first
    _, apart = misalignment(net, x.clone().requires_grad_(), y)
    rows = torch.arange(2)
    assert torch.allclose(apart, F.softplus(cosine[rows, other] - cosine[rows, y]))


def test_alignment_trains_on_the_least_aligned_image_nearby(net):
    b = batch()
    objective = make("alignment:steps=4,weight=0.5", eps=0.05)
    image = objective._search(net, b)
    assert float((image - b.x).abs().max()) <= 0.05 + 1e-6
    start = (b.x + 0.05 * (2 * b.uniform("alignment", tuple(b.x.shape[1:])) - 1)).clamp(0, 1)
    with Softened(50.0):
        logits, worst = misalignment(net, image.requires_grad_(), b.y)
        _, before = misalignment(net, start.requires_grad_(), b.y)
        value = F.cross_entropy(logits, b.y) + 0.5 * worst.mean()
    assert float(worst.detach().mean()) > float(before.detach().mean())
    assert torch.allclose(objective(net, b), value, rtol=1e-4)


def test_alignment_makes_gradients_look_more_like_the_image_than_those_of_other_classes(tmp_path):
    apart = {}
    digits = load("digits", split="train", limit=300)
    for spec in ("clean", "alignment"):
        recipe = Recipe(arch="tiny-cnn", epochs=8, batch=30, rate=3e-3, eps=0.02, objective=spec)
        trained = train(digits, recipe, tmp_path / spec).model.eval()
        apart[spec] = float(misalignment(trained, digits.images().requires_grad_(), digits.y)[1].detach().mean())
    assert apart["alignment"] < apart["clean"] - 0.05, apart


def test_formulas(net):
    """Each loss once more, written out."""
    b = batch()
    worst = attacked(net, b, PGD(0.05, steps=3))
    z, clean = net(worst), net(b.x)
    p, q = z.softmax(1), clean.softmax(1)
    rows = torch.arange(len(b.y))
    other = p.clone()
    other[rows, b.y] = 0
    bce = -(p[rows, b.y].log() + (1 - other.amax(1)).log()).mean()
    apart = (q * (q.log() - p.log())).sum(1)
    expected = {
        "pgd-at": F.cross_entropy(z, b.y),
        "mart": bce + 5 * (apart * (1 - q[rows, b.y])).mean(),
        "alp": 0.5 * (F.cross_entropy(clean, b.y) + F.cross_entropy(z, b.y)) + 0.5 * (clean - z).square().mean(),
    }
    for name, value in expected.items():
        assert torch.allclose(make(name, eps=0.05, steps=3)(net, b), value, rtol=1e-4), name
    far = net(attacked(net, b, PGD(0.05, steps=3, loss="kl"))).log_softmax(1)
    trades = F.cross_entropy(clean, b.y) + 6 * (q * (q.log() - far)).sum(1).mean()
    assert torch.allclose(make("trades", eps=0.05, steps=3)(net, b), trades, rtol=1e-4)


def test_predicted_labels_do_not_leak(net):
    """The attack moves away from the prediction, whatever the label; the loss is that of the label."""
    b = batch()
    with torch.no_grad():
        predicted = net(b.x).argmax(1)
    assert bool((predicted != b.y).any())
    attack = PGD(0.05, steps=1)
    moved = {"true": attacked(net, b, attack), "predicted": attacked(net, b, attack, predicted)}
    for labels, images in moved.items():
        expected = 0.3 * F.cross_entropy(net(b.x), b.y) + 0.7 * F.cross_entropy(net(images), b.y)
        assert torch.allclose(Mixed(attack, 0.3, labels)(net, b), expected, rtol=1e-5)


def test_free_moves_the_perturbation_by_the_gradient_of_the_same_pass(net):
    b = batch()
    steps = Free(0.05, replays=3).updates(net, b)
    delta = torch.zeros_like(b.x)
    for update in steps:
        leaf = delta.clone().requires_grad_()
        loss = F.cross_entropy(net(b.x + leaf), b.y)
        assert torch.allclose(update.loss, loss, rtol=1e-5)
        (grad,) = torch.autograd.grad(loss, leaf)
        update.loss.backward()
        delta = ((b.x + delta + 0.05 * grad.sign()).clamp(0, 1) - b.x).clamp(-0.05, 0.05)
    assert torch.allclose(b.carry["delta"], delta, atol=1e-6)


def test_weights_are_moved_uphill_and_put_back(net):
    b = batch()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for update in WeightPerturbation(PGD(0.05, steps=2), gamma=0.1).updates(net, b):
        moved = {name: (p.detach() - before[name]).norm() / before[name].norm() for name, p in net.named_parameters()}
        assert all(abs(float(share) - 0.1) < 1e-4 for name, share in moved.items() if "weight" in name)
        assert all(float(share) == 0 for name, share in moved.items() if "bias" in name)
        assert update.loss > Clean()(net, b) or update.loss > F.cross_entropy(net(b.x), b.y)
        update.undo()
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())


def test_vertex_labels_soften_with_the_distance(net):
    b = batch()
    flat = VertexMixup(PGD(0.0, steps=1), near=0.7, far=0.7)(net, b)  # nothing moves: label smoothing alone
    k = len(DATA.classes)
    soft = torch.full((16, k), 0.3 / (k - 1)).scatter(1, b.y[:, None], 0.7)
    assert torch.allclose(flat, F.cross_entropy(net(b.x), soft), rtol=1e-5)


def test_regularisers_of_a_linear_loss_vanish():
    """Where the loss is linear in the image (a logit alone), curvature and distance to the tangent are 0."""

    class Steep(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(3 * 256) * 1e-3)

        def forward(self, x):  # cross-entropy of two logits far apart is their difference
            z = x.flatten(1) @ self.w
            return torch.stack([torch.zeros_like(z), z + 60], 1)

    model, b = Steep(), batch()
    b = Batch(b.x, torch.zeros_like(b.y), b.index, 0)
    plain = Clean()(model, b)
    assert torch.allclose(make("cure:weight=100", eps=None)(model, b), plain, rtol=1e-4)
    llr = make("llr:slope=0,weight=100", eps=0.05)(model, b)
    assert torch.allclose(llr, plain, rtol=1e-3)


def test_integrated_gradients_are_complete(net):
    """The attribution sums to the change of the loss, so its norm is at least that."""
    b = batch()
    moved = attacked(net, b, PGD(0.05, steps=3))
    change = F.cross_entropy(net(moved), b.y, reduction="none") - F.cross_entropy(net(b.x), b.y, reduction="none")
    loss = make("attribution:segments=50", eps=0.05, steps=3)(net, b)
    assert loss - F.cross_entropy(net(b.x), b.y) >= 0.99 * change.abs().mean()


def test_mart_of_a_certain_model_has_no_divergence_term():
    class Sure(nn.Module):
        def forward(self, x):
            return 40 * F.one_hot(torch.zeros(len(x), dtype=torch.long), 3).float() + 0 * x.sum()

    b = batch()
    b = Batch(b.x, torch.zeros_like(b.y), b.index, 0)
    assert Mart(PGD(0.05, steps=1), weight=1e6)(Sure(), b) < 1e-3


def test_early_stopping_keeps_the_best_weights(tmp_path):
    recipe = Recipe(**SMALL | {"epochs": 30, "rate": 0.02}, validate=0.25, patience=2, objective="pgd-at")
    found = train(DATA, recipe, tmp_path)
    assert len(found.history) < 30
    scores = [e.robust for e in found.history]
    assert found.best == scores.index(max(scores)) + 1
    assert len(found.history) == found.best + 2
    again = train(DATA, recipe, tmp_path)
    assert digest(again.model) == digest(found.model)
    assert len(again.history) == len(found.history)


def test_the_average_is_what_is_kept(tmp_path):
    plain = train(DATA, Recipe(**SMALL), tmp_path / "plain")
    averaged = train(DATA, Recipe(**SMALL, average=0.9), tmp_path / "average")
    assert digest(plain.model) != digest(averaged.model)
    layer = nn.Linear(1, 1, bias=False)
    average = Average(layer, 0.9)
    values, expected = [1.0, 2.0, 4.0], float(layer.weight.detach())
    for step, value in enumerate(values, 1):
        with torch.no_grad():
            layer.weight.fill_(value)
        average.update()
        decay = min(0.9, step / (step + 9))
        expected = decay * expected + (1 - decay) * value
    with average.applied():
        assert float(layer.weight.detach()) == pytest.approx(expected)
    assert float(layer.weight.detach()) == 4.0


def test_transfer_begins_with_other_weights(teacher, tmp_path):
    one = Recipe(**SMALL | {"epochs": 0}, start=teacher)
    begun = train(DATA, one, tmp_path / "same")
    assert digest(begun.model) == digest(load_model(teacher))
    two = DATA.take(DATA.y < 2)
    fewer = type(DATA)(two.x, two.y, DATA.classes[:2])
    head = train(fewer, one, tmp_path / "head").model
    shared = [n for n, t in head.state_dict().items() if torch.equal(t, load_model(teacher).state_dict()[n])]
    assert len(shared) >= len(head.state_dict()) - 2
    with pytest.raises(ValueError, match="start: expected weights of the same architecture"):
        train(DATA, Recipe(**SMALL | {"arch": "resnet18"}, start=teacher), tmp_path / "other")


def test_catastrophic_overfitting_is_named():
    def epoch(number, accuracy, robust):
        return Epoch(number, 9, 1.0, accuracy, 0.1, 1.0, 0.9, robust)

    history = [epoch(1, 0.4, 0.3), epoch(2, 0.5, 0.4)]
    assert "catastrophic overfitting: 3.0 % are right under PGD-10, after 40.0 %" in collapse(
        history, epoch(3, 0.8, 0.03)
    )
    assert collapse(history, epoch(3, 0.6, 0.35)) == ""
    assert collapse(history, epoch(3, 0.3, 0.05)) == ""


def test_stored_examples_are_those_of_the_attack(teacher):
    model = load_model(teacher)
    more = with_stored(DATA, model, PGD(8 / 255, steps=5), share=0.5)
    assert len(more) == len(DATA) + round(0.5 * len(DATA))
    made, labels = more.images(slice(len(DATA), None)), more.y[len(DATA) :]
    with preserve_state(model), torch.no_grad():
        before = (model(DATA.images()).argmax(1) == DATA.y).float().mean()
        after = (model(made).argmax(1) == labels).float().mean()
    assert after < before
    assert more.masks.shape[0] == len(more)


def test_cosine_ends_at_nothing():
    recipe = Recipe(schedule="cosine", rate=0.1, epochs=4)
    assert [round(recipe.learning_rate(e), 6) for e in range(5)] == [0.1, 0.085355, 0.05, 0.014645, 0]


def test_a_recipe_of_an_earlier_version_still_resumes(tmp_path):
    """Fields that came later count as their defaults."""
    recipe = Recipe(**SMALL)
    old = {k: v for k, v in json.loads(recipe.canonical()).items() if k not in ("average", "validate", "start")}
    assert recipe.difference(json.dumps(old)) == ""
    assert "average was 0.0, is 0.9" in Recipe(**SMALL, average=0.9).difference(json.dumps(old))


SCRIPT = """
import sys
from torch import nn
from assay.data import load
from assay.models import registry
from assay.training import Recipe, train
from assay.util.registry import Registry
plain = lambda c, k, s: nn.Sequential(  # no dropout, no batch statistics: nothing but the data differs
    nn.Conv2d(c, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, k))
registry.ARCHITECTURES = Registry("arch", {"plain": plain})
data = load("scenes:size=16,count=96", split="train")
recipe = Recipe(arch="plain", objective="pgd-at", eps=0.03, attack_steps=2, epochs=2, batch=32, rate=1e-3)
train(data, recipe, sys.argv[1])
"""


def test_two_processes_have_the_loss_curve_of_one(tmp_path):
    """The same global batches, divided."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "ACCELERATE_USE_CPU": "true",
    }
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "one")], check=True, env=environment, timeout=300)
    world = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "two")],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in world] == [0, 0]
    curves = [
        [e["loss"] for e in json.loads((tmp_path / name / "history.json").read_text())] for name in ("one", "two")
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_a_teacher_gets_images_of_its_own_and_stays_as_it_is():
    class Teacher(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))

        def forward(self, x):
            return (self.dense(x.sub_(0.5)), "features")

    teacher, student = Teacher().train(), nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    x = torch.rand(5, 3, 8, 8)
    before = x.clone()
    loss = Distillation(teacher)(student, Batch(x, torch.arange(5) % 4, torch.arange(5), 0))
    loss.backward()
    assert torch.equal(x, before)
    assert teacher.training
