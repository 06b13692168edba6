"""E1 to E6: the evaluation reports everything that the number depends on."""

import copy
from typing import Any

import torch
from torch import Tensor

from assay.attacks.auto_pgd.apgd import APGD
from assay.certify.api import certified as bounds
from assay.core.outcome import Status
from assay.defences.adaptation import adaptation_of
from assay.defences.smoothing import Smoothed
from assay.parts.balls import Ball, Split
from assay.trust.again import broken, require_finished
from assay.trust.answer import CheckResult, issue, not_applicable, passed, warning, worst_result
from assay.trust.budgets import within
from assay.trust.context import SAMPLES, AttackResult, CheckContext
from assay.trust.rivals.hits import judge
from assay.trust.samples import distinct
from assay.util.statistics import exact_interval

_NEEDED = ("model", "data", "code", "torch", "seed")
_VOTES = 500
_TINY = 0.25 / 255
_BOUNDS = "ibp, crown-ibp"


def interval(context: CheckContext) -> CheckResult:
    """E1: n and an exact interval."""
    if not context.claims:
        return not_applicable("nothing was attacked")
    every = torch.stack([r.outcome.status for r in context.counted])
    is_undecided = ((every == int(Status.INVALID)) | (every == int(Status.ERROR))).any(0)
    lost = ((every == int(Status.BROKEN)) | (every == int(Status.MISCLASSIFIED))).any(0)
    n, k = every.shape[1], int((every == int(Status.SURVIVED)).all(0).sum())
    unknown = int((is_undecided & ~lost).sum())
    apart = distinct(context.x)
    low, high = exact_interval(round(k * apart / n), apart, unknown=round(unknown * apart / n))
    both = f" over both readings of {unknown} that are unknown" if unknown else ""
    return passed(
        f"{k} of {n} survive every attack, exact 95 % interval {100 * low:.1f} to {100 * high:.1f} %{both}"
        + (f" ({apart} images, and repetitions of them)" if apart < n else ""),
        high - low,
    )


def seeds(context: CheckContext) -> CheckResult:
    """E2: how much the draws of the attacks matter."""
    broken_by_attack: dict[str, list[torch.Tensor]] = {}
    for result in context.claims:
        broken_by_attack.setdefault(repr(result.planned.attack), []).append(broken(result.outcome))
    several = [masks for masks in broken_by_attack.values() if len(masks) > 1]
    if not several:
        return not_applicable("one seed: the spread over seeds is not known")
    spread = max(
        float(
            torch.stack([b.float().mean() for b in masks]).max() - torch.stack([b.float().mean() for b in masks]).min()
        )
        for masks in several
    )
    return passed(
        f"over {len(several[0])} seeds the share that breaks differs by at most {100 * spread:.1f} points; "
        "the verdict counts a sample as broken if any seed broke it",
        spread,
    )


def written_down(context: CheckContext) -> CheckResult:
    """E3: what is needed to do it again."""
    missing = [name for name in _NEEDED if not context.recorded.get(name)]
    if missing:
        return warning(f"not written down: {', '.join(missing)}", float(len(missing)), 0.0)
    return passed("digests of model, data and code, versions, seed and every parameter of the attacks are written down")


def units(context: CheckContext, result: AttackResult) -> CheckResult:
    """E3b: the budget is in input units, where images lie in [0, 1]. Of linf also: not divided by 255 twice."""
    ball = result.ball
    if ball is None:
        return not_applicable("the attack has no budget")
    claimed = context.claimed
    if claimed is not None and not any(within(claimed, other.budget) for other in context.claims):
        return issue(
            f"the number is said to be of {claimed.describe()}, and no attack has that budget (this one: "
            f"{ball.describe()})",
            about=result.label,
        )
    size = context.x[0].numel() if len(context.x) else 1
    whole = {"linf": 1.0, "l2": size**0.5, "l1": float(size)}[ball.norm]
    if ball.eps >= 0.5 * whole:
        return issue(
            f"a budget of {ball.eps:g} in {ball.norm} turns any image into any other or into grey: images "
            "lie in [0, 1], so that 8 of 255 levels are 8/255",
            ball.eps,
            0.5 * whole,
            about=result.label,
        )
    if ball.norm == "linf" and 0 < ball.eps <= _TINY:
        return issue(
            f"a budget of {ball.eps:g} in linf is at most a quarter of a grey level: was it divided by 255 twice?",
            ball.eps,
            _TINY,
            about=result.label,
        )
    return passed(f"the budget is {ball.describe()}", ball.eps, about=result.label)


def certified(context: CheckContext, result: AttackResult) -> CheckResult:
    """E5: no sample is broken within its certified radius: by votes of a smoothed model, or by bounds of the network.

    Of the broken samples whose images are nearest, 32, or 16 by votes. Where the layers can be read, interval bounds
    and CROWN-IBP must not certify them as far as the image that breaks them lies.
    """
    at = broken(result.outcome).nonzero().squeeze(1)
    smoothed = isinstance(context.model, Smoothed)
    at = at[result.outcome.norm(_norm(result))[at].argsort()][: 16 if smoothed else SAMPLES // 2]
    if smoothed and (result.ball is None or result.ball.norm != "l2"):
        return not_applicable("no certificate in this norm")
    if not len(at):
        return passed("no sample is broken", about=result.label)
    inside = _within_radius(context, result, at) if smoothed else _within_bounds(context, result, at)
    if isinstance(inside, CheckResult):
        return inside
    if bool(inside.any()):
        return issue(
            f"{int(inside.sum())} samples are broken within their certified radius: certificate, referee or model is "
            "wrong (a random model, or one that answers otherwise in a batch?)",
            float(inside.sum()),
            0.0,
            tuple(at[inside].tolist()),
            result.label,
        )
    return passed(f"none of {len(at)} broken samples lies within its certified radius", about=result.label)


def _norm(result: AttackResult) -> str:
    return "linf" if result.ball is None else result.ball.norm


def _within_radius(context: CheckContext, result: AttackResult, at: Tensor) -> Tensor:
    certificate = context.model.certify(context.at(at).to(context.device), n=_VOTES)  # type: ignore[operator]
    inside: Tensor = (certificate.radius > result.outcome.norm("l2")[at]) & (certificate.label.cpu() == context.y[at])
    return inside


def _within_bounds(context: CheckContext, result: AttackResult, at: Tensor) -> Tensor | CheckResult:
    """Which of the samples bounds certify as far as the image that breaks them; an answer where there are no bounds.

    A budget that is not a ball or two counts by the linf ball that reaches its image.
    """
    if adaptation_of(context.model) is not None:
        return not_applicable("no bounds of a network with a defence")
    budget = result.budget
    options: dict[str, Any] = {"eps": budget, "mask": None if context.masks is None else context.masks[at]}
    if not isinstance(budget, Split):
        options = {"eps": Ball(_norm(result), 1.0), "scale": result.outcome.norm(_norm(result))[at]}
    try:
        return bounds(context.model, context.at(at), context.y[at], _BOUNDS, **options).certified
    except (ValueError, TypeError) as error:
        return not_applicable(f"no bounds of this network: {error}")


def precision(context: CheckContext) -> CheckResult:
    """E6: in float32, or measured again in float32; of a model in half precision its copy in float32 shows no more.

    Where it computes in half precision, APGD with 50 steps attacks a copy in float32, and the images are tried on it.
    """
    kinds = {p.dtype for p in context.model.parameters() if p.is_floating_point()}
    half = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds & {torch.float16, torch.bfloat16}))
    balls = [budget for budget in context.budgets if isinstance(budget, Ball) and budget.eps > 0]
    if half and balls and context.differentiable:
        return worst_result(tuple(_in_float32(context, ball, half) for ball in balls))
    if half:
        return warning(f"the model computes in {half}: gradients vanish where float32 still has some")
    search = context.recorded.get("search", "float32")
    return passed(f"searched in {search}, every hit measured in float32")


def _in_float32(context: CheckContext, ball: Ball, half: str) -> CheckResult:
    """Whether images made on a copy in float32 break what was left."""
    left = context.survivors(budget=ball)
    if not len(left):
        return passed(f"the model computes in {half}, and no sample survives within {ball.describe()}")
    model, attack = copy.deepcopy(context.model).float(), APGD(ball.eps, norm=ball.norm, steps=50)
    options: dict[str, Any] = {"preflight": False, "errors": "record", "stop": "never", "seed": context.seed}
    images = require_finished(context.run(model, context.at(left), context.y[left], attack, **options)).images
    who = f"the model computes in {half}; images made on a copy in float32 break"
    why = "gradients vanish that float32 has. Attack it in float32"
    return judge(context, left[context.fools(left, images)], who, f"{len(left)} survivors", why)
