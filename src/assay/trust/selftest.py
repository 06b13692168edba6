"""C12, C13: does the attack itself work, where the answer is known?"""

import importlib.util

import torch
from torch import nn

from assay.attacks import peer
from assay.core.geometry import Ball
from assay.core.outcome import Status
from assay.core.run import attack
from assay.trust.answer import Found, issue, not_applicable, passed, unanswered, warning, worst
from assay.trust.exam import Exam, Result, broken, uninterrupted
from assay.trust.rivals import kind_of, largest

_ROOM = 1.1
_NEEDED = 0.9
_SIDE = 12


def known_model(exam: Exam, result: Result) -> Found:
    """C12: on a linear model, whose distance to the boundary is known, it breaks what can be broken, and nothing else.

    The model has the shape of the images, at most 12 pixels a side, two classes and a third that is never reached.
    Samples whose boundary is a tenth nearer than the budget have to break under an attack by gradients; those whose
    boundary is a tenth further cannot under any.
    """
    ball = result.ball
    if ball is None or ball.eps <= 0:
        return not_applicable("the attack has no budget")
    channels, *sides = exam.x.shape[1:]
    shape = (channels, *(min(side, _SIDE) for side in sides))
    generator = torch.Generator().manual_seed(exam.seed)
    x = 0.3 + 0.4 * torch.rand(32, *shape, generator=generator)
    weight = torch.randn(x[0].numel(), generator=generator)
    dual = {"linf": weight.abs().sum(), "l2": weight.norm(), "l1": weight.abs().max()}[ball.norm]
    flat = x.flatten(1) @ weight
    near = torch.arange(32) % 2 == 0
    wanted = torch.where(near, ball.eps / _ROOM, ball.eps * _ROOM) * dual
    if float((wanted / weight.norm()).max()) > 0.2 * x[0].numel() ** 0.5:
        return not_applicable("the budget is so large that the box decides, not the distance")
    x = x - ((flat - wanted) / weight.square().sum())[:, None].mul(weight).reshape(x.shape)  # a known distance each
    x = x.clamp(0, 1)
    margin = x.flatten(1) @ weight
    layer = nn.Linear(weight.numel(), 3)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([weight / 2, -weight / 2, 0 * weight]))
        layer.bias.copy_(torch.tensor([0.0, 0.0, -10 * float(dual)]))
    model = nn.Sequential(nn.Flatten(), layer).eval()
    distance = margin / dual
    must, cannot = (distance > 0) & (distance < ball.eps / 1.05), distance > ball.eps * 1.0005
    outcome = uninterrupted(attack(model, x, torch.zeros(32, dtype=torch.int64), result.planned.attack, preflight=False,
                     errors="record", seed=exam.seed,
                     mask=torch.ones(32, 1, *shape[1:]) if exam.masks is not None else None))  # fmt: skip
    hit = broken(outcome)
    if not int(must.sum()):
        return not_applicable("no sample of the known model is near enough to the boundary")
    impossible = int((hit & cannot).sum())
    share = int((hit & must).sum()) / int(must.sum())
    if impossible:
        return issue(f"on a linear model it is said to break {impossible} samples that nothing within the budget "
                     f"breaks",
                     float(impossible), 0.0, about=result.label)  # fmt: skip
    if outcome.count(Status.ERROR):
        return unanswered("it does not run on the known model", result.label)
    if kind_of(result.stages[0].attack) != "gradient":
        return passed(f"on a linear model it breaks {100 * share:.0f} % of what can be broken and nothing else (a "
                      "random search need not find all)", share, about=result.label)  # fmt: skip
    if share < _NEEDED:
        return issue(f"on a linear model it breaks {100 * share:.0f} % of the samples that can be broken: it does "
                     "not do what it is meant to", share, _NEEDED, about=result.label)  # fmt: skip
    return passed(f"on a linear model it breaks {100 * share:.0f} % of what can be broken and nothing else", share,
                  _NEEDED, about=result.label)  # fmt: skip


def other_library(exam: Exam) -> Found:
    """C13: another library's PGD finds nothing that the attacks have missed, in any norm that is claimed."""
    balls = [ball for ball in largest(exam) if ball.norm in ("linf", "l2")]
    library = next((name for name in ("torchattacks", "foolbox") if importlib.util.find_spec(name)), None)
    if library is None or not balls or not exam.differentiable:
        return not_applicable("no other library (foolbox, torchattacks) is installed, or there is no budget")
    return worst(tuple(_by(library, ball, exam) for ball in balls))


def _by(library: str, ball: Ball, exam: Exam) -> Found:
    left = exam.survivors(ball=ball)
    if not len(left):
        return passed(f"no sample survives in {ball.norm} that it could break")
    names = {("torchattacks", "linf"): "PGD", ("torchattacks", "l2"): "PGDL2", ("foolbox", "linf"): "LinfPGD",
             ("foolbox", "l2"): "L2PGD"}  # fmt: skip
    try:
        theirs = peer(f"{library}:{names[library, ball.norm]}", eps=ball.eps, norm=ball.norm, steps=40)
    except ImportError as error:
        return not_applicable(f"{library} is installed, but cannot be used: {str(error)[:120]}")
    new = left[broken(exam.attacked(theirs, left))]
    if len(new) > 1:
        return warning(f"PGD-40 of {library} breaks {len(new)} samples that every attack here had left",
                       float(len(new)), 1.0, tuple(new.tolist()))  # fmt: skip
    return passed(
        f"PGD-40 of {library} breaks {len(new)} of {len(left)} survivors in {ball.norm}", float(len(new)), 1.0
    )
