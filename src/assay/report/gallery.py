"""The cards of the gallery, ready for the template."""

import math
from typing import Any

import torch

from assay.core.outcome import Outcome, Status
from assay.report.gallery_selection import Pick, choose
from assay.report.images import difference, heat, outline, picture
from assay.report.table import columns
from assay.store.results import Study
from assay.util.text import compact, levels

_SLUGS = {
    Status.MISCLASSIFIED: "misclassified",
    Status.BROKEN: "broken",
    Status.SURVIVED: "survived",
    Status.INVALID: "invalid",
    Status.ERROR: "error",
    Status.NOT_RUN: "not-run",
}
_MOST_GAIN = 256


def slug(status: Status) -> str:
    """The outcome as one word, for links and style classes."""
    return _SLUGS[status]


def gallery(study: Study, cards: int | None = None, *, among: int = 1) -> dict[str, Any]:
    """The cards and the filters that go with them.

    Args:
        study: the study, texts cleaned.
        cards: most cards; see `choose`.
        among: how many studies share the page.

    Returns:
        ``cards``; the values that occur for each filter (``models``, ``attacks``, ``classes``, ``outcomes``) as pairs
        of position and name; ``gain``: the power of two that makes a middling perturbation visible; ``height`` and
        ``width`` of the images; ``masks`` and ``saliency``: whether there are any.
    """
    _, channels, height, width = study.x.shape
    picks = choose(study, cards, among=among) if channels * height * width else ()
    attacks = columns(study)
    place = {cell: i for i, column in enumerate(attacks) for cell in column.cells.values()}
    models = study.models
    rendered = [_card(study, pick, models, place[pick.cell], attacks[place[pick.cell]].title) for pick in picks]
    largest = sorted(card["most"] for card in rendered if card["most"] > 0)
    return {
        "cards": rendered,
        "models": _options(rendered, "model", "model_name"),
        "attacks": _options(rendered, "attack", "attack_name"),
        "classes": _options(rendered, "class", "true"),
        "outcomes": [(slug(s), s.label) for s in Status if any(card["slug"] == slug(s) for card in rendered)],
        "gain": _gain(largest[len(largest) // 2]) if largest else 0,
        "height": height,
        "width": width,
        "masks": study.masks is not None,
        "saliency": study.saliency is not None,
    }


def _gain(most: float) -> int:
    """The power of two that brings ``most`` near a third of the range."""
    return round(max(0.0, min(math.log2(_MOST_GAIN), math.log2(0.36 / most))))


def _options(cards: list[dict[str, Any]], key: str, name: str) -> list[tuple[int, str]]:
    return sorted({card[key]: card[name] for card in cards}.items())


def _card(study: Study, pick: Pick, models: tuple[str, ...], attack: int, title: str) -> dict[str, Any]:
    cell, i = study.cells[pick.cell], pick.sample
    outcome = cell.outcome
    clean, attacked = study.image(i), cell.image(i)
    uri, most = difference(torch.zeros_like(clean) if attacked is None else attacked - clean)
    saliency, label = study.saliency_map(i), int(study.y[i])
    return {
        "sample": i,
        "model": models.index(cell.model),
        "model_name": cell.model,
        "attack": attack,
        "attack_name": title,
        "class": label,
        "slug": slug(pick.status),
        "status": pick.status.label,
        "true": study.class_name(label),
        "predicted": study.class_name(int(outcome.predicted[i])),
        "predicted_clean": study.class_name(int(outcome.predicted_clean[i])),
        "clean": picture(clean),
        "adversarial": picture(attacked) if attacked is not None and most > 0 else None,
        "kept": attacked is not None,
        "delta": uri if most > 0 else None,
        "most": most,
        "saliency": None if saliency is None else heat(saliency),
        "outline": outline(study.masks[i]) if study.masks is not None else "",
        "facts": _facts(outcome, i, most),
        "error": outcome.errors.get(i, "") if pick.status is Status.ERROR else "",
    }


def _facts(outcome: Outcome, i: int, most: float) -> list[tuple[str, str]]:
    """Names and values under a card: sizes where there is a perturbation, and what it cost."""
    one = outcome.take(outcome.y.new_tensor([i]).long())
    facts = []
    if most > 0:
        facts = [("ℓ∞", levels(float(one.norm("linf")[0]))), ("ℓ2", compact(float(one.norm("l2")[0])))]
        changed, pixels = int(one.norm("pixels")[0]), outcome.clean.shape[2] * outcome.clean.shape[3]
        if 2 * changed < pixels:
            facts.append(("pixels", f"{changed} of {pixels}"))
    cost = int(outcome.forwards[i] + outcome.backwards[i])
    if cost:
        facts.append(("passes", compact(float(cost))))
    stage = int(outcome.stage[i])
    if len(outcome.stages) > 1 and 0 <= stage < len(outcome.stages):
        facts.append(("by", outcome.stages[stage]))
    return facts
