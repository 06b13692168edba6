"""Other libraries' attacks under our referee."""

import pytest
import torch
from torch import nn

import assay
from assay import Peer, Status, over_targets, peer
from assay.attacks.registry import make
from models_for_tests import images, mlp, predicted


def problem(n=16):
    model, x = mlp(), images(n)
    return model, x, predicted(model, x)


def sign_step(size):
    """A library's attack: one step, with the model it is given."""

    def run(model, x, y, target):
        x.requires_grad_()
        sign = 1 if target is None else -1
        loss = torch.nn.functional.cross_entropy(model(x), y if target is None else target)
        (grad,) = torch.autograd.grad(loss, x)
        return x.detach() + sign * size * grad.sign()

    return run


def test_it_is_measured_like_any_attack():
    model, x, y = problem()
    outcome = assay.attack(model, x, y, Peer("mine", sign_step(0.1), eps=0.1), preflight=False)
    ours = assay.attack(model, x, y, assay.FGSM(0.1), preflight=False)
    assert (outcome.status == ours.status).all()
    assert (outcome.forwards == 2).all()  # one of the library's, one to look
    assert (outcome.backwards == 1).all()
    aimed = assay.attack(model, x, y, Peer("mine", sign_step(0.3), eps=0.3), target=(y + 1) % 4, preflight=False)
    with torch.no_grad():
        reached = model(aimed.images).argmax(1) == (y + 1) % 4
    assert (reached == (aimed.status == int(Status.BROKEN))).all()


def test_what_leaves_the_budget_does_not_count():
    model, x, y = problem()
    outcome = assay.attack(model, x, y, Peer("cheat", sign_step(0.5), eps=0.05), preflight=False)
    assert outcome.count(Status.BROKEN) == 0
    assert any("outside the threat model" in event for event in outcome.events)
    assert torch.equal(outcome.images, outcome.clean)


def test_what_is_not_images_is_named():
    model, x, y = problem()
    with pytest.raises(ValueError, match=r"odd: expected images of shape \(16, 2, 6, 6\)"):
        assay.attack(model, x, y, Peer("odd", lambda m, a, b, t: a[:3]), preflight=False)


def dropout_net():
    """A network whose logits differ between training and evaluation mode."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
                        nn.Linear(8 * 36, 4))  # fmt: skip
    net[1].running_mean.normal_(std=0.2)
    return net.eval()


def switch_to_training(model):
    model.train()
    for part in model.modules():
        part.train()
        part.training = True


def switch_on_gradients(model):
    for parameter in model.parameters():
        parameter.requires_grad_()
    model.requires_grad_()


def add_hooks(model):
    model.model.register_forward_hook(lambda *_: None)
    model.model[0].register_forward_pre_hook(lambda *_: None)


def change_weights(model):
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.add_(1.0)


MEDDLING = {
    "nothing": lambda model: None,
    "train": lambda model: model.train(),
    "train parts": switch_to_training,
    "eval": lambda model: [part.eval() for part in model.modules()],
    "requires_grad": switch_on_gradients,
    "zero_grad": lambda model: model.zero_grad(),
    "hooks": add_hooks,
}


def meddler(meddle, run):
    def attack(model, x, y, target):
        meddle(model)
        images = run(model, x, y, target)
        meddle(model)
        return images

    return attack


def snapshot(net):
    tables = [dict(getattr(part, name)) for part in net.modules() for name in ("_forward_hooks", "_forward_pre_hooks")]
    return (
        [part.training for part in net.modules()],
        [p.requires_grad for p in net.parameters()],
        {name: tensor.clone() for name, tensor in net.state_dict().items()},
        [p.grad for p in net.parameters()],
        tables,
    )


def same(before, after):
    assert before[:2] == after[:2]
    assert all(torch.equal(before[2][name], after[2][name]) for name in before[2])
    assert all(first is second for first, second in zip(before[3], after[3], strict=True))
    assert before[4] == after[4]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", MEDDLING)
def test_a_library_cannot_switch_the_model(kind, training):
    """Modes, flags, gradients and hooks that a library changes neither reach its logits nor stay."""
    net, x = dropout_net(), images(16)
    y = predicted(net, x)
    honest = assay.attack(net, x, y, Peer("mine", sign_step(0.02), eps=0.02), preflight=False)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    net.train(training)
    before = snapshot(net)
    attack = Peer("mine", meddler(MEDDLING[kind], sign_step(0.02)), eps=0.02)
    outcome = assay.attack(net, x, y, attack, preflight=False, slots=5)
    same(before, snapshot(net))
    assert all((p.grad == 1).all() for p in net.parameters())
    assert torch.equal(outcome.status, honest.status)
    assert torch.equal(outcome.images, honest.images)


@pytest.mark.parametrize("kind", [*MEDDLING, "weights"])
def test_a_library_that_raises_leaves_the_model_as_it_was(kind):
    net, x = dropout_net(), images(6)
    before = snapshot(net)

    def fail(model, x, y, target):
        raise RuntimeError("planted")

    meddle = MEDDLING.get(kind, change_weights)
    with pytest.raises(RuntimeError, match="planted"):
        assay.attack(net, x, predicted(net, x), Peer("mine", meddler(meddle, fail), eps=0.02), preflight=False)
    same(before, snapshot(net))


def test_weights_that_a_library_changes_are_put_back_before_the_next_batch():
    net, x = dropout_net(), images(6)
    y = predicted(net, x)

    def spoil(model, x, y, target):
        change_weights(model)
        return x

    outcome = assay.attack(net, x, y, Peer("spoil", spoil, eps=0.02), preflight=False, slots=2)
    assert (outcome.predicted == y).all()


def test_only_gradients_that_are_taken_are_counted():
    """Three passes forward with a graph, two backward through one of them, one pass without."""
    net, x = dropout_net(), images(8)

    def run(model, x, y, target):
        x.requires_grad_()
        model(x)
        logits = model(x)
        for k in (0, 1):
            torch.autograd.grad(logits[:, k].sum(), x, retain_graph=True)
        model(x.detach())
        return x

    outcome = assay.attack(net, x, predicted(net, x), Peer("mine", run, eps=0.1), preflight=False)
    assert (outcome.forwards == 4).all()  # three of the library's and one to look
    assert (outcome.backwards == 2).all()
    smooth = assay.Expectation(net, draws=3, sigma=0.01)
    outcome = assay.attack(smooth, x, predicted(smooth, x), Peer("mine", run, eps=0.1), preflight=False)
    assert (outcome.forwards == 12).all()
    assert (outcome.backwards == 6).all()


def test_odd_images_of_a_library():
    """Images that are changed in place, of another type, or not finite."""
    net, x = dropout_net(), images(8)
    y, clean = predicted(net, x), x.clone()

    def in_place(model, x, y, target):
        y.zero_()
        return x.sub_(0.5)

    assay.attack(net, x, y, Peer("in place", in_place), preflight=False)
    assert torch.equal(x, clean)
    assert torch.equal(y, predicted(net, x))

    def double(model, x, y, target):
        x = x.double()
        return sign_step(0.02)(model, x, y, target)

    ours = assay.attack(net, x, y, Peer("mine", sign_step(0.02), eps=0.02), preflight=False)
    theirs = assay.attack(net, x, y, Peer("mine", double, eps=0.02), preflight=False)
    assert torch.equal(ours.status, theirs.status)

    def some_nan(model, x, y, target):
        x[::2] = torch.nan
        return x

    class Blind(nn.Module):
        """Finite logits even for images that are not finite."""

        def forward(self, x):
            return net(x.nan_to_num(0.5))

    outcome = assay.attack(Blind(), x, predicted(Blind(), x), Peer("nan", some_nan, eps=0.1), preflight=False)
    assert (outcome.status[::2] == int(Status.INVALID)).all()
    assert (outcome.status[1::2] == int(Status.SURVIVED)).all()
    assert outcome.images.isfinite().all()
    with pytest.raises(ValueError, match=r"numpy: expected a tensor: images of shape .*, got ndarray"):
        assay.attack(net, x, y, Peer("numpy", lambda m, a, b, t: a.numpy()), preflight=False)


def test_a_model_of_another_type_is_asked_in_its_own():
    net, x = dropout_net().double(), images(8)
    y = predicted(net, x.double())
    outcome = assay.attack(net, x, y, Peer("mine", sign_step(0.1), eps=0.1), preflight=False)
    assert outcome.count(Status.BROKEN) > 0


PARITY = [
    ("torchattacks:PGD,steps=10,random_start=false", "torchattacks"),
    ("torchattacks:APGD,steps=10", "torchattacks"),
    ("foolbox:LinfPGD,steps=10,random_start=false,rel_stepsize=0.25", "foolbox"),
    ("art:ProjectedGradientDescent,max_iter=10,eps_step=0.0025", "art"),
    ("art:FastGradientMethod", "art"),
]


@pytest.mark.peers
@pytest.mark.parametrize(("spec", "library"), PARITY)
def test_real_libraries_attack_the_network_in_evaluation_mode(spec, library):
    """A network with dropout and batch normalisation is attacked as one without them that computes the same."""
    pytest.importorskip(library, reason=f"{library} is not installed")
    net, x = dropout_net(), images(24)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    plain = nn.Sequential(*(nn.Identity() if isinstance(part, nn.Dropout) else part for part in net)).eval()
    y, before = predicted(net, x), snapshot(net)
    first, second = (assay.attack(model, x, y, make(spec, eps=0.01), preflight=False) for model in (net, plain))
    same(before, snapshot(net))
    assert torch.equal(first.status, second.status)
    assert torch.equal(first.forwards, second.forwards)
    ours = assay.attack(net, x, y, assay.PGD(0.01, steps=10), preflight=False)
    if "PGD" in spec or "Projected" in spec:
        assert abs(first.count(Status.BROKEN) - ours.count(Status.BROKEN)) <= 2
        assert (first.backwards[first.status == int(Status.SURVIVED)] >= 9).all()


@pytest.mark.peers
def test_real_libraries_use_the_norm_of_the_budget():
    pytest.importorskip("art", reason="art is not installed")
    pytest.importorskip("torchattacks", reason="torchattacks is not installed")
    net, x = dropout_net(), images(24)
    y = predicted(net, x)
    for spec in ("art:ProjectedGradientDescent,max_iter=10,eps_step=0.02", "torchattacks:APGD,steps=10"):
        outcome = assay.attack(net, x, y, make(spec, eps=0.08, norm="l2"), preflight=False)
        ours = assay.attack(net, x, y, assay.PGD(0.08, norm="l2", steps=10), preflight=False)
        assert abs(outcome.count(Status.BROKEN) - ours.count(Status.BROKEN)) <= 2, spec
        assert not outcome.events


@pytest.mark.peers
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("foolbox:LinfPDG", r"spec: expected an attack of foolbox.attacks, .*did you mean 'LinfPGD'"),
        ("foolbox:LinfPGD,norm=l2", "foolbox:LinfPGD: expected a budget in its own norm, as in .*norm=linf"),
        ("art:DeepFool", "art:DeepFool: expected eps=none"),
        ("torchattacks:PGD,step=3", r"torchattacks:PGD: expected arguments of it .*did you mean 'steps'"),
    ],
)
def test_wrong_words_for_real_libraries(spec, message):
    pytest.importorskip(spec.partition(":")[0], reason="the library is not installed")
    with pytest.raises(ValueError, match=message):
        make(spec, eps=0.1)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("spec", "library"),
    [
        ("foolbox:LinfPGD,steps=10", "foolbox"),
        ("foolbox:L2DeepFoolAttack,eps=none", "foolbox"),
        ("torchattacks:PGD,steps=10", "torchattacks"),
        ("art:FastGradientMethod", "art"),
    ],
)
def test_real_libraries(spec, library):
    pytest.importorskip(library, reason=f"{library} is not installed")
    model, x, y = problem()
    outcome = assay.attack(model, x, y, make(spec, eps=0.1), preflight=False)
    assert outcome.success_rate > 0.5
    assert not outcome.events


@pytest.mark.parametrize(
    ("spec", "message"),
    [("cleverhans:PGD", "spec: expected one of"), ("foolbox:LinfPGD,steps", "attack: expected key=value")],
)
def test_bad_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        peer(spec) if spec.startswith("clever") else make(spec, eps=0.1)


def test_over_targets_orders_the_cases():
    model, x, y = problem(24)
    table = over_targets(model, x, y, assay.FMN(40), preflight=False)
    best, average, worst = table.frame()
    assert best["n"] == average["n"] == worst["n"] == 24
    assert best["l2"] < average["l2"] < worst["l2"]
    for name in ("best", "average", "worst"):
        part = table.case(name)
        hit = part.status == int(Status.BROKEN)
        with torch.no_grad():
            assert (model(part.images[hit]).argmax(1) == part.target[hit]).all()
        assert (part.target != part.y).all()
    every = table.outcome.norm("l2").view(24, 3)
    assert torch.equal(table.case("best").norm("l2"), every.amin(1))
    assert torch.equal(table.case("worst").norm("l2"), every.amax(1))
    assert "worst" in str(table)


def test_a_target_that_is_not_reached_is_the_worst():
    """Under a small budget the hardest label is one that was not reached, so that its success rate is lower."""
    model, x, y = problem(24)
    best, _, worst = over_targets(model, x, y, assay.PGD(0.05, steps=10), norm="linf", preflight=False).frame()
    assert worst["success"] < best["success"]
