"""Results and declarations that say something else than what was done."""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial

import torch
from torch import Tensor

from assay.attacks.plan import Planned, plan
from assay.core.outcome import Outcome, Status
from assay.defences.transformed import StraightThrough, Transformed
from assay.defences.transforms import BitDepth
from assay.engine.api import attack
from assay.trust import AttackResult, CheckContext
from trust.failures.base import ATTACKS, SETTINGS, Case, Failure, network
from trust.held_out.parts import GRADIENT, Declared, Shell, honest

KIND = "wrong claims"


def result_of(planned: Planned, outcome: Outcome, **more) -> AttackResult:
    """A result with the images of its outcome."""
    return AttackResult(planned, outcome, lambda i: outcome.images[i], **more)


def overlaid(outcome: Outcome, other: Outcome, at: Tensor) -> Outcome:
    """An outcome in which some samples are another's."""
    changed = {}
    for each in fields(outcome):
        value = getattr(outcome, each.name)
        if isinstance(value, Tensor):
            which = at.view(-1, *(1,) * (value.dim() - 1))
            changed[each.name] = torch.where(which, getattr(other, each.name), value)
    return replace(outcome, **changed)


def each_result(edit: Callable[[CheckContext, AttackResult], AttackResult]) -> Callable[[CheckContext], CheckContext]:
    """A change of every result."""
    return lambda context: replace(context, results=tuple(edit(context, one) for one in context.results))


def _run(context: CheckContext, what, model=None, **more) -> Outcome:
    return attack(model or context.model, context.x, context.y, what, preflight=False, errors="record", **more)


def edited() -> Case:
    """Some broken samples are said to have survived, and nothing else is touched."""

    def edit(context: CheckContext, one: AttackResult) -> AttackResult:
        status = one.outcome.status.clone()
        status[10:40][status[10:40] == int(Status.BROKEN)] = int(Status.SURVIVED)
        return result_of(one.planned, replace(one.outcome, status=status))

    return Case(network("digits"), change=each_result(edit))


def edited_with_care() -> Case:
    """Broken samples of every third row are replaced by what an attack without a budget leaves."""

    def edit(context: CheckContext, one: AttackResult) -> AttackResult:
        tame = _run(context, plan("pgd:steps=20", eps=0.02, norm="l2").attack)
        third = torch.arange(len(context.x)) % 3 == 0
        return result_of(one.planned, overlaid(one.outcome, tame, third))

    return Case(network("digits l2"), "digits l2", change=each_result(edit))


def best_of_five() -> Case:
    """Of five attacks the one is reported that did least."""

    def change(context: CheckContext) -> CheckContext:
        best = max(context.results, key=lambda one: one.outcome.robust_accuracy)
        return replace(context, results=(best,))

    attacks = ("apgd:steps=30", "pgd:steps=3", "pgd:steps=10", "square:queries=200", "fab:steps=10")
    return Case(network("scenes"), "scenes", attacks=attacks, change=change)


def half_budget() -> Case:
    """The attacks ran at three quarters of the budget that the table names."""

    def edit(context: CheckContext, one: AttackResult) -> AttackResult:
        less = plan("apgd:steps=50", eps=0.75 * SETTINGS["scenes plain"].eps)
        return result_of(one.planned, replace(_run(context, less.attack), name=one.outcome.name))

    return Case(network("scenes plain"), "scenes plain", attacks=("apgd:steps=50",), change=each_result(edit))


def another_norm() -> Case:
    """Balls of another norm with the same radius."""

    def edit(context: CheckContext, one: AttackResult) -> AttackResult:
        flat = plan("apgd:steps=50", eps=0.25, norm="l2")
        return result_of(one.planned, _run(context, flat.attack))

    return Case(network("digits"), attacks=("apgd:steps=50",), change=each_result(edit))


def another_model() -> Case:
    """The results of a robust network beside the weights of a plain one."""

    def edit(context: CheckContext, one: AttackResult) -> AttackResult:
        return result_of(one.planned, _run(context, one.planned.attack, network("scenes")))

    model = network("scenes plain")
    return Case(model, "scenes plain", eps=4 / 255, attacks=GRADIENT, change=each_result(edit))


def said_to_be_smooth() -> Case:
    """Colours of few levels, with the claim that gradients pass through them."""
    net, change = network("digits plain"), BitDepth(3)
    model, seen = Transformed(net, change, through=True), StraightThrough(net, change)
    return Case(model, "digits plain", attacks=("apgd:steps=50", "fab:steps=20"), seen=seen)


def demanding_test() -> Case:
    """An attack counts only where the wrong answer is confident and the image smooth."""
    net = network("digits l2")

    def test(logits: Tensor, x: Tensor) -> Tensor:
        sure = logits.softmax(1).amax(1) > 0.45
        return sure & ((x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3)) < 0.4)

    model = Declared(net, "success is a confident wrong answer on a natural image", test=test)
    return Case(model, "digits l2", truth=lambda: honest(net, "digits l2"))


def wrong_ones_count() -> Case:
    """What was wrong before the attack counts as not broken by it."""

    def edit(context: CheckContext, one: AttackResult) -> AttackResult:
        status = one.outcome.status
        status = torch.where(status == int(Status.MISCLASSIFIED), int(Status.SURVIVED), status)
        return result_of(one.planned, replace(one.outcome, status=status))

    return Case(network("scenes"), "scenes", change=each_result(edit))


def invalid_ones_count() -> Case:
    """The model gives up on images with strong edges, and giving up is called robust."""
    net = network("digits plain")

    def forward(x: Tensor) -> Tensor:
        rough = (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3))
        return torch.where((rough > 0.36)[:, None], torch.nan, net(x))

    def edit(context: CheckContext, one: AttackResult) -> AttackResult:
        status = one.outcome.status
        status = torch.where(status == int(Status.INVALID), int(Status.SURVIVED), status)
        return result_of(one.planned, replace(one.outcome, status=status))

    truth = partial(honest, net, "digits plain")
    return Case(Shell(forward, net), "digits plain", change=each_result(edit), truth=truth)


def targets_missed() -> Case:
    """The share of samples on which a chosen class was not reached."""

    def edit(context: CheckContext, one: AttackResult) -> AttackResult:
        target = (context.y + 5) % 10
        return result_of(one.planned, _run(context, one.planned.attack, target=target))

    return Case(network("digits"), attacks=("apgd:steps=50", "pgd:steps=40"), change=each_result(edit))


def not_all_attacked() -> Case:
    """Time ran out after two thirds of the samples; the others have survived."""

    def edit(context: CheckContext, one: AttackResult) -> AttackResult:
        untouched = _run(context, plan("pgd:steps=0,random_start=false", eps=0.0).attack)
        late = torch.arange(len(context.x)) >= 42
        return result_of(one.planned, overlaid(one.outcome, untouched, late))

    return Case(network("scenes plain"), "scenes plain", attacks=ATTACKS[:2], change=each_result(edit))


FAILURES = (
    Failure("edited verdicts", KIND, edited),
    Failure("verdicts edited with care", KIND, edited_with_care),
    Failure("best of five attacks", KIND, best_of_five),
    Failure("three quarters of the budget", KIND, half_budget),
    Failure("radius of another norm", KIND, another_norm),
    Failure("results of another model", KIND, another_model),
    Failure("said to have a gradient", KIND, said_to_be_smooth),
    Failure("demanding test", KIND, demanding_test),
    Failure("wrong ones count", KIND, wrong_ones_count),
    Failure("invalid ones count", KIND, invalid_ones_count),
    Failure("share of missed targets", KIND, targets_missed),
    Failure("not all attacked", KIND, not_all_attacked),
)
