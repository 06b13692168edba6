"""How models are called: their own input, the form of their output, gradients, and what they are made of."""

import copy
import functools
import random
import types
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import assay
import assay.defences
from assay import Status
from assay.core.model_calls import call, classify, fill_masked, gradients
from assay.core.model_parts import modules_in
from assay.core.model_state import model_device, model_dtype, preserve_state
from assay.engine.preflight import ModelWarning, inspect, no_gradient
from assay.models import FixedBatch
from models_for_tests import images, mlp, predicted

MODEL, X = mlp(), images(16)
Y = predicted(MODEL, X)
ATTACK = assay.PGD(0.05, steps=5)


def verdicts(model, **more):
    """Status and images, without a look at the model first."""
    outcome = assay.attack(model, X, Y, ATTACK, preflight=False, **more)
    return outcome.status.tolist(), outcome.images


PLAIN, PLAIN_IMAGES = verdicts(MODEL)


class Output(types.SimpleNamespace):
    """As other libraries return it."""


FORMS = {
    "object": lambda z: Output(logits=z, loss=None),
    "mapping": lambda z: {"loss": torch.zeros(()), "logits": z},
    "tuple": lambda z: (z, "features"),
    "list": lambda z: [z, z * 0],
    "tuple of an object": lambda z: (Output(logits=z),),
}


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_found_in_the_output_and_it_is_told_once(form):
    model = lambda x: FORMS[form](MODEL(x))  # noqa: E731
    assert verdicts(model)[0] == PLAIN
    with pytest.warns(ModelWarning, match="output-form: the model returns no plain tensor; it") as told:
        outcome = assay.attack(model, X, Y, ATTACK)
    assert len(told) == 1
    assert outcome.status.tolist() == PLAIN
    moved = assay.perturb(model, X, Y, ATTACK, seed=0, ids=torch.arange(len(X)))
    assert torch.equal(moved, assay.perturb(MODEL, X, Y, ATTACK, seed=0, ids=torch.arange(len(X))))


BAD = {
    "nothing": (lambda z: None, r"model: expected logits: a tensor; or .*, got NoneType"),
    "array": (lambda z: z.detach().numpy(), r"wrap a function of NumPy arrays in assay.QueryModel, got numpy.ndarray"),
    "mapping": (lambda z: {"out": z}, r"got dict with the keys \['out'\]"),
    "empty tuple": (lambda z: (), r"model: expected logits: .*got tuple of 0"),
    "words": (lambda z: "cat", r"model: expected logits: .*got str"),
    "labels": (lambda z: z.argmax(1), r"model: expected logits of shape \(16, k\).*QueryModel with gives=\"labels\""),
    "one logit": (lambda z: z[:, 0], r"model: expected logits of shape \(16, k\).*BinaryLogit\), got shape \(16,\)"),
    "one column": (lambda z: z[:, :1], r"BinaryLogit\), got shape \(16, 1\)"),
    "maps": (lambda z: z[:, :, None, None], r"got shape \(16, 4, 1, 1\)"),
    "turned": (lambda z: z.T, r"model: expected logits of shape \(16, k\).*got shape \(4, 16\)"),
    "another number of rows": (lambda z: z[:-1], r"got shape \(15, 4\)"),
}


@pytest.mark.parametrize("form", BAD)
def test_any_other_output_is_one_sentence(form):
    change, message = BAD[form]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        assay.attack(lambda x: change(MODEL(x)), X, Y, ATTACK)
    assert "\n" not in str(caught.value)


def test_a_squeezed_row_is_a_row():
    model = lambda x: MODEL(x).squeeze()  # noqa: E731
    alone = [assay.attack(model, X[i : i + 1], Y[i : i + 1], ATTACK).status.item() for i in range(4)]
    assert alone == PLAIN[:4]


WRITERS = {
    "sub": lambda x: x.sub_(0.5).add_(0.5),
    "one channel": lambda x: x[:, 0].mul_(1.0) is None or x,
    "clamp": lambda x: x.clamp_(0.2, 0.8),
    "data": lambda x: (x.data.sub_(0.5).add_(0.5), x)[1],
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("preflight", [False, True])
def test_a_model_that_writes_into_its_input(name, preflight):
    def clean(x):
        return MODEL(WRITERS[name](x.clone()))

    y = clean(X).argmax(1).detach()
    for attack in (ATTACK, assay.Square(0.1, queries=30), assay.FMN(steps=5), assay.HopSkipJump(2, samples=10)):
        results = []
        for model in (clean, lambda x: MODEL(WRITERS[name](x))):
            x = X.clone()
            outcome = assay.attack(model, x, y, attack, preflight=preflight)
            assert torch.equal(x, X)
            assert torch.equal(outcome.clean, X)
            results.append(outcome)
        assert torch.equal(results[0].status, results[1].status)
        assert torch.equal(results[0].images, results[1].images)


def test_a_function_of_arrays_that_writes_into_them():
    def ask(images):
        images -= 0.5
        return MODEL(torch.from_numpy(images + 0.5)).detach().numpy()

    box, x = assay.QueryModel(ask), X.clone()
    outcome = assay.attack(box, x, Y, assay.Square(0.1, queries=30), preflight=False)
    other = assay.attack(MODEL, X, Y, assay.Square(0.1, queries=30), preflight=False)
    assert torch.equal(x, X)
    assert torch.equal(outcome.status, other.status)


def test_the_outcome_keeps_its_own_images():
    x = X.clone()
    outcome = assay.attack(MODEL, x, Y, ATTACK, preflight=False)
    x.zero_()
    assert torch.equal(outcome.clean, X)


def test_a_condition_that_writes_into_what_it_is_given():
    def test(logits, x):
        x.zero_()
        logits.zero_()
        return torch.ones(len(x), dtype=torch.bool)

    assert verdicts(MODEL, test=test)[0] == PLAIN


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ao.quantization.quantize_dynamic(copy.deepcopy(MODEL), {nn.Linear}),
        lambda: lambda z: MODEL(z.detach()),
        lambda: lambda z: torch.from_numpy(MODEL(z.detach()).detach().numpy()),
    ],
    ids=["quantised", "detached", "through NumPy"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of quantised operators
def test_a_graph_that_does_not_reach_the_image_is_no_gradient(make):
    model = make()
    y = classify(model, X).argmax(1).detach()
    assert no_gradient(model, X, y).code == "no-gradient"
    with pytest.warns(ModelWarning, match="no-gradient: the gradient is exactly zero on 100 %"):
        outcome = assay.attack(model, X, y, ATTACK)
    assert outcome.count(Status.ERROR) == 0


def exported():
    batch = torch.export.Dim("batch", min=1, max=4096)
    return torch.export.export(MODEL, (X,), dynamic_shapes=({0: batch},)).module()


def exported_for(count):
    return torch.export.export(MODEL, (X[:count],)).module()


class Checkpointed(nn.Module):
    """Recomputes its inner activations in the backward pass, in the way that refuses ``torch.autograd.grad``."""

    def __init__(self):
        super().__init__()
        self.net = copy.deepcopy(MODEL)

    def forward(self, x):
        return self.net[3:](checkpoint(self.net[:3], x, use_reentrant=True))


KINDS = {
    "exported": exported,
    "exported for four": lambda: exported_for(4),
    "exported for one": lambda: exported_for(1),
    "exported, two or more": lambda: torch.export.export(
        MODEL, (X,), dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=4096)},)
    ).module(),
    "scripted": lambda: torch.jit.script(copy.deepcopy(MODEL)),
    "traced": lambda: torch.jit.trace(copy.deepcopy(MODEL), X),
    "frozen": lambda: torch.jit.freeze(torch.jit.script(copy.deepcopy(MODEL))),
    "checkpointed": Checkpointed,
    "compiled": lambda: torch.compile(copy.deepcopy(MODEL), backend="eager"),
    "bound forward": lambda: copy.deepcopy(MODEL).forward,
    "partial": lambda: functools.partial(lambda net, x: net(x), copy.deepcopy(MODEL)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo's, of every input
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # the checkpoint's
def test_kinds_of_models(kind):
    model = KINDS[kind]()
    status, moved = verdicts(model)
    assert status == PLAIN
    assert torch.allclose(moved, PLAIN_IMAGES, atol=1e-5)
    for attack in (assay.DeepFool(), assay.JSMA(), assay.APGD(0.05, steps=4)):
        one, other = (assay.attack(m, X, Y, attack, preflight=False) for m in (model, MODEL))
        assert one.status.tolist() == other.status.tolist()
    assert torch.allclose(
        assay.perturb(model, X, Y, ATTACK, seed=1), assay.perturb(MODEL, X, Y, ATTACK, seed=1), atol=1e-5
    )


def test_a_model_made_in_inference_mode():
    with torch.inference_mode():
        model = mlp()
    assert verdicts(model)[0] == PLAIN
    assert all(p.is_inference() for p in model.parameters())


def test_masked_classes_are_no_reason_for_an_invalid_sample():
    mask = torch.tensor([0.0, 0.0, 0.0, 0.0, -torch.inf])

    def model(x):
        return torch.cat([MODEL(x), torch.zeros(len(x), 1)], 1) + mask

    assert fill_masked(model(X)).isfinite().all()
    assert verdicts(model)[0] == PLAIN
    for attack in (assay.APGD(0.05, steps=4, loss="dlr"), assay.DeepFool(), assay.CarliniWagnerL2(10, 2)):
        outcome = assay.attack(model, X, Y, attack)
        assert outcome.count(Status.INVALID) == 0
        assert outcome.count(Status.BROKEN)
    moved = assay.perturb(model, X, Y, ATTACK, seed=0)
    assert not torch.equal(moved, X)
    assert torch.allclose(moved, assay.perturb(MODEL, X, Y, ATTACK, seed=0), atol=1e-5)


class InAList(nn.Module):
    """Keeps its network where PyTorch does not look."""

    def __init__(self, net):
        super().__init__()
        self.nets = [net]

    def forward(self, x):
        return self.nets[0](x)


class Slotted:
    __slots__ = ("net",)

    def __init__(self, net):
        self.net = net

    def __call__(self, x):
        return self.net(x)


def of_a_class(net):
    class Kept:
        inner = net

    return lambda x: Kept.inner(x)


def wrapped(net):
    @functools.wraps(net.forward)
    def ask(x):
        return net(x)

    return ask


def dropping():
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(72), nn.Dropout(0.5), nn.Linear(72, 4)).train()


class Holder:
    """An object that holds a network."""

    def __init__(self, net):
        self.parts = {"net": [net]}

    def __call__(self, x):
        return self.parts["net"][0](x)


HOLDERS = {
    "lambda": lambda net: lambda x: net(x),
    "partial": lambda net: functools.partial(lambda f, x: f(x), net),
    "bound forward": lambda net: net.forward,
    "object": Holder,
    "nested": lambda net: functools.partial(HOLDERS["lambda"](lambda x: net(x) * 1.0)),
    "list in a module": InAList,
    "list in a part of a module": lambda net: nn.Sequential(nn.Identity(), InAList(net)),
    "slots": Slotted,
    "class attribute": of_a_class,
    "wrapped function": wrapped,
    "deque": lambda net: functools.partial(lambda nets, x: nets[0](x), deque([net])),
    "adapter": lambda net: FixedBatch(lambda x: net(x), 5),
    "expectation": lambda net: assay.Expectation(lambda x: net(x), 1),
    "query": lambda net: assay.QueryModel(lambda a: net(torch.from_numpy(a)).detach().numpy()),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_network_inside_a_callable_is_looked_after(holder):
    net = dropping()
    model = HOLDERS[holder](net)
    assert any(part is net for root in modules_in(model) for part in root.modules())
    before = copy.deepcopy(net.state_dict())
    assert "train-mode" in [finding.code for finding in inspect(model, X, Y)]
    attack = assay.Square(0.1, queries=10)
    with pytest.warns(ModelWarning, match="train-mode"):
        outcome = assay.attack(model, X, Y, attack)
    plain = assay.attack(copy.deepcopy(net).eval(), X, Y, attack)
    assert outcome.status.tolist() == plain.status.tolist()
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())


NET = mlp(dtype=torch.float64)


def test_a_network_that_a_function_reads_from_its_globals_is_found():
    def model(x):
        return NET(x)

    assert modules_in(model) == (NET,)
    assert model_dtype(model) == torch.float64
    assert assay.attack(model, X, Y, ATTACK, preflight=False).status.tolist() == PLAIN


def test_what_is_no_network_is_not_looked_at():
    assert modules_in(np.mean) == ()
    assert modules_in(lambda x: torch.relu(x)) == ()
    assert model_device(np.mean, torch.device("cpu")) == torch.device("cpu")


class Restless(nn.Module):
    """Changes all that it can of itself in a forward pass."""

    def __init__(self):
        super().__init__()
        self.net = copy.deepcopy(MODEL)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("sums", torch.zeros(2))

    def forward(self, x):
        self.calls = self.calls + 1  # another tensor
        self.sums.add_(1)
        self.register_buffer(f"new{int(self.calls)}", torch.ones(1))
        with torch.no_grad():
            self.net[1].weight.mul_(1.0001)
        self.net[3].bias = nn.Parameter(self.net[3].bias * 1.0)
        self.net[1].register_forward_hook(lambda *_: None)
        self.net.train()
        return self.net(x)


def test_all_of_a_restless_model_is_put_back():
    model = Restless()
    tensors = {name: t for name, t in (*model.named_parameters(), *model.named_buffers())}
    before = {name: t.detach().clone() for name, t in tensors.items()}
    assay.attack(model, X, Y, ATTACK, preflight=False)
    after = dict((*model.named_parameters(), *model.named_buffers()))
    assert list(after) == list(tensors)
    for name, tensor in tensors.items():
        assert after[name] is tensor
        assert torch.equal(tensor, before[name])
    assert not any(part._forward_hooks for part in model.modules())
    assert [part.training for part in model.net.modules()] == [part.training for part in MODEL.modules()]


def test_guards_within_guards_put_back_what_they_found():
    model = dropping()
    with preserve_state(model):
        assert not model.training
        with preserve_state(model, lambda x: model(x)):
            assert not model.training
        assert not model.training
        assert not any(p.requires_grad for p in model.parameters())
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


def test_gradients_of_several_scalars_once_and_twice():
    x = torch.tensor([[[[1.0, 2.0]]]])
    (cubes, none), rest = gradients(lambda leaf: ([leaf.pow(3).sum(), torch.ones(())], "rest"), x)
    assert cubes.flatten().tolist() == [3.0, 12.0]
    assert none.abs().sum() == 0
    assert rest == "rest"
    assert not x.requires_grad


def test_a_model_of_float64_under_a_default_of_float64():
    """Constants that a model makes have the type that its author had set."""

    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(dtype=torch.float64)

        def forward(self, x):
            return self.net(x) @ torch.eye(4)

    before, model = torch.get_default_dtype(), Turned()
    try:
        torch.set_default_dtype(torch.float64)
        assert verdicts(model)[0] == PLAIN
    finally:
        torch.set_default_dtype(before)


def test_what_a_call_returns_lies_where_the_images_lie():
    assert call(lambda x: x.flatten(1).double(), X).device == X.device


def noisy(draw):
    return lambda x: MODEL(x + 0.2 * draw(x))


SOURCES = {
    "torch": lambda x: torch.randn_like(x),
    "numpy": lambda x: torch.from_numpy(np.random.standard_normal(tuple(x.shape))).to(x),
    "python": lambda x: torch.full_like(x, random.gauss(0, 1)),
}


@pytest.mark.parametrize("source", SOURCES)
def test_what_a_random_model_draws_belongs_to_the_seed_of_the_call(source):
    model, found = noisy(SOURCES[source]), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        found.append((verdicts(model), assay.perturb(model, X, Y, ATTACK, seed=3)))
    assert found[0][0][0] == found[1][0][0]
    assert torch.equal(found[0][0][1], found[1][0][1])
    assert torch.equal(found[0][1], found[1][1])


class OwnGenerators(nn.Module):
    """Draws from generators of its own."""

    def __init__(self):
        super().__init__()
        self.net = copy.deepcopy(MODEL)
        self.torch = torch.Generator().manual_seed(0)
        self.others = {"numpy": np.random.default_rng(0), "python": random.Random(0)}

    def forward(self, x):
        noise = torch.randn(x.shape, generator=self.torch) + float(self.others["numpy"].standard_normal())
        return self.net(x + 0.1 * noise + 0.01 * self.others["python"].random())


def test_generators_that_a_model_holds_are_put_back():
    model = OwnGenerators()
    first, second = verdicts(model), verdicts(model)
    assert first[0] == second[0]
    assert torch.equal(first[1], second[1])
    assert torch.equal(model.torch.get_state(), torch.Generator().manual_seed(0).get_state())
    assert model.others["python"].random() == random.Random(0).random()
    assert model.others["numpy"].random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("precision", ["medium", "high", "highest"])
def test_the_precision_of_matrices_is_put_back(precision):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        assert verdicts(lambda x: MODEL(x) if torch.get_float32_matmul_precision() == "highest" else None)[0] == PLAIN
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def test_hooks_on_saved_tensors_are_the_callers_own():
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t * 0, lambda t: t):
        status, moved = verdicts(MODEL)
    assert status == PLAIN
    assert torch.equal(moved, PLAIN_IMAGES)


def test_a_model_that_switches_gradients_off_for_those_after_it():
    def model(x):
        logits = MODEL(x)
        torch.set_grad_enabled(False)
        return logits

    try:
        assert verdicts(model)[0] == PLAIN
        assert torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)


def test_a_defence_leaves_the_mode_of_the_classifier():
    net = dropping()
    defended = assay.defences.defend(net, "jpeg:quality=60")
    assert net.training
    assert not defended.training


@pytest.mark.parametrize(
    ("test", "came"),
    [
        (lambda z, x: 3, "int"),
        (lambda z, x: torch.ones(len(z)), "torch.float32"),
        (lambda z, x: torch.ones(2) > 0, r"torch.bool of shape \(2,\)"),
    ],
)
def test_a_condition_that_is_none(test, came):
    with pytest.raises(TypeError, match=rf"test: expected a function that returns a bool tensor of shape .*got {came}"):
        verdicts(MODEL, test=test)


@pytest.mark.parametrize("at", [1, 3, 5, 9])
def test_an_interrupt_at_any_pass_leaves_a_record(at):
    calls = []

    def model(x):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return MODEL(x)

    outcome = assay.attack(model, X, Y, ATTACK)
    assert outcome.count(Status.SURVIVED) == 0
    assert outcome.count(Status.NOT_RUN) > 0
    assert "interrupted" in outcome.events


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X.to_sparse(), "x: expected .*dense and with data, got torch.sparse_coo"),
        (X.to("meta"), "x: expected .*dense and with data, got torch.strided on meta"),
    ],
)
def test_images_without_values(x, message):
    with pytest.raises(TypeError, match=message):
        assay.attack(MODEL, x, Y, ATTACK)


def test_a_class_is_no_model():
    with pytest.raises(TypeError, match="model: expected a callable that maps images to logits"):
        assay.attack(nn.Linear, X, Y, ATTACK)
