"""Certify samples: from below what attacks bound from above."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from assay.certify.certificates import Certificates, Decision
from assay.certify.registry import certifiers
from assay.certify.setting import Setting
from assay.certify.subject import Certifier
from assay.core.call_context import in_neutral_context
from assay.core.geometry import Geometry
from assay.core.model_calls import Classifier
from assay.core.types import Eps, Images, Labels, Mask, PerRow
from assay.engine.batching import Splitter
from assay.parts.balls import Ball, as_geometry
from assay.util.validate import described, number, reject, whole

_BATCH = 32
"""Rows that are bounded together."""
Progress = Callable[[int, int], None]


@in_neutral_context
def certified(
    model: Classifier,
    x: Images,
    y: Labels,
    certify: str | Certifier | Sequence[str | Certifier] = "crown",
    *,
    eps: Eps | Geometry,
    norm: str = "linf",
    mask: Mask | None = None,
    scale: PerRow | None = None,
    batch: int = _BATCH,
    progress: Progress = lambda done, total: None,
) -> Certificates:
    """Which samples are right on every image within a budget: a lower bound on the robust accuracy.

    Certifiers run one after another, each on what those before it left open; one that does not know the model or the
    budget is left out, with a sentence in ``events``, where another does. A certified sample is right on every image
    that the referee of attacks would accept: the budget counts with the referee's tolerance, the box is [0, 1], and
    margins pay for rounding of the model's own arithmetic (`assay.certify.interval.rounding_of`); bounds are computed
    in float64.

    Args:
        model: maps images to logits; of linear layers, convolutions, batch normalisation, poolings, ReLU and its
            relatives, sums and concatenations. What cannot be bounded is named. Evaluation mode, whatever it is in.
        x: images, float, ``(n, c, h, w)`` in [0, 1], on any device.
        y: labels, int64, ``(n,)``.
        certify: names with arguments, such as ``"ibp, crown"`` or ``"branch-and-bound:seconds=10"`` (see
            `assay.certify.CERTIFIERS`), or certifiers.
        eps: radius in input units, or a geometry (a ball, or one on the foreground and one on the background).
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        mask: foreground, ``(n, 1, h, w)``, for a geometry of two balls.
        scale: factor of the budget for each sample, ``(n,)``, such as the distance at which it was broken; 1 without.
        batch: samples that are bounded together; halved where memory runs out.
        progress: called with how many samples are settled (decided, or open after the last certifier), and of how many.

    Returns:
        The `Certificates`, on the CPU.

    Raises:
        TypeError, ValueError: a wrong argument, by name; a layer that is not bounded, by its name.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2, bias=False))
        >>> _ = model[1].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> x, y = torch.tensor([[[[0.7, 0.3]]], [[[0.55, 0.45]]]]), torch.tensor([0, 0])
        >>> certified(model, x, y, "crown", eps=0.1).counts
        {'misclassified clean': 0, 'broken': 0, 'certified': 1, 'open': 1}
    """
    if not callable(progress):
        reject("progress", "a callable (done, total)", progress, error=TypeError)
    setting = Setting.of(model, x, y, as_geometry(eps, norm), mask)
    chosen, factor = certifiers(certify), _factors(scale, len(setting.y))
    number_of, splitter = len(setting.y), Splitter(whole("batch", batch, least=1), "raise", [])
    decision = torch.full((number_of,), int(Decision.OPEN))
    decision[setting.predicted != setting.y] = int(Decision.MISCLASSIFIED)
    margin, by = torch.full((number_of,), torch.nan, dtype=torch.float64), torch.full((number_of,), -1)
    images, seconds = setting.x.clone(), torch.zeros(number_of, dtype=torch.float64)
    events, failures = list[str](), list[Exception]()
    for place, certifier in enumerate(chosen):
        left = (decision == int(Decision.OPEN)).nonzero().squeeze(1)
        last, before = place == len(chosen) - 1, number_of - len(left)
        for part in left.split(splitter.slots) if len(left) else ():
            began = time.monotonic()
            within = partial(_tell, progress, before, number_of) if last else lambda done: None
            try:
                finding = setting.ask(certifier, part, splitter, scale=factor[part], progress=within)
            except (ValueError, TypeError) as error:  # of this model or budget; others may know it
                failures.append(error)
                events.append(f"{certifier.describe()} did not run: {error}")
                break
            seconds[part] += (time.monotonic() - began) / len(part)
            margin[part] = torch.fmax(margin[part], finding.margin)
            newly = part[finding.margin > 0]
            decision[newly], by[newly] = int(Decision.CERTIFIED), place
            if finding.broken is not None and finding.images is not None:
                wrong = part[finding.broken]
                decision[wrong], by[wrong] = int(Decision.BROKEN), place
                images[wrong] = finding.images[finding.broken]
            events += finding.events
            before += len(part) if last else int((decision[part] != int(Decision.OPEN)).sum())
            progress(before, number_of)
    if len(failures) == len(chosen):
        raise failures[0]
    return Certificates(
        decision,
        margin,
        by,
        images,
        setting.y,
        setting.predicted,
        seconds,
        tuple(certifier.describe() for certifier in chosen),
        setting.geometry.describe(),
        tuple(dict.fromkeys((*splitter.events, *events))),
    )


@in_neutral_context
def certified_distance(
    model: Classifier,
    x: Images,
    y: Labels,
    certify: str | Certifier = "crown",
    *,
    norm: str = "linf",
    geometry: Geometry | None = None,
    mask: Mask | None = None,
    precision: float = 1e-6,
    batch: int = _BATCH,
) -> PerRow:
    """The largest budget at which a certifier certifies each sample: a lower bound on its distance from a wrong class.

    The budgets are those of the network in exact arithmetic, without the referee's tolerance.

    Args:
        model: as of `certified`.
        x: images, float, ``(n, c, h, w)`` in [0, 1].
        y: labels, int64, ``(n,)``.
        certify: one certifier; not smoothing, which has its own radius (`assay.defences.Smoothed.certify`).
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        geometry: instead of a ball of this norm: a set, of which the scale is searched.
        mask: foreground, ``(n, 1, h, w)``, for a geometry of two balls.
        precision: how far the result may be below the largest.
        batch: samples that are bounded together.

    Returns:
        ``(n,)``, in input units (with ``geometry``: in scales of it); 0 where the image itself is not classified right.

    Raises:
        TypeError, ValueError: a wrong argument, by name.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2, bias=False))
        >>> _ = model[1].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> x, y = torch.tensor([[[[0.7, 0.3]]]]), torch.tensor([0])
        >>> [round(float(certified_distance(model, x, y, norm=norm)), 4) for norm in ("linf", "l2", "l1")]
        [0.2, 0.2828, 0.4]
    """
    number("precision", precision, least=0, above=True)
    if geometry is not None and not isinstance(geometry, Geometry):
        reject("geometry", "a ball or a split of two, such as Ball('linf', 1.0)", type(geometry), error=TypeError)
    setting = Setting.of(model, x, y, as_geometry(1.0, norm) if geometry is None else geometry, mask)
    chosen, setting = certifiers(certify), replace(setting, unit=0.0, slack=0.0)
    if len(chosen) != 1:
        reject("certify", "one certifier, whose distance is searched", described(f"{len(chosen)}"))
    certifier = chosen[0]
    low, high = torch.zeros(len(setting.y), dtype=torch.float64), _whole_box(setting)
    right, splitter = setting.predicted == setting.y, Splitter(whole("batch", batch, least=1), "raise", [])
    while True:
        between = (low + high) / 2  # none between two neighbouring numbers
        left = ((high - low > precision) & (between > low) & (between < high) & right).nonzero().squeeze(1)
        if not len(left):
            break
        for part in left.split(splitter.slots):
            middle = between[part]
            sure = setting.ask(certifier, part, splitter, scale=middle).margin > 0
            low[part], high[part] = torch.where(sure, middle, low[part]), torch.where(sure, high[part], middle)
    return low


def _tell(progress: Progress, before: int, total: int, done: int) -> None:
    """Progress within a part."""
    progress(before + done, total)


def _factors(scale: PerRow | None, n: int) -> Tensor:
    """Factors of the budget, ``(n,)``."""
    if scale is None:
        return torch.ones(n, dtype=torch.float64)
    if not isinstance(scale, Tensor) or not scale.is_floating_point():
        got = f"one of {scale.dtype}" if isinstance(scale, Tensor) else type(scale).__name__
        reject("scale", "a tensor of floats, one a sample", described(got), error=TypeError)
    if scale.shape != (n,):
        reject("scale", f"{n} factors, one a sample", described(f"shape {tuple(scale.shape)}"))
    if not bool((scale.isfinite() & (scale >= 0)).all()):
        wrong = scale[~(scale.isfinite() & (scale >= 0))]
        reject("scale", "finite factors of at least 0", described(f"{float(wrong[0])}"))
    return scale.detach().cpu().double()


def _whole_box(setting: Setting) -> Tensor:
    """Scales at which the geometry holds every image, ``(n,)``."""
    balls = (setting.geometry,) if isinstance(setting.geometry, Ball) else vars(setting.geometry).values()
    if not any(ball.eps > 0 for ball in balls):
        reject("geometry", "a radius above 0, whose scale is searched", described(setting.geometry.describe()))
    size = setting.x[0].numel() if len(setting.x) else 1
    widest = max(
        {"linf": 1.0, "l2": size**0.5, "l1": float(size)}[ball.norm] / ball.eps for ball in balls if ball.eps > 0
    )
    return torch.full((len(setting.y),), widest, dtype=torch.float64)
