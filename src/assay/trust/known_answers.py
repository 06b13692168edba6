"""C12, C13: the attack works on a linear model with a known optimum, and agrees with another library."""

import importlib.util

import torch
from torch import Tensor, nn

from assay.attacks.noise import Noise
from assay.attacks.peers.adapter import peer
from assay.core.outcome import Status
from assay.parts.balls import Ball, Split
from assay.parts.sparse_sets import Support
from assay.trust.again import attack_again, broken, require_finished
from assay.trust.answer import CheckResult, inconclusive, issue, not_applicable, passed, warning, worst_result
from assay.trust.context import AttackResult, CheckContext
from assay.trust.rivals.hits import judge
from assay.trust.vary import at_less_effort
from assay.util.text import plain

_KNOWN, _TURNS, _STEPS = 32, 20, 1000
_ROOM = 1.1
Known = Ball | Split | Support
_NEEDED, _FAILED = 0.9, 0.5
_SIDE = 12
_DRAWS, _SLACK = 100, 0.15


def known_model(context: CheckContext, result: AttackResult) -> CheckResult:
    """C12: on a linear model, where the best perturbation is known, it breaks what can be broken, and nothing else.

    The model has the shape of the images, at most 12 pixels a side, two classes and a third that is never reached. The
    best that ball and box allow is computed for each sample. Those whose boundary is a tenth nearer than that have to
    break under an attack by gradients; those whose boundary is a tenth further cannot under any, and are attacked with
    at most 1,000 steps.
    """
    budget = result.budget
    if budget is None or (isinstance(budget, Ball) and budget.eps <= 0):
        return not_applicable("the attack has no budget")
    if not isinstance(budget, Ball | Split | Support):
        return inconclusive(f"no answer is known within {budget.describe()}", result.label)
    channels, *sides = context.x.shape[1:]
    x, weight = _linear_problem(budget, (channels, *(min(side, _SIDE) for side in sides)), context.seed)
    margin, reach = x.flatten(1) @ weight, _reach(budget, x, weight)
    must, cannot = (margin > 0) & (margin < reach / 1.05), margin > reach * 1.0005
    if not int(must.sum()):
        return not_applicable("no sample of the known model is near enough to the boundary")
    layer = nn.Linear(weight.numel(), 3)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([weight / 2, -weight / 2, 0 * weight]))
        layer.bias.copy_(torch.tensor([0.0, 0.0, -10 * float(margin.abs().max())]))
    model, hit = nn.Sequential(nn.Flatten(), layer).eval(), torch.zeros(_KNOWN, dtype=torch.bool)
    attack = result.planned.attack
    for index, tried in ((must, attack), (~must, at_less_effort(attack, _STEPS))):
        outcome = require_finished(
            context.run(
                model,
                x[index],
                torch.zeros(int(index.sum()), dtype=torch.int64),
                tried,
                preflight=False,
                errors="record",
                seed=context.seed,
                mask=None if context.masks is None else _front(x[index]),
            )
        )
        if outcome.count(Status.ERROR):
            return inconclusive("it does not run on the known model", result.label)
        hit[index] = broken(outcome)
    drawn = 0.0 if _by_gradients(result) else _drawn(context, budget, model, x[must])
    return _as_known(result, hit, must, cannot, drawn)


def _by_gradients(result: AttackResult) -> bool:
    return any(stage.attack.traits.access == "gradient" for stage in result.stages)


def _drawn(context: CheckContext, budget: Known, model: nn.Module, x: Tensor) -> float:
    """The share of samples that random members of the budget break: what a search finds at least."""
    labels, mask = torch.zeros(len(x), dtype=torch.int64), None if context.masks is None else _front(x)
    noise = Noise(budget, _DRAWS)
    outcome = context.run(model, x, labels, noise, preflight=False, errors="record", seed=context.seed, mask=mask)
    return float(broken(require_finished(outcome)).float().mean())


def _as_known(result: AttackResult, hit: Tensor, must: Tensor, cannot: Tensor, drawn: float) -> CheckResult:
    """Whether what was broken is what could be."""
    traits, impossible = result.stages[0].attack.traits, int((hit & cannot).sum())
    share = int((hit & must).sum()) / int(must.sum())
    if impossible:
        return issue(
            f"on a linear model it is said to break {impossible} samples that nothing within the budget breaks",
            float(impossible),
            0.0,
            about=result.label,
        )
    text = f"on a linear model it breaks {100 * share:.0f} % of "
    if traits.access == "none" or (traits.access != "gradient" and _by_gradients(result)):
        return passed(f"{text}what can be broken and nothing else", share, about=result.label)
    if traits.access != "gradient":
        if share < drawn - _SLACK:
            return warning(
                f"{text}the samples that can be broken, {_DRAWS} random members of the budget {100 * drawn:.0f} %: it "
                "searches worse than chance",
                share,
                drawn,
                about=result.label,
            )
        return passed(
            f"{text}what can be broken and nothing else (random members of the budget {100 * drawn:.0f} %)",
            share,
            drawn,
            about=result.label,
        )
    if share < _FAILED and traits.minimises is None:
        return issue(
            f"{text}the samples that can be broken: it does not do what it is meant to",
            share,
            _FAILED,
            about=result.label,
        )
    if share < _NEEDED:
        return warning(
            f"{text}the samples that can be broken, with a tenth of the budget to spare",
            share,
            _NEEDED,
            about=result.label,
        )
    return passed(f"{text}what can be broken and nothing else", share, _NEEDED, about=result.label)


def _linear_problem(budget: Known, shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Images and the weight of a linear model whose boundary is, by turns, a tenth nearer and further than the best."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.3 + 0.4 * torch.rand(_KNOWN, *shape, generator=generator)
    weight = torch.randn(x[0].numel(), generator=generator)
    share = torch.where(torch.arange(_KNOWN) % 2 == 0, 1 / _ROOM, _ROOM)
    for _ in range(_TURNS):
        missing = x.flatten(1) @ weight - share * _reach(budget, x, weight)
        x = (x - (missing / weight.square().sum())[:, None].mul(weight).reshape(x.shape)).clamp(0, 1)
    return x, weight


def _front(x: Tensor) -> Tensor:
    """The foreground of the known images: their upper half."""
    mask = torch.zeros_like(x[:, :1])
    mask[:, :, : x.shape[2] // 2] = 1
    return mask


def _reach(budget: Known, x: Tensor, weight: Tensor) -> Tensor:
    """How far the best perturbation within budget and box lowers ``⟨weight, x⟩``, ``(n,)``."""
    room = torch.where(weight > 0, x.flatten(1), 1 - x.flatten(1))
    if isinstance(budget, Support):  # the values (pixels) that lower it most, each to the end of the box
        gain = (room * weight.abs()).reshape(x.shape)
        gain = (gain.sum(1) if budget.unit == "pixels" else gain).flatten(1)
        return gain.topk(min(budget.count, gain.shape[1]), dim=1).values.sum(1)
    if isinstance(budget, Ball):
        return _within(budget, room, weight.abs())
    front = _front(x[:1]).expand(1, *x.shape[1:]).flatten()
    return _within(budget.foreground, room, weight.abs() * front) + _within(
        budget.background, room, weight.abs() * (1 - front)
    )


def _within(ball: Ball, room: Tensor, size: Tensor) -> Tensor:
    """The same for a ball; ``size`` is that of the weights, ``room`` how far each value may go."""
    if ball.norm == "linf":
        return room.clamp(max=ball.eps) @ size
    if ball.norm == "l1":  # the budget goes to the largest weights, each as far as the box allows
        order = size.argsort(descending=True)
        left = ball.eps - (room[:, order].cumsum(1) - room[:, order])
        return torch.minimum(room[:, order], left.clamp(min=0)) @ size[order]
    low, high = torch.zeros(len(room), 1), torch.full((len(room), 1), 1e6)
    for _ in range(60):  # along the weight, cut at the box, as far as the ball allows
        middle = (low * high).sqrt() if bool((low > 0).all()) else (low + high) / 2
        fits = torch.minimum(room, middle * size).norm(dim=1, keepdim=True) <= ball.eps
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return torch.minimum(room, low * size) @ size


def other_library(context: CheckContext) -> CheckResult:
    """C13: another library's PGD finds nothing that the attacks have missed, in any norm that is claimed."""
    balls = [ball for ball in context.budgets if isinstance(ball, Ball) and ball.norm in ("linf", "l2")]
    library = next((name for name in ("torchattacks", "foolbox") if importlib.util.find_spec(name)), None)
    if not balls or not context.differentiable:
        return not_applicable("no attack has a ball of linf or l2 as its budget, or the model has no gradient")
    if library is None:
        return not_applicable("neither foolbox nor torchattacks is installed")
    return worst_result(tuple(_attack_with(library, ball, context) for ball in balls))


def _attack_with(library: str, ball: Ball, context: CheckContext) -> CheckResult:
    left = context.survivors(budget=ball)
    if not len(left):
        return passed(f"no sample survives in {ball.norm} that it could break")
    names = {
        ("torchattacks", "linf"): "PGD",
        ("torchattacks", "l2"): "PGDL2",
        ("foolbox", "linf"): "LinfPGD",
        ("foolbox", "l2"): "L2PGD",
    }
    try:
        peer_attack = peer(f"{library}:{names[library, ball.norm]}", eps=ball.eps, norm=ball.norm, steps=40)
    except ImportError as error:
        return not_applicable(f"{library} is installed, but cannot be used: {plain(str(error), 120)}")
    hits = left[broken(attack_again(context, peer_attack, left))]
    where = f"{len(left)} survivors in {ball.norm}"
    return judge(context, hits, f"PGD-40 of {library} breaks", where, "the attacks here are weaker than theirs")
