"""Every context of a caller × every entry point: the same result as without, and everything left as it was found.

A context is what surrounds the call (inference mode, autocast, default types …) or what the model is like (it works in
place, has hooks, replaces a buffer). An entry point is what a user calls; its result is flattened to tensors.
"""

import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

import assay
from assay.attacks.plan import plan
from assay.core.model_state import preserve_state
from assay.data import Dataset
from assay.defences import Smoothed
from assay.diagnostics import adversarial_saliency, filter_gradients
from assay.diagnostics.trail import loss_gradient
from assay.engine.preflight import inspect
from assay.models import digest
from assay.signatures import Plan, Setting, calibrate, make_examples, train_recogniser
from assay.signatures.losses import Helpers
from assay.training import Batch, Recipe, train
from assay.training.objectives.batch import attacked, updates
from assay.training.objectives.registry import make
from assay.trust import run_checks
from assay.trust.context import CheckContext

SIZE, CLASSES, N = 8, 4, 12


class Net(nn.Module):
    """A convolutional network with batch normalisation, dropout and a normalisation that may work in place."""

    def __init__(self, *, in_place=False, replaces=False):
        super().__init__()
        self.in_place, self.replaces = in_place, replaces
        self.register_buffer("calls", torch.zeros(()))
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, 2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(72, CLASSES),
        )

    def forward(self, x):
        if self.in_place:
            x.sub_(0.5).div_(0.25)
        else:
            x = (x - 0.5) / 0.25
        if self.replaces:
            self.calls = self.calls + 1
        return self.body(x)


def network(**more):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = Net(**more)
        for layer in net.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.data.mul_(3)
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.2, 0.2)
        return net.train()


def data():
    x = torch.randint(0, 256, (N, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    with torch.no_grad():
        y = network().eval()(x.float() / 255).argmax(1)
    return Dataset(x, y, tuple("abcd"), name="squares")


DATA = data()
X, Y = DATA.images(), DATA.y


def attack(model, x, y, folder):
    outcome = assay.attack(model, x, y, assay.APGD(0.02, steps=5), preflight=False)
    square = assay.attack(model, x, y, assay.Square(0.03, queries=20), preflight=False)
    return outcome.status, outcome.images, outcome.margin, square.status, square.images


def least_distance(model, x, y, folder):
    outcome = assay.attack(model, x, y, assay.FMN(steps=10), preflight=False)
    carlini = assay.attack(model, x, y, assay.CarliniWagnerL2(5, 2), preflight=False)
    return outcome.status, outcome.images, carlini.status, carlini.images


def perturb(model, x, y, folder):
    return (assay.perturb(model, x, y, assay.PGD(0.02, steps=3), seed=5),)


def universal(model, x, y, folder):
    return (assay.universal(model, [(x, y)], assay.UniversalSign(0.05, updates=3), seed=1).delta,)


def run(model, x, y, folder):
    from assay.runs.evaluate import Question, evaluate
    from assay.runs.settings import Settings

    question = Question("Squares", replace(DATA, y=y), [plan("pgd:steps=3", eps=0.02)])
    result = evaluate({"m": model}, question, folder / "run", settings=Settings(checks="none"))
    (cell,) = result.study.cells
    return cell.outcome.status, cell.outcome.margin


def certify(model, x, y, folder):
    certificate = Smoothed(model, 0.1).certify(x, n=20, n0=5, alpha=0.1)
    return certificate.label, certificate.radius


def bound(model, x, y, folder):
    certificates = assay.certified(model, x, y, "ibp, crown, alpha-crown:steps=2", eps=0.002)
    return certificates.decision, certificates.margin


def diagnose(model, x, y, folder):
    saliency = adversarial_saliency(model, x, y, (y + 1) % CLASSES)
    return loss_gradient(model, x, y), saliency.full, filter_gradients(model, x[:4], y[:4])


def train_step(model, x, y, folder):
    """The images, which are assay's part of a training step; mode and precision of the loss are the caller's."""
    return (attacked(model, Batch(x, y, torch.arange(len(x), device="cpu"), 3), assay.PGD(0.02, steps=2)),)


def whole_training(model, x, y, folder):
    scheme = Recipe(arch="tiny-cnn", epochs=1, batch=6, objective="pgd-at", eps=0.02, attack_steps=1, validate=0.25)
    result = train(DATA, scheme, folder / "train")
    return tuple(result.model.state_dict().values())


def signatures(model, x, y, folder):
    found = make_examples({"m": model}, replace(DATA, y=y), (Setting("pgd", assay.PGD(0.1, steps=2)),))
    return found.images, found.kind, found.fooled


@cache
def identifier():
    found = make_examples({"m": network()}, DATA, (Setting("pgd", assay.PGD(0.2, steps=2)),))
    scheme = Plan(sees="image", arch="tiny-cnn", epochs=1, batch=8)
    with torch.random.fork_rng():
        recogniser = train_recogniser(found, scheme, Helpers(network(), network()))
        return calibrate(recogniser, found, found, refused=0.5)


def identify(model, x, y, folder):
    return identifier().scores(x)


def checks(model, x, y, folder):
    from assay.trust.answer import Level

    answers = run_checks(CheckContext(model, x, y), fast=True)
    return tuple(torch.tensor(list(Level).index(f.level), device="cpu") for found in answers.values() for f in found)


ENTRIES = {
    f.__name__: f
    for f in (
        attack,
        least_distance,
        perturb,
        universal,
        run,
        certify,
        bound,
        diagnose,
        train_step,
        whole_training,
        signatures,
        identify,
        checks,
    )
}
OWN_NETWORK = {"whole_training": "it builds its own network", "identify": "the identifier holds its own network"}


@contextmanager
def autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        assert torch.get_default_dtype() == dtype
        torch.set_default_dtype(before)


@contextmanager
def default_device():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        assert torch.get_default_device().type == "meta"
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        assert torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(False)


SURROUNDINGS = {
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": autocast,
    "default float16": lambda: default_dtype(torch.float16),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "default float64": lambda: default_dtype(torch.float64),
    "default device": default_device,
    "deterministic mode": deterministic,
    "anomaly mode": torch.autograd.detect_anomaly,
}
MODELS = {"in-place": {"in_place": True}, "reassigned buffer": {"replaces": True}}


def result_of(name, model, folder, x=None, y=None):
    return [part.clone() for part in ENTRIES[name](model, X.clone() if x is None else x, Y.clone(), folder)]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    kept = {}

    def of(name):
        if name not in kept:
            kept[name] = result_of(name, network(), tmp_path_factory.mktemp(name))
        return kept[name]

    return of


def same(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert torch.allclose(one.double(), other.double(), rtol=1e-5, atol=1e-6, equal_nan=True)


def state(model):
    """What must be as it was found."""
    return (
        [part.training for part in model.modules()],
        [(name, p.requires_grad, p.detach().clone(), p.grad) for name, p in model.named_parameters()],
        [(name, id(b), b.clone()) for name, b in model.named_buffers()],
        [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules()],
        torch.get_rng_state(),
    )


def unchanged(before, after):
    assert before[0] == after[0]
    assert before[3] == after[3]
    assert torch.equal(before[4], after[4])
    for one, other in zip(before[1], after[1], strict=True):
        assert one[:2] == other[:2]
        assert torch.equal(one[2], other[2])
        assert one[3] is other[3]
    for one, other in zip(before[2], after[2], strict=True):
        assert one[:2] == other[:2]
        assert torch.equal(one[2], other[2])


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("context", SURROUNDINGS)
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_what_surrounds_the_call_changes_nothing(context, entry, expected, tmp_path):
    wanted, model = expected(entry), network()
    before = state(model)
    with SURROUNDINGS[context]():
        x = X.clone()
        kept = x.clone()
        found = ENTRIES[entry](model, x, Y.clone(), tmp_path)
        assert torch.equal(x, kept)
    same([part.cpu() for part in found], wanted)
    unchanged(before, state(model))


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e not in OWN_NETWORK])
@pytest.mark.parametrize("kind", MODELS)
def test_what_the_model_does_to_its_input_and_buffers_changes_nothing(kind, entry, expected, tmp_path):
    wanted, model = expected(entry), network(**MODELS[kind])
    before, x = state(model), X.clone()
    same(result_of(entry, model, tmp_path, x), wanted)
    assert torch.equal(x, X)
    unchanged(before, state(model))


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e not in OWN_NETWORK])
def test_hooks_are_called_and_stay(entry, expected, tmp_path):
    wanted, model, seen = expected(entry), network(), []
    model.body[0].register_forward_hook(lambda *_: seen.append(1))
    model.register_forward_pre_hook(lambda _, given: (given[0] * 1.0,))
    before = state(model)
    same(result_of(entry, model, tmp_path), wanted)
    assert seen
    unchanged(before, state(model))


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e not in OWN_NETWORK])
def test_two_threads_on_one_model_take_turns(entry, expected, tmp_path):
    wanted, model = expected(entry), network()
    before, found, errors = state(model), {}, []

    def work(number):
        try:
            found[number] = result_of(entry, model, tmp_path / str(number))
        except BaseException as error:
            errors.append(error)

    for number in range(3):
        (tmp_path / str(number)).mkdir()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for number in range(3):
        same(found[number], wanted)
    unchanged(before, state(model))


@pytest.mark.parametrize("name", ["clean", "pgd-at", "trades", "mart", "alp", "awp", "free", "llr", "cure"])
def test_the_loss_of_a_model_that_works_in_place(name):
    """Objectives pass the same images several times."""
    losses = []
    for kind in ({}, {"in_place": True}):
        objective, model, x = make(name, eps=0.02, steps=2), network(**kind), X.clone()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            batch = Batch(x, Y, torch.arange(len(x)), 3)
            losses.append([float(update.loss.detach()) for update in updates(objective, model, batch)])
        assert torch.equal(x, X)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


class Noisy(nn.Module):
    """Draws from the random state that all threads share."""

    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.dense = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, CLASSES))

    def forward(self, x):
        logits = self.dense(x)
        return logits + 0.3 * torch.randn_like(logits)


@pytest.mark.parametrize("entry", ["attack", "perturb"])
def test_random_models_in_two_threads_draw_as_if_alone(entry):
    models = [Noisy(1), Noisy(2)]

    def job(model):
        if entry == "perturb":
            return assay.perturb(model, X, Y, assay.PGD(0.1, steps=30), seed=4)
        outcome = assay.attack(model, X, Y, assay.PGD(0.1, steps=30), seed=4, stop="never", preflight=False)
        return torch.cat([outcome.images.flatten(), outcome.margin.nan_to_num()])

    wanted, caller = [job(model) for model in models], torch.get_rng_state()
    found = {}
    for _ in range(3):
        threads = [threading.Thread(target=lambda i=i: found.update({i: job(models[i])})) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(torch.equal(found[i], wanted[i]) for i in range(2))
    assert torch.equal(torch.get_rng_state(), caller)


LOOKS = {
    "digest": digest,
    "preflight": lambda model: [found.code for found in inspect(model, X, Y)],
    "A1": lambda model: run_checks(CheckContext(model, X, Y), only=("A1",))["A1"][0].text,
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_model_is_not_looked_at_while_another_thread_has_changed_it(look):
    """In training mode as it is found, in evaluation mode and with another buffer while it is attacked."""
    model, entered, leave, found = network(), threading.Event(), threading.Event(), []
    wanted = LOOKS[look](model)

    def attack():
        with preserve_state(model):
            next(model.buffers()).add_(1)
            entered.set()
            leave.wait(60)

    threads = [threading.Thread(target=attack), threading.Thread(target=lambda: found.append(LOOKS[look](model)))]
    threads[0].start()
    assert entered.wait(60)
    threads[1].start()
    threads[1].join(0.3)
    assert not found
    leave.set()
    for thread in threads:
        thread.join()
    assert found == [wanted]
