"""C11: planted adversarial examples that a strong attack must find."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.core.geometry import Geometry
from assay.core.model_calls import call, classify
from assay.core.model_state import model_dtype, preserve_state
from assay.core.outcome import Status
from assay.core.rng import Rng, content_keys
from assay.core.rows import Rows, untargeted
from assay.core.types import Images, Logits, Mask
from assay.parts.balls import Ball, Split
from assay.trust.again import require_finished
from assay.trust.answer import CheckResult, inconclusive, issue, not_applicable, passed, warning, worst_result
from assay.trust.budgets import within
from assay.trust.context import AttackResult, CheckContext

Features = Callable[[Images], Tensor]
SAMPLES = 16
_INNER = 63
_INSIDE = 0.75
_NEEDED = 0.95
_LUCK = 0.05


@dataclass(frozen=True)
class Head:
    """A linear read-out of features with two classes: 0 around a sample, 1 at the planted point.

    Attributes:
        weight: ``(d,)``.
        offset: taken off the projection.
    """

    weight: Tensor
    offset: float


class Planted(nn.Module):
    """A model whose last layer is exchanged for a read-out that a known point within the budget turns.

    Args:
        model: the classifier.
        features: from images to features, ``(b, d)``.
        head: the read-out.
    """

    def __init__(self, model: nn.Module, features: Features, head: Head) -> None:
        super().__init__()
        self.model, self.features, self.head = model, features, head

    def forward(self, x: Images) -> Logits:
        """Logits of two classes, ``(b, 2)``."""
        projection = self.features(x).to(self.head.weight.dtype) @ self.head.weight - self.head.offset
        return torch.stack([-projection, projection], 1)


def planted(context: CheckContext) -> CheckResult:
    """C11: the attacks together find what was planted in at least 95 % of samples.

    Source: Zimmermann, Brendel, Tramèr & Carlini, "Increasing confidence in adversarial robustness evaluations",
    NeurIPS 2022: the last layer is trained again to tell points near a sample from one at the edge of the ball.
    Deviations: 16 samples and 63 inner points instead of hundreds; the read-out is Fisher's discriminant, which
    separates exactly where features outnumber points, instead of a logistic regression; samples that no read-out
    separates are left out; as in the paper, a test that random points solve is no test.
    """
    budgets = [b for b in context.budgets if not (isinstance(b, Ball) and b.eps == 0)]
    if not budgets or not context.differentiable:
        return not_applicable("no attack has a budget, or the model has no gradient")
    return worst_result(tuple(_within(context, budget) for budget in budgets))


def _within(context: CheckContext, budget: Geometry) -> CheckResult:
    """The answer for one budget."""
    if not isinstance(budget, Ball | Split):
        return inconclusive(f"nothing can be planted within {budget.describe()} so that it is the only way")
    claims = sorted(
        (r for r in context.claims if within(r.budget, budget)),
        key=lambda r: r.stages[0].attack.traits.access != "gradient",
    )
    refusing = context.adaptation is not None and context.adaptation.test is not None
    features = _outputs(context.attack_model) if refusing else _penultimate(context.attack_model)
    finds, guessed, tried = 0, 0, 0
    for sample in context.chosen[context.is_correct][:SAMPLES].tolist():
        at = torch.tensor([sample])
        x, mask = context.at(at), None if context.masks is None else context.masks[at]
        plant = _plant(context, features, x, mask, budget)
        if plant is None:
            continue
        model, guess = plant
        tried, guessed = tried + 1, guessed + guess
        finds += any(_finds(context, result, model, x, mask) for result in claims)
    if tried < SAMPLES // 2:
        return inconclusive(f"a read-out separates the planted point on {tried} samples only")
    share = finds / tried
    if guessed / tried > _LUCK:
        return inconclusive(f"random points find {guessed} of {tried} planted points: too easy to tell anything")
    text = f"{finds} of {tried} adversarial examples that were planted within {budget.describe()}"
    if share < 0.5:
        return issue(
            f"the attacks find {text}: they cannot find what is there, so what they did not find says nothing",
            share,
            _NEEDED,
        )
    if share < _NEEDED:
        return warning(f"the attacks find {text}", share, _NEEDED)
    return passed(f"the attacks find {text} (random points: {guessed})", share, _NEEDED)


def _finds(context: CheckContext, result: AttackResult, model: nn.Module, x: Images, mask: Mask | None) -> bool:
    outcome = context.run(
        model,
        x,
        torch.zeros(1, dtype=torch.int64),
        result.planned.attack,
        preflight=False,
        errors="record",
        seed=context.seed,
        mask=mask,
    )
    return bool(require_finished(outcome).count(Status.BROKEN))


def _plant(
    context: CheckContext, features: Features, x: Images, mask: Mask | None, budget: Geometry
) -> tuple[Planted, int] | None:
    """A model with a planted point near ``x``, and whether random points find it; None if no read-out separates it."""
    x = x.to(context.device, model_dtype(context.model))
    rng, count = Rng(context.seed), 2 * _INNER + 1
    key = torch.arange(count, device=x.device) + int(content_keys(x, torch.zeros(1, dtype=torch.int64))[0]) % 1_000_003
    fore = None if mask is None else mask.to(x).expand(count, *mask.shape[1:])
    zeros = torch.zeros(count, dtype=torch.int64, device=x.device)
    rows = Rows(x.expand(count, *x.shape[1:]), untargeted(zeros), key, fore)
    edge = budget.sample(rows, rng, "planted", edge=True)
    inner, probe, point = edge[:_INNER] * _INSIDE, edge[_INNER:-1], edge[-1:]
    with preserve_state(context.model), torch.no_grad():
        values = features((rows.x + torch.cat([inner, probe, point])).clamp(0, 1)).double()
        here = features(x).double()
    near, far, there = torch.cat([here, values[:_INNER]]), values[_INNER:-1], values[-1:]
    if not bool(values.isfinite().all()):
        return None
    spread = near - near.mean(0)
    ridge = 1e-6 * float(spread.square().mean()) + 1e-30
    gram = spread @ spread.T + ridge * torch.eye(len(spread), dtype=spread.dtype, device=spread.device)
    way = (there - near.mean(0)).squeeze(0)
    weight = way - spread.T @ torch.linalg.solve(
        gram, spread @ way
    )  # what is left of it outside the inner points' span
    highest, planted_at = float((near @ weight).max()), float(there @ weight)
    if not planted_at > highest + 1e-12 or planted_at - highest < 1e-6 * abs(planted_at):
        return None
    offset = (highest + planted_at) / 2
    scale = 20 / (planted_at - highest)
    head = Head((scale * weight).float(), scale * offset)
    model = Planted(context.model, features, head).eval()
    with preserve_state(model), torch.no_grad():
        clean, turned = classify(model, x).argmax(1), classify(model, (x + point).clamp(0, 1)).argmax(1)
        lucky = bool((far @ weight > offset).any())
    if int(clean) != 0 or int(turned) != 1:
        return None  # lost in float32
    return model, int(lucky)


def _penultimate(model: nn.Module) -> Features:
    """What goes into the last linear layer, the mean over the draws of an expectation; the outputs without one."""
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    if not layers:
        return _outputs(model)
    last = layers[-1]

    def features(x: Images) -> Tensor:
        captured: list[Tensor] = []
        handle = last.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
        try:
            call(model, x)
        finally:
            handle.remove()
        flat = captured[0].flatten(1)
        return flat if len(flat) == len(x) else flat.reshape(-1, len(x), flat.shape[1]).mean(0)

    return features


def _outputs(model: nn.Module) -> Features:
    def features(x: Images) -> Tensor:
        return classify(model, x)

    return features
