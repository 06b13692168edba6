"""A7: the gradient is the slope that is measured, everywhere in the image and on the way to other images."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.core.expectation import Expectation
from assay.core.model_calls import classify
from assay.core.model_state import preserve_state
from assay.core.types import Images
from assay.trust.answer import CheckResult, not_applicable, passed, warning
from assay.trust.context import CheckContext
from assay.trust.gradients import margin_gradient, margins_of
from assay.util.text import plain

_STEP = 0.25 / 255
_DIRECTIONS = 16
_SIDE, _BLOCK_DIRECTIONS, _BLOCK_IMAGES = 4, 8, 8
_AGREE, _AGREE_IN_BLOCK = 0.95, 0.9
_ALLOWANCE = 0.1
"""Honest networks reach 0.99 in float64, where kinks alone are in the way; in float32 digits are lost."""
_PAIRS, _SEGMENTS, _MISSED = 8, 64, 0.12
"""Honest networks miss 0.07 at most: what bends between the ends of a segment."""
_MATTERS = 0.02
_FLAT = 1e-9


@dataclass(frozen=True)
class Slopes:
    """Slopes over some directions, measured and as the gradient has them, ``(directions, b)``."""

    measured: Tensor
    predicted: Tensor

    def agreement(self) -> Tensor:
        """The cosine of the two, by image; 1 where both are flat."""
        cosine = torch.nn.functional.cosine_similarity(self.measured, self.predicted, dim=0)
        flat = (self.measured.abs().sum(0) < _FLAT) & (self.predicted.abs().sum(0) < _FLAT)
        return torch.where(flat, 1.0, cosine)

    def size(self) -> float:
        """How steep it is at most: the larger of both root mean squares, over images."""
        return float(torch.maximum(self.measured.square().mean(), self.predicted.square().mean()).sqrt())


def correct(context: CheckContext) -> CheckResult:
    """A7: the gradient agrees with finite differences, over the image, in each block of pixels, and between images.

    A gradient that is right in most of the image and missing in a part of it agrees with the slope over the whole image
    nearly as well as one that is right; hence blocks, a quarter of the image's side, and channels, as far as they
    matter (have more than a fiftieth of the slope). One that is right at each image says nothing where the outputs jump
    (votes, rounded or very sharp ones): on the line to another image it has to add up to the change that is measured.

    Source: Sundararajan, Taly & Yan, "Axiomatic attribution for deep networks", ICML 2017, section 3, for the line
    integral of the gradient (completeness).
    """
    if not context.differentiable or len(context.chosen) < 4:
        return not_applicable("there is no gradient to compare")
    if context.is_random or isinstance(context.model, Expectation):
        return not_applicable("the model is random: its slope cannot be measured by two passes")
    how = context.adaptation
    if how is not None and how.surrogate is not None and context.is_adapted:
        return not_applicable(f"the gradient is a stand-in, as the defence declares: {how.how}")
    model, dtype, precision = _in_float64(context)
    x, y = context.images[:16].to(dtype), context.labels[:16]
    generator = torch.Generator().manual_seed(context.seed)
    allowed = 0.0 if dtype is torch.float64 else _ALLOWANCE
    agree, agree_in_block = _AGREE - allowed, _AGREE_IN_BLOCK - allowed
    with preserve_state(model):
        grad = margin_gradient(model, x, y)
        if grad is None:
            return not_applicable("no gradient reaches the image")
        whole = _slopes(model, x, y, grad, torch.ones_like(x[:1]), _DIRECTIONS, generator)
        value = float(whole.agreement().median())
        if value < agree:
            return _wrong(f"over {_DIRECTIONS} directions", value, agree, precision)
        some = (x[:_BLOCK_IMAGES], y[:_BLOCK_IMAGES], grad[:_BLOCK_IMAGES])
        blocks = {
            name: _slopes(model, *some, block, _BLOCK_DIRECTIONS, generator) for name, block in _blocks(x).items()
        }
    least = _MATTERS * max(slopes.size() for slopes in blocks.values())
    values = {name: float(slopes.agreement().median()) for name, slopes in blocks.items() if slopes.size() > least}
    worst = min(values, key=lambda name: values[name], default=None)
    if worst is not None and values[worst] < agree_in_block:
        return _wrong(f"in {worst}", values[worst], agree_in_block, precision)
    with preserve_state(model):
        missed = _missed_on_the_way(model, x, y)
    if missed > _MISSED:
        return warning(
            f"between two images the gradient misses {100 * missed:.0f} % of how the margin changes ({precision}): the "
            "outputs jump, or bend more sharply than any step can follow, where an attack would have to go",
            missed,
            _MISSED,
        )
    least_text = "" if worst is None else f", in the worst of {len(values)} blocks {values[worst]:.3f}"
    return passed(
        f"the gradient is the slope that is measured (cosine {value:.3f}{least_text}; on the way to other images "
        f"{100 * missed:.0f} % missed; {precision})",
        value,
        agree,
    )


def _missed_on_the_way(model: nn.Module, x: Images, y: Tensor) -> float:
    """How much of the margin's change, on lines from images to others, is not in the gradient; the middle one.

    Each line has 64 segments. In each the change is measured at the ends, and predicted from the gradient in the
    middle; the parts by which they differ are added up, and divided by all that changes.
    """
    shares = []
    ends = x.roll(1, 0)
    for start, end, label in list(zip(x, ends, y, strict=True))[:_PAIRS]:
        step = (end - start) / _SEGMENTS
        at = torch.arange(_SEGMENTS + 1, device=x.device).to(x).reshape(-1, 1, 1, 1)
        labels = label.expand(_SEGMENTS + 1)
        with torch.no_grad():
            change = _margin(model, start + at * step, labels).diff()
        grad = margin_gradient(model, start + (at[1:] - 0.5) * step, labels[1:])
        slope = torch.zeros_like(change) if grad is None else (grad * step).flatten(1).sum(1)
        shares.append((change - slope).abs().sum() / change.abs().sum().clamp_min(_FLAT))
    return float(torch.stack(shares).median())


def _wrong(where: str, value: float, needed: float, precision: str) -> CheckResult:
    return warning(
        f"{where} the gradient and the slope measured over ±{_STEP * 255:g}/255 have a cosine of {value:.2f} "
        f"({precision}): the gradient does not show where the loss rises (masking, or a wrong backward pass)",
        value,
        needed,
    )


def _blocks(x: Images) -> dict[str, Tensor]:
    """Parts of the image, ``(1, c, h, w)`` of 0 and 1, by name: squares, and channels."""
    _, channels, height, width = x.shape
    rows, columns = (torch.arange(size, device=x.device) * _SIDE // size for size in (height, width))
    blocks = {}
    for row in rows.unique().tolist():
        for column in columns.unique().tolist():
            square = ((rows == row)[:, None] & (columns == column)).to(x)
            blocks[f"the square {row + 1}, {column + 1} of {_SIDE}×{_SIDE}"] = square.expand(1, channels, height, width)
    if channels > 1:
        for channel in range(channels):
            one = torch.zeros_like(x[:1])
            one[:, channel] = 1
            blocks[f"channel {channel}"] = one
    return blocks


def _slopes(
    model: nn.Module, x: Images, y: Tensor, grad: Images, block: Tensor, count: int, generator: torch.Generator
) -> Slopes:
    """Slopes along random signs in a part of the image."""
    measured, predicted = [], []
    for _ in range(count):
        way = (torch.randint(0, 2, x.shape, generator=generator) * 2 - 1).to(x) * block
        with torch.no_grad():
            rise = _margin(model, x + _STEP * way, y) - _margin(model, x - _STEP * way, y)
        measured.append(rise / (2 * _STEP))
        predicted.append((grad * way).flatten(1).sum(1))
    return Slopes(torch.stack(measured), torch.stack(predicted))


def _in_float64(context: CheckContext) -> tuple[nn.Module, torch.dtype, str]:
    """The model in float64, where it can be had; else as it is. And words for the answer: which of the two, and why."""
    try:
        with torch.no_grad():  # else a scripted model's weights would be no leaves
            model = copy.deepcopy(context.model).double()
            classify(model.eval(), context.images[:2].double())
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        kind = str(context.images.dtype).removeprefix("torch.")
        return context.model, context.images.dtype, f"in {kind}, as float64 does not work: {plain(str(error), 80)}"
    return model, torch.float64, "in float64"


def _margin(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return margins_of(classify(model, x), y)
