"""Planted failures: fake defences and broken evaluations, each with the check that has to find it."""

import copy
import dataclasses

import torch
from torch import nn

from assay.attacks import PGD
from assay.attacks.plan import Planned, plan
from assay.core.combinators import unfold
from assay.core.outcome import Status
from assay.defences import defend
from assay.defences.randomised import SelfEnsemble
from assay.defences.smoothing import Certificate, Smoothed
from assay.parts.losses import CrossEntropy
from trust.cases import EPS, data, examined, trained


class Wrapped(nn.Module):
    """A model with something done to what goes in or comes out."""

    def __init__(self, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.model, self.before, self.after = trained(), before, after

    def forward(self, x):
        return self.after(self.model(self.before(x)))


class Training(Wrapped):
    """Puts itself back into training mode."""

    def forward(self, x):
        self.model.train()
        return self.model(x)


class Dropping(Wrapped):
    """Dropout at inference, and nobody said so."""

    def forward(self, x):
        return self.model(nn.functional.dropout(x, 0.1, training=True))


class NotANumber(Wrapped):
    """No number for bright images."""

    def forward(self, x):
        z = self.model(x)
        return torch.where((x.mean((1, 2, 3)) > 0.5)[:, None], torch.nan, z)


class Optimising(Wrapped):
    """Descends on the image before it answers."""

    def forward(self, x):
        with torch.enable_grad():
            moved = x.detach().clone().requires_grad_()
            (grad,) = torch.autograd.grad(self.model(moved).logsumexp(1).sum(), moved)
        return self.model((x + 0.001 * grad.sign()).clamp(0, 1))


class ByBatch(Wrapped):
    """Normalises by the batch it is given."""

    def forward(self, x):
        z = self.model(x)
        return 3 * (z - z.mean(0)) / (z.std(0) + 1e-3) if len(x) > 1 else z


class Counting(Wrapped):
    """Changes with every pass."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        self.passes += 1
        return self.model(x) + 0 * self.passes


class WrongSlope(torch.autograd.Function):
    """The identity, with another gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return -grad.flip(2)


def negated(eps=EPS):
    """PGD that goes downhill."""
    loss = -1.0 * CrossEntropy()
    return Planned(PGD(eps, steps=20, loss=loss), "PGD", f"{round(eps * 255)}/255", eps)


def told(exam, change):
    """The exam with results that say something else."""
    for result in exam.results:
        change(result.outcome)
    return exam


def beyond(outcome):
    outcome.images[:] = (outcome.clean + 3 * (outcome.images - outcome.clean)).clamp(0, 1)


def lying(outcome):
    """Survivors are said to be broken."""
    outcome.status[outcome.status == int(Status.SURVIVED)] = int(Status.BROKEN)
    outcome.margin[:] = 1.0


def unmoved(outcome):
    outcome.images[:] = outcome.clean
    outcome.status[outcome.status == int(Status.BROKEN)] = int(Status.SURVIVED)


def mixed(outcome):
    """What was wrong before is counted as broken."""
    outcome.status[outcome.status == int(Status.MISCLASSIFIED)] = int(Status.BROKEN)


def small(name, **more):
    """Few attacks, so that the tests are quick."""
    return lambda: examined(
        name() if callable(name) and not isinstance(name, nn.Module) else name,
        ("apgd:steps=30", "square:queries=100"),
        **more,
    )


def permuted():
    y = data()[1]
    return examined(trained(), ("pgd:steps=5",), y=(y + 3) % 8)


class Overstated(Smoothed):
    """Certifies four times what it has."""

    def certify(self, x, **more):
        label, radius = super().certify(x, **more)
        return Certificate(label, 4 * radius)


def sometimes(x):
    """A gradient for three images of ten, which ones changes with every pass."""
    given = torch.rand(len(x), 1, 1, 1) < 0.3
    return torch.where(given, x, x.detach())


def averaged(draws):
    model = SelfEnsemble(Wrapped(before=sometimes), draws=1, attack_draws=draws)
    return examined(model, (f"bim:steps=1,step_size={EPS}",))


def weakly(model):
    return examined(model, ("bim:steps=2,step_size=0.0005",))


def transferred():
    """What breaks the network breaks the network behind a wall of steps, which the attack on it does not pass."""
    masked = examined(Wrapped(before=lambda x: (x * 8).round() / 8), ("bim:steps=5",), eps=16 / 255)
    images = examined(trained(), ("pgd:steps=20",), eps=16 / 255).results[0].outcome.images
    return dataclasses.replace(masked, transfer_images=[(i, images[i]) for i in range(len(images))])


ZOO = {
    "masked by scaling": ("A6", small(lambda: Wrapped(after=saturated))),
    "masked by rounding": ("A7", small(lambda: Wrapped(before=lambda x: (x * 8).round() / 8))),
    "masked by a softmax": ("A4", small(lambda: Wrapped(after=lambda z: z.softmax(1)))),
    "probabilities": ("A4", small(lambda: Wrapped(after=lambda z: (5 * z).softmax(1)))),
    "random, without expectation": ("A2", small(Dropping)),
    "training mode": ("A1", small(Training)),
    "a state that passes change": ("A1", small(Counting)),
    "no numbers": ("B10", small(NotANumber)),
    "normalised twice": ("A10", small(lambda: Wrapped(before=lambda x: x / 255))),
    "normalised before the model": ("A10", small(lambda: Wrapped(before=lambda x: x * 0.226 + 0.45))),
    "labels in another order": ("A11", permuted),
    "an attack that has not converged": ("B6", lambda: examined(trained(), ("bim:steps=3,step_size=0.0026",))),
    "a step size that is too small": ("B8", lambda: examined(trained(), ("bim:steps=4,step_size=0.0012",))),
    "an optimisation inside": ("A9", small(Optimising)),
    "a detector that is ignored": ("D3", lambda: unadapted("squeezing:threshold=0.4")),
    "a budget of the whole range": ("E3b", lambda: examined(trained(), ("pgd:steps=3",), eps=1.0)),
    "a budget divided by 255 twice": ("E3b", lambda: examined(trained(), ("pgd:steps=3",), eps=4 / 255 / 255)),
    "targets the wrong way round": ("C6", lambda: examined(trained(), (negated(24 / 255),), eps=24 / 255)),
    "an attack that does nothing": ("B11", lambda: told(examined(trained(), ("pgd:steps=3",)), unmoved)),
    "an answer that depends on the batch": ("A3", small(ByBatch)),
    "a gradient that is wrong": ("A7", small(lambda: Wrapped(before=WrongSlope.apply))),
    "a gradient that is cut off": ("A5", small(lambda: Wrapped(before=lambda x: x.detach()))),
    "images beyond the budget": ("B2", lambda: told(examined(trained(), ("pgd:steps=10",)), beyond)),
    "an attack that lies": ("B1", lambda: told(examined(trained("pgd-at"), ("pgd:steps=10",)), lying)),
    "clean errors counted as broken": ("B4", lambda: told(examined(trained(), ("pgd:steps=3",)), mixed)),
    "gradients that know less than queries": (
        "C5",
        lambda: examined(Wrapped(before=lambda x: (x * 8).round() / 8), ("bim:steps=10",)),
    ),
    "an attack of one kind": ("C10", lambda: examined(trained(), ("square:queries=50",))),
    "half precision": ("E6", lambda: half()),
    "a defence attacked unadapted": ("D5", lambda: unadapted("bits:bits=3")),
    "a rough surface": ("A8", small(lambda: Wrapped(before=lambda x: (x + 0.5 * (20000 * x).sin()).clamp(0, 1)))),
    "planted examples that are not found": (
        "C11",
        lambda: examined(Wrapped(before=lambda x: x.detach() + 0 * x), ("pgd:steps=5",)),
    ),
    "an attack that ignores its budget": ("C2", lambda: examined(trained("pgd-at"), (stuck(),))),
    "outputs through a tanh": ("A4", small(lambda: Wrapped(after=lambda z: torch.tanh(30 * z)))),
    "outputs through sigmoids, scaled": ("A4", small(lambda: Wrapped(after=lambda z: 4 * torch.sigmoid(10 * z) - 2))),
    "outputs that are clamped": ("A4", small(lambda: Wrapped(after=lambda z: (z - z.mean()).clamp(-0.1, 0.1)))),
    "an attack that fails at any budget": ("C3", lambda: examined(trained("pgd-at"), (negated(),))),
    "worse than its own first step": ("C4", lambda: examined(trained(), (negated(),))),
    "queries that were asked, and not compared": (
        "C5",
        lambda: examined(Wrapped(before=lambda x: (x * 8).round() / 8), ("bim:steps=10", "square:queries=300")),
    ),
    "images that transfer": ("C7", transferred),
    "an attack that fails where the answer is known": ("C12", lambda: examined(trained(), (negated(),))),
    "no way past a part without gradients": ("D2", lambda: unadapted("bits:bits=3")),
    "an attack that fails without the defence": ("D4", lambda: weakly(defend(trained(), "bits:bits=6"))),
    "an attack that fails with the draws frozen": ("D1b", lambda: weakly(noisy())),
    "an expectation over too few draws": ("D1", lambda: averaged(1)),
    "a certificate that is too large": (
        "E5",
        lambda: examined(Overstated(trained(), 0.1), ("pgd:steps=20",), norm="l2", eps=0.5),
    ),
    "samples that count as broken, and are certified": (
        "E5",
        lambda: told(examined(trained("ibp"), ("pgd:steps=20",)), lying),
    ),
    "a start that decides": ("B7", lambda: examined(trained(), ("square:queries=10",), eps=24 / 255)),
    "a budget of 0 that is not one": ("C1", lambda: examined(trained(), (stuck("pgd:steps=10", EPS),))),
    "nothing written down": ("E3", lambda: unrecorded()),
    "a clean accuracy that is not known": ("A12", lambda: examined(trained(), ("pgd:steps=3",), reference=0.99)),
}


def stuck(spec="noise:draws=1", eps=1e-4):
    """An attack that does the same whatever its budget."""
    planned = plan("noise:draws=1", eps=EPS)

    @dataclasses.dataclass(frozen=True)
    class Fixed:
        eps: float = EPS
        norm: str = "linf"

        @property
        def inner(self):
            return unfold(plan(spec, eps=eps).attack)[0].attack

        @property
        def geometry(self):
            return unfold(planned.attack)[0].attack.geometry

        @property
        def needs(self):
            return self.inner.needs

        @property
        def traits(self):
            return self.inner.traits

        def vary(self, *, effort=1, step_size=1, geometry=None, objective=None):
            if effort != 1 or step_size != 1 or objective is not None:
                return None
            return dataclasses.replace(self, eps=geometry.eps)

        def init(self, rows, rng):
            return self.inner.init(rows, rng)

        def step(self, rows, state, oracle, rng):
            return self.inner.step(rows, state, oracle, rng)

        def describe(self):
            return "Fixed linf 4/255"

    return Planned(Fixed(), "Fixed", "4/255", EPS)


def noisy():
    return Wrapped(before=lambda x: x + 0.01 * torch.randn_like(x))


def unadapted(defence):
    return examined(defend(trained(), defence), ("pgd:steps=10",), adapted=False)


def saturated(z):
    return 9 * (100 * (z - z.mean(1, keepdim=True))).tanh()


class LogOfProbabilities(nn.Module):
    """Logarithms of probabilities, which in half precision are 0 or 1, and have no slope."""

    def __init__(self):
        super().__init__()
        self.model = copy.deepcopy(trained()).half()

    def forward(self, x):
        z = self.model(x.to(next(self.parameters()).dtype))
        return (20 * z).softmax(1).clamp_min(torch.finfo(z.dtype).tiny).log()


def half():
    return examined(LogOfProbabilities(), ("apgd:steps=10",), count=32)


def unrecorded():
    return dataclasses.replace(examined(trained(), ("pgd:steps=3",)), recorded={})
