"""C11: planted adversarial examples that a strong attack must find."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from assay.core.geometry import Geometry
from assay.core.model_calls import classify
from assay.core.model_state import model_dtype, preserve_state
from assay.core.rng import Rng, content_keys
from assay.core.rows import Rows, untargeted
from assay.core.types import Images, Mask
from assay.parts.balls import Ball, Split
from assay.trust.again import attack_again, broken
from assay.trust.answer import CheckResult, inconclusive, issue, not_applicable, passed, warning, worst_result
from assay.trust.budgets import within
from assay.trust.context import AttackResult, CheckContext
from assay.trust.planting.read_outs import Place, Places, Planted, Product, ReadOut, products

SAMPLES = 16
_POINTS, _PROBES, _CANDIDATES = 63, 63, 16
_LEAST = 8
_INSIDE = 0.75
_NEEDED = 0.95
_LUCK = 0.05
_NEAR = 0.75
"""How far on the way from the other points to the planted one the boundary lies: nearer, and random points find it."""


def planted(context: CheckContext) -> CheckResult:
    """C11: the attacks together find what was planted in at least 95 % of samples.

    Source: Zimmermann, Brendel, Tramèr & Carlini, "Increasing confidence in adversarial robustness evaluations",
    NeurIPS 2022: the last layer is trained again to tell points near a sample from one at the edge of the ball.
    Deviations: 16 samples, and up to 63 inner points and as many at the edge instead of hundreds; the read-out is
    Fisher's discriminant, which separates exactly where features outnumber points, instead of a logistic regression,
    and is as sure of the sample as the layer was; it is put into the model itself, at every product of features and
    weights that turns the answer, one after another (at all together where none does alone), and what comes after it
    stays; of 16 points the one is planted that fewest others are taken for; samples that no read-out separates are left
    out; one of 16 may be missed; as in the paper, a test that random points solve is no test.
    """
    budgets = _budgets(context)
    if not budgets:
        return not_applicable("no attack has a budget, or the model has no gradient")
    context = replace(context, model=getattr(context.model, "_orig_mod", context.model))  # a compiled model's own
    return worst_result(tuple(_within(context, budget) for budget in budgets))


def rehearse_planted(context: CheckContext) -> None:
    """What C11 attacks, with nothing planted: see `Check.rehearse`."""
    budgets = [budget for budget in _budgets(context) if isinstance(budget, Ball | Split)]
    samples = context.chosen[context.is_correct][:SAMPLES]
    places = len(_places(context)) if budgets and len(samples) else 0
    for budget in budgets:
        for result in (r for r in context.claims if within(r.budget, budget)):
            for _ in range(places + (places > 1)):
                attack_again(context, result.planned.attack, samples)


def _budgets(context: CheckContext) -> list[Geometry]:
    budgets = [b for b in context.budgets if not (isinstance(b, Ball) and b.eps == 0)]
    return budgets if context.differentiable else []


def _within(context: CheckContext, budget: Geometry) -> CheckResult:
    """The answer for one budget: the worst over the layers that can be read out."""
    if not isinstance(budget, Ball | Split):
        return inconclusive(f"nothing can be planted within {budget.describe()} so that it is the only way")
    places = _places(context)
    if not places:
        return inconclusive("no linear layer of the model gives its classes: there is nothing to plant in")
    results = [result for place in places if (result := _at_places(context, budget, (place,))) is not None]
    if not results and len(places) > 1:  # an ensemble: none of them decides alone
        results = [result for result in [_at_places(context, budget, places)] if result is not None]
    if not results:
        return inconclusive(
            "a read-out separates a planted point, and turns the answer of the model, on too few samples"
        )
    return worst_result(tuple(results))


def _at_places(context: CheckContext, budget: Ball | Split, places: Places) -> CheckResult | None:
    """Whether the attacks find what was planted at places; None if that turns the model on too few samples."""
    claims = sorted(
        (r for r in context.claims if within(r.budget, budget)),
        key=lambda r: r.stages[0].attack.traits.access != "gradient",
    )
    samples = context.chosen[context.is_correct][:SAMPLES]
    finds, tried, luck = 0, 0, 0.0
    for sample in samples.tolist():
        at = torch.tensor([sample])
        plant = _plant(context, places, at, budget)
        if plant is None:
            continue
        read_outs, lucky = plant
        tried, luck = tried + 1, luck + lucky
        finds += any(_finds(context, result, at, read_outs) for result in claims)
    if tried < max(len(samples) // 2, 1):
        return None
    share, luck = finds / tried, luck / tried
    if luck > _LUCK:
        return inconclusive(f"{100 * luck:.0f} % of random points find what was planted: too easy to tell anything")
    text = f"{finds} of {tried} adversarial examples that were planted within {budget.describe()}"
    if share < 0.5:
        return issue(
            f"the attacks find {text}: they cannot find what is there, so what they did not find says nothing",
            share,
            _NEEDED,
        )
    if finds < min(_NEEDED * tried, tried - 1):
        return warning(f"the attacks find {text}", share, _NEEDED)
    return passed(f"the attacks find {text} ({100 * luck:.1f} % of random points do)", share, _NEEDED)


def _finds(context: CheckContext, result: AttackResult, at: Tensor, read_outs: Sequence[ReadOut]) -> bool:
    """Whether an attack breaks a sample of the model with these read-outs."""
    outcome = attack_again(context, result.planned.attack, at, wrap=lambda model: Planted(model, read_outs))
    return bool(broken(outcome).any())


def _products(context: CheckContext, x: Images) -> list[Product]:
    with preserve_state(context.model), torch.no_grad():
        return products(context.model, x)


def _places(context: CheckContext) -> Places:
    """Where the model multiplies by weights that could give its classes, from the last."""
    least, images = int(context.y.max()) + 1, context.images[:2]
    first, second = _products(context, images), _products(context, images)
    again = {id(product.weight) for product in second}
    places: list[Place] = []
    for product in first[::-1]:
        shape, fixed = tuple(product.weight.shape), id(product.weight) in again
        if shape[0] >= least and not any(place.is_of(product.weight) for place in places):
            places.append(Place(shape, product.weight if fixed else None))
    return tuple(places)


def _at(context: CheckContext, place: Place, x: Images) -> tuple[Tensor, Tensor] | None:
    """What goes into a place and what comes out, ``(b, d)`` and ``(b, k)``, the mean over draws and parts of the image.

    None where that is not one vector an image.
    """
    product = next((product for product in _products(context, x) if place.is_of(product.weight)), None)
    if product is None or len(product.inputs) % len(x):
        return None
    values = [part.double() for part in (product.inputs, product.output)]
    values = [part.mean(1) if part.dim() == 3 else part for part in values]
    inputs, output = (part.reshape(-1, len(x), part.shape[1]).mean(0) for part in values)
    return inputs, output


def _plant(context: CheckContext, places: Places, at: Tensor, budget: Geometry) -> tuple[list[ReadOut], float] | None:
    """Read-outs that a point near a sample turns, and the share of random points that turn the first; None without one.

    Args:
        context: the model.
        places: where they are put.
        at: the sample, ``(1,)``.
        budget: of the point.
    """
    x = context.at(at).to(context.device, model_dtype(context.model))
    label, chosen, luck = int(context.y[at]), None, 0.0
    count = min(_POINTS, *(place.shape[1] // 4 for place in places))
    if count < _LEAST:
        return None
    steps = _draw(context, x, at, budget, count)
    read_outs: list[ReadOut] = []
    for place in places:
        values = _at(context, place, (x + steps).clamp(0, 1))
        fitted = None if values is None else _fitted(place, *values, count, label, chosen)
        if fitted is None:
            return None
        read_out, chosen, lucky = fitted
        luck = lucky if not read_outs else luck
        read_outs.append(read_out)
    point = steps[len(steps) - _CANDIDATES + int(chosen or 0)]
    with preserve_state(context.model), torch.no_grad():
        both = classify(Planted(context.model, read_outs), torch.cat([x, (x + point).clamp(0, 1)])).argmax(1)
    if int(both[0]) != label or int(both[1]) != _other(label):
        return None  # something else decides, or it is lost in float32
    return read_outs, luck


def _fitted(
    place: Place, values: Tensor, output: Tensor, count: int, label: int, chosen: int | None
) -> tuple[ReadOut, int, float] | None:
    """A read-out from what goes into a place and comes out, which point turns it, and the share of others that do."""
    if not bool(values.isfinite().all()):
        return None
    near, probes, candidates = values[: 2 * count + 1], values[2 * count + 1 : -_CANDIDATES], values[-_CANDIDATES:]
    clean = output[0]
    margin = float(clean[label] - clean.index_fill(0, torch.tensor([label], device=clean.device), -torch.inf).max())
    best = _most_apart(near, probes, candidates if chosen is None else candidates[chosen : chosen + 1])
    if best is None or margin <= 0:
        return None
    number, weight, offset, lucky = best
    scale = margin / 2 / (offset - float(near[0] @ weight))
    read_out = _read_out(place, weight * scale, offset * scale, label, margin)
    return read_out, number if chosen is None else chosen, lucky


def _draw(context: CheckContext, x: Images, at: Tensor, budget: Geometry, count: int) -> Tensor:
    """No step, steps inside the budget and to its edge, as many others to the edge, and those that may be planted."""
    rng, total = Rng(context.seed), 2 * count + _PROBES + _CANDIDATES
    key = torch.arange(total, device=x.device) + int(content_keys(x, torch.zeros(1, dtype=torch.int64))[0]) % 1_000_003
    mask: Mask | None = None if context.masks is None else context.masks[at].to(x)
    fore = None if mask is None else mask.expand(total, *mask.shape[1:])
    zeros = torch.zeros(total, dtype=torch.int64, device=x.device)
    rows = Rows(x.expand(total, *x.shape[1:]), untargeted(zeros), key, fore)
    edge: Tensor = budget.sample(rows, rng, "planted", edge=True)
    return torch.cat([torch.zeros_like(x), edge[:count] * _INSIDE, edge[count:]])


def _most_apart(near: Tensor, probes: Tensor, candidates: Tensor) -> tuple[int, Tensor, float, float] | None:
    """Of some points the one that fewest others are taken for; which, its weight and threshold, and their share."""
    best = None
    for number in range(len(candidates)):
        direction = _apart(near, candidates[number : number + 1])
        if direction is None:
            continue
        lucky = float((probes @ direction[0] > direction[1]).double().mean())
        if best is None or lucky < best[3]:
            best = (number, *direction, lucky)
        if not lucky:
            break
    return best


def _apart(near: Tensor, there: Tensor) -> tuple[Tensor, float] | None:
    """Weight and threshold that tell a point from those near the sample; None if it lies in their span."""
    spread = near - near.mean(0)
    ridge = 1e-6 * float(spread.square().mean()) + 1e-30
    gram = spread @ spread.T + ridge * torch.eye(len(spread), dtype=spread.dtype, device=spread.device)
    way = (there - near.mean(0)).squeeze(0)
    weight = way - spread.T @ torch.linalg.solve(gram, spread @ way)
    highest, planted_at = float((near @ weight).max()), float(there @ weight)
    if not planted_at > highest + 1e-12 or planted_at - highest < 1e-6 * abs(planted_at):
        return None
    return weight, highest + _NEAR * (planted_at - highest)


def _read_out(place: Place, weight: Tensor, offset: float, label: int, margin: float) -> ReadOut:
    """All classes but two are out of reach; the sample's own loses what the other one gains."""
    classes = place.shape[0]
    rows, bias = torch.zeros(classes, len(weight)).to(weight), torch.full((classes,), -9 * margin)
    rows[_other(label)], rows[label] = weight, -weight
    bias[_other(label)], bias[label] = -offset, offset
    return ReadOut(place, rows, bias.to(weight))


def _other(label: int) -> int:
    return label - 1 if label else 1
