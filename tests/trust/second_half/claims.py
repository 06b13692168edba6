"""Results that do not say what is claimed with them."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from assay.attacks.plan import plan
from assay.core.outcome import Outcome, Status
from assay.engine.api import attack
from assay.trust import AttackResult, CheckContext
from trust.failures.base import ATTACKS, SETTINGS, Case, Failure, images, network
from trust.second_half.common import GRADIENTS, share

KIND = "wrong claims"


def written(context: CheckContext, outcomes: list[Outcome], setting: str, model: nn.Module) -> CheckContext:
    """The results of the case, as if these were the outcomes of its attacks."""
    (x, y), chosen = images(setting), SETTINGS[setting]
    names = (plan(spec, eps=chosen.eps, norm=chosen.norm) for spec in ATTACKS)
    results = [
        AttackResult(name, outcome, lambda i, o=outcome: o.images[i], adapted=True)
        for name, outcome in zip(names, outcomes, strict=False)
    ]
    recorded = dict.fromkeys(("model", "data", "code", "torch", "seed"), "known")
    return CheckContext(model, x, y, tuple(results), recorded=recorded)


def renamed(outcome: Outcome, which: Status) -> Outcome:
    """An outcome in which one status counts as survival."""
    survived = torch.full_like(outcome.status, int(Status.SURVIVED))
    return replace(outcome, status=torch.where(outcome.status == int(which), survived, outcome.status))


class Fragile(nn.Module):
    """Reads images from a queue that wants large batches, and fails on smaller ones when slopes are asked for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and len(x) < 60:
            raise ValueError("the queue is too short")
        return self.model(x)


def failed() -> Case:
    """Samples on which the model failed in mid-attack were written down as survivors."""
    model = Fragile(network("digits plain"))

    def change(context: CheckContext) -> CheckContext:
        outcomes = [renamed(r.outcome, Status.ERROR) for r in context.counted]
        return written(context, outcomes, "digits plain", model)

    return Case(
        model, "digits plain", GRADIENTS, change=change, truth=lambda: share(network("digits plain"), "digits plain")
    )


def never_right() -> Case:
    """What was wrong from the start was not broken by the attack, and is counted among the survivors."""

    def change(context: CheckContext) -> CheckContext:
        outcomes = [renamed(r.outcome, Status.MISCLASSIFIED) for r in context.counted]
        return written(context, outcomes, "scenes", network("scenes"))

    return Case(network("scenes"), "scenes", change=change, truth=lambda: share(network("scenes"), "scenes"))


def other_network() -> Case:
    """The results of the hardened network are published with the weights of the plain one."""

    def change(context: CheckContext) -> CheckContext:
        return written(context, [r.outcome for r in context.counted], "digits plain", network("digits plain"))

    return Case(network(), "digits plain", change=change, truth=lambda: share(network("digits plain"), "digits plain"))


def one_target() -> Case:
    """Success was to reach the next class; the table says that no other class could be reached."""

    def change(context: CheckContext) -> CheckContext:
        (x, y), chosen = images("digits"), SETTINGS["digits"]
        whats = [plan(spec.replace(",targets=5", ""), eps=chosen.eps).attack for spec in ATTACKS]
        outcomes = [attack(network(), x, y, what, target=(y + 1) % 10, preflight=False) for what in whats]
        untargeted = [replace(o, target=torch.full_like(o.target, -1)) for o in outcomes]
        return written(context, untargeted, "digits", network())

    return Case(network(), attacks=("fgsm",), change=change, truth=lambda: share(network()))


def smaller() -> Case:
    """Attacks at two fifths of the budget, and sizes in the table that were multiplied up to the claimed one."""
    chosen = SETTINGS["digits l2"]
    cut = chosen.eps * 0.4
    attacks = tuple(f"{spec},eps={cut}" for spec in ATTACKS)

    def change(context: CheckContext) -> CheckContext:
        return written(context, [r.outcome for r in context.counted], "digits l2", network("digits l2"))

    return Case(
        network("digits l2"),
        "digits l2",
        attacks,
        change=change,
        truth=lambda: share(network("digits l2"), "digits l2"),
    )


FAILURES = (
    Failure("failures in mid-attack are survivors", KIND, failed),
    Failure("wrong from the start, so never broken", KIND, never_right),
    Failure("the hardened network's results for the plain one", KIND, other_network),
    Failure("the next class alone counted", KIND, one_target),
    Failure("two fifths of the claimed budget", KIND, smaller),
)
