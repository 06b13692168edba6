"""The half of the planted failures that checks were written against."""

import torch
from torch import nn
from torch.nn import functional as F

from assay.data import load
from assay.defences import Adaptation
from trust.failures import led_astray, other_images, turned
from trust.failures.base import COUNT, SETTINGS, Around, Case, Failure, images, network, reported

DUAL = ("dual-apgd:steps=50",)


class Declared(Around):
    """A model that declares how it is to be attacked."""

    def __init__(self, model, how, **rest):
        super().__init__(model, **rest)
        self.how = how

    def adaptation(self):
        return self.how


class Sum(nn.Module):
    """What several models say, each after a function of its own."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(part for part, _ in parts)
        self.forms = [form for _, form in parts]

    def forward(self, x):
        return sum(form(part(x)) for part, form in zip(self.parts, self.forms, strict=True))


def fitted_linear(setting):
    """A linear model that says what the network of a setting says."""
    x, _ = images(setting, 600, "train")
    y = network(setting)(x).argmax(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), int(y.max()) + 1))
    rule = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(300):
        rule.zero_grad()
        F.cross_entropy(model(x), y).backward()
        rule.step()
    return model.eval().requires_grad_(False)


def votes(z):
    return 10.0 * F.one_hot(z.argmax(1), z.shape[1]).to(z)


def decoyed(setting, share, form):
    """The network behind a form that has no slope, and a little of a linear model that has."""
    return Sum((network(setting), form), (fitted_linear(setting), lambda z: share * z))


def sharp(factor, height=10.0):
    return lambda z: height * (factor * z).softmax(1)


class Backward(torch.autograd.Function):
    """The identity, with a gradient that a function of it replaces."""

    @staticmethod
    def forward(ctx, x, change):
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return ctx.change(grad), None


def backward(change):
    return lambda x: Backward.apply(x, change)


def without_centre(grad):
    grad = grad.clone()
    side = grad.shape[-1]
    grad[..., side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 0
    return grad


def grid(x, levels):
    return (x * levels).round() / levels


class Detecting(Declared):
    """Accepts what a rule accepts; the rule has no slope."""

    def __init__(self, model, rule):
        super().__init__(model, Adaptation("joint attack", test=lambda z, x: rule(x)))


def on_bytes(x):
    return ((255 * x).round() - 255 * x).abs().amax((1, 2, 3)) < 1e-2


def keeps_black(x):
    return (x == 0).flatten(1).float().mean(1) > 0.05


class Watching(Around):
    """Answers in another way when a gradient is asked for, or enabled, or when it is asked often."""

    def __init__(self, model, sees):
        super().__init__(model)
        self.sees, self.calls = sees, 0

    def forward(self, x):
        self.calls += 1
        z = self.model(x)
        if self.sees(self, x):
            return z.detach() * 0 + z.roll(1, 1).detach() + 0 * x.flatten(1).sum(1, keepdim=True)
        return z


class Flickering(Around):
    """Noise on what comes out, each time another."""

    def __init__(self, model, size, at="out"):
        super().__init__(model)
        self.size, self.at = size, at

    def forward(self, x):
        x = x + self.size * torch.randn_like(x) if self.at == "in" else x
        z = self.model(x)
        return z + self.size * torch.randn_like(z) if self.at == "out" else z


def repeated(setting, count, noise=0.0):
    """A few samples that survive, many times."""
    x, y = images(setting)
    case = Case(network(setting), setting)
    alive = case.evaluated()
    keep = reported(alive).bool().nonzero().squeeze(1)[:count]
    times = 64 // count
    x, y = x[keep].repeat(times, 1, 1, 1), y[keep].repeat(times)
    torch.manual_seed(0)
    x = (x + noise * torch.randn_like(x)).clamp(0, 1)
    truth = float(reported(alive).float().mean())
    return Case(network(setting), setting, x=x, y=y, truth=lambda: truth)


def chosen(setting, by):
    """The samples of a larger set that a rule likes best."""
    x, y = images(setting, 240)
    score = by(network(setting), x, y)
    keep = score.argsort(descending=True)[:64].sort().values
    everything = Case(network(setting), setting, x=x, y=y)
    return Case(
        network(setting),
        setting,
        x=x[keep],
        y=y[keep],
        truth=lambda: float(reported(everything.evaluated()).float().mean()),
    )


def margin(model, x, y):
    z = model(x)
    return z.gather(1, y[:, None]).squeeze(1) - z.scatter(1, y[:, None], -torch.inf).amax(1)


def one_class(model, x, y):
    return (y == int(y[margin(model, x, y).argmax()])).float() * 100 + margin(model, x, y)


def dual(setting, masks):
    """Two regions with budgets of their own; the masks are those of other images, or next to nothing."""
    right = load(SETTINGS[setting].data, split="test", limit=COUNT).masks
    honest = Case(network(setting), setting, DUAL, masks=right)
    truth = float(reported(honest.evaluated()).float().mean())
    return Case(network(setting), setting, DUAL, masks=masks(right), truth=lambda: truth)


def corner(masks):
    small = torch.zeros_like(masks)
    small[:, :, :2, :2] = 1
    return small


def substitute(setting):
    model = Declared(
        network(setting), Adaptation("through a linear model", surrogate=fitted_linear(setting)), after=votes
    )
    return Case(model, setting, seen=network(setting))


def other_training(setting):
    """A network of another training declared in its place."""
    other = network({"digits": "digits plain", "scenes": "scenes plain"}[setting])
    return Case(Declared(network(setting), Adaptation("BPDA", surrogate=other)), setting)


def half_blind(setting):
    """Gradients of the classes that lead elsewhere."""
    return Case(Around(network(setting), before=backward(lambda g: g.flip(3))), setting, seen=network(setting))


def _case(setting, model, **more):
    return Case(model, setting, seen=network(setting), **more)


FAILURES = (
    turned.FAILURES
    + led_astray.FAILURES
    + other_images.FAILURES
    + tuple(
        Failure(f"{name}, {setting}", kind, lambda make=make, setting=setting: make(setting))
        for name, kind, settings, make in (
            (
                "softmax of a thousandfold",
                "squeezed outputs",
                ("digits", "scenes"),
                lambda s: _case(s, Around(network(s), after=sharp(1000))),
            ),
            (
                "sigmoid",
                "squeezed outputs",
                ("digits",),
                lambda s: _case(s, Around(network(s), after=lambda z: 8 * torch.sigmoid(20 * z))),
            ),
            (
                "rounded logits",
                "squeezed outputs",
                ("digits", "scenes"),
                lambda s: _case(s, Around(network(s), after=lambda z: (2 * z).round() / 2)),
            ),
            (
                "a vote",
                "squeezed outputs",
                ("digits", "scenes"),
                lambda s: _case(s, Around(network(s), after=lambda z: votes(z) + 0 * z)),
            ),
            (
                "without the centre",
                "wrong gradients",
                ("digits", "scenes"),
                lambda s: _case(
                    s,
                    Around(network(s), before=backward(without_centre)),
                    attacks=("apgd:steps=50", "apgd:steps=30,loss=dlr,targets=5"),
                ),
            ),
            ("upside down", "wrong gradients", ("scenes",), half_blind),
            (
                "half of the channels",
                "wrong gradients",
                ("scenes",),
                lambda s: _case(
                    s,
                    Around(network(s), before=backward(lambda g: g * torch.tensor([1.0, 0, 0])[:, None, None])),
                    attacks=("apgd:steps=50",),
                ),
            ),
            (
                "noise in the gradient",
                "wrong gradients",
                ("digits", "scenes"),
                lambda s: _case(
                    s,
                    Around(network(s), before=backward(lambda g: g + 3 * g.std() * torch.sin(1e4 * g))),
                    attacks=("pgd:steps=20",),
                ),
            ),
            (
                "input on a coarse grid",
                "wrong gradients",
                ("digits", "scenes"),
                lambda s: _case(s, Around(network(s), before=lambda x: grid(x, 16)), attacks=("apgd:steps=50",)),
            ),
            (
                "a decoy beside a sharp softmax",
                "decoys and substitutes",
                ("digits", "scenes"),
                lambda s: _case(s, decoyed(s, 0.1, sharp(1000))),
            ),
            (
                "a decoy beside a vote",
                "decoys and substitutes",
                ("digits", "scenes"),
                lambda s: _case(s, decoyed(s, 0.3, votes)),
            ),
            ("a substitute that is linear", "decoys and substitutes", ("digits", "scenes"), substitute),
            ("a substitute of another training", "decoys and substitutes", ("digits", "scenes"), other_training),
            (
                "accepts bytes alone",
                "detectors",
                ("digits", "scenes"),
                lambda s: _case(s, Detecting(network(s), on_bytes)),
            ),
            (
                "accepts images with black pixels",
                "detectors",
                ("digits",),
                lambda s: _case(s, Detecting(network(s), keeps_black)),
            ),
            (
                "noise on the logits",
                "randomness",
                ("digits", "scenes"),
                lambda s: _case(s, Flickering(network(s), 2.0)),
            ),
            ("noise on the image", "randomness", ("scenes",), lambda s: _case(s, Flickering(network(s), 0.05, "in"))),
            (
                "sees gradients",
                "state and surroundings",
                ("digits", "scenes"),
                lambda s: _case(s, Watching(network(s), lambda m, x: x.requires_grad)),
            ),
            (
                "sees the mode",
                "state and surroundings",
                ("digits",),
                lambda s: _case(s, Watching(network(s), lambda m, x: torch.is_grad_enabled())),
            ),
            (
                "sees copies",
                "state and surroundings",
                ("digits",),
                lambda s: _case(
                    s,
                    Watching(network(s), lambda m, x: len(x) > 1 and bool((x[0] - x[1]).abs().amax() < 1e-6)),
                    truth=lambda: 0.0,
                ),
            ),
            ("two steps", "weak attacks", ("digits", "scenes"), lambda s: Case(network(s), s, ("pgd:steps=2",))),
            (
                "a small step",
                "weak attacks",
                ("digits", "scenes"),
                lambda s: Case(network(s), s, ("bim:steps=10,step_size=0.001", "square:queries=20")),
            ),
            ("queries alone", "weak attacks", ("digits",), lambda s: Case(network(s), s, ("square:queries=100",))),
            (
                "no targets",
                "weak attacks",
                ("scenes",),
                lambda s: Case(network(s), s, ("pgd:steps=10", "square:queries=200")),
            ),
            (
                "a smaller budget than claimed",
                "wrong claims",
                ("digits",),
                lambda s: Case(network(s), s, eps=0.25 / 255, truth=lambda: 0.34),
            ),
            ("four images, many times", "data", ("digits", "scenes"), lambda s: repeated(s, 4)),
            ("eight images, with noise", "data", ("digits", "scenes"), lambda s: repeated(s, 8, 0.02)),
            ("the easiest images", "data", ("digits", "scenes"), lambda s: chosen(s, margin)),
            ("one class", "data", ("digits",), lambda s: chosen(s, one_class)),
            ("masks of other images", "masks and regions", ("scenes",), lambda s: dual(s, lambda m: m.roll(7, 0))),
            ("masks of a corner", "masks and regions", ("scenes",), lambda s: dual(s, corner)),
        )
        for setting in settings
    )
)
