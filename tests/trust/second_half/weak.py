"""An honest network, and attacks that could not have broken it."""

from dataclasses import replace

from assay.attacks.pgd import PGD
from assay.attacks.plan import Planned, plan
from assay.core.objective import Objective
from assay.parts.losses import CrossEntropy, PlainCrossEntropy
from trust.failures.base import SETTINGS, Around, Case, Failure, network

KIND = "weak attacks"


def short_steps() -> Case:
    """Many steps, all of them so short that together they cover a fifth of the way."""
    attacks = ("pgd:steps=100,step_size=0.0005,random_start=false", "mim:steps=40,step_size=0.001")
    return Case(network(), attacks=attacks)


def vanished() -> Case:
    """An overconfident network against cross-entropy as it is usually written, in half a hundred steps."""
    model, chosen = Around(network("digits plain"), after=lambda z: 60 * z), SETTINGS["digits plain"]
    planned = plan("pgd:steps=50", eps=chosen.eps)
    plain = replace(planned, attack=PGD(chosen.eps, steps=50, loss=PlainCrossEntropy()))
    again = replace(planned, attack=PGD(chosen.eps, steps=25, restarts=2, loss=PlainCrossEntropy()))
    return Case(model, "digits plain", (plain, again))


def uphill() -> Case:
    """The sign of the loss is wrong, so that each step makes the image clearer."""

    def reversed_sign(planned: Planned) -> Planned:
        goal = Objective(tuple((-weight, term) for weight, term in CrossEntropy().terms))
        return replace(planned, attack=planned.attack.vary(objective=goal))

    chosen = SETTINGS["scenes plain"]
    attacks = tuple(reversed_sign(plan(spec, eps=chosen.eps)) for spec in ("apgd:steps=100", "pgd:steps=40"))
    return Case(network("scenes plain"), "scenes plain", attacks)


def round_ball() -> Case:
    """A cube is claimed, and a ball of that radius that fits inside is searched, thoroughly."""
    attacks = (
        "apgd:steps=100,norm=l2,eps=0.25",
        "apgd:steps=50,loss=dlr,targets=9,norm=l2,eps=0.25",
        "square:queries=1000,norm=l2,eps=0.25",
    )
    return Case(network(), attacks=attacks)


def few_questions() -> Case:
    """Three attacks without gradients, each with hardly any questions to the network."""
    return Case(network("digits l2"), "digits l2", ("square:queries=15", "gaussian-noise", "nes:queries=63,samples=20"))


FAILURES = (
    Failure("a hundred steps that go nowhere", KIND, short_steps),
    Failure("plain cross-entropy on large scores", KIND, vanished),
    Failure("the loss has the wrong sign", KIND, uphill),
    Failure("a ball inside the cube", KIND, round_ball),
    Failure("attacks that may hardly ask", KIND, few_questions),
)
