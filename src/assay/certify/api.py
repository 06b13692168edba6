"""Certify samples: from below what attacks bound from above."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn

from assay.attacks.pgd import PGD
from assay.certify.certificates import Certificates, Decision, Finding
from assay.certify.interval import FLOAT32
from assay.certify.network import Network
from assay.certify.region import region_of
from assay.certify.registry import certifiers
from assay.certify.subject import Certifier, CertifierInput
from assay.certify.tracing import trace
from assay.core.call_context import in_neutral_context
from assay.core.geometry import Geometry
from assay.core.model_calls import Classifier, classify
from assay.core.model_state import model_device, model_dtype, preserve_state
from assay.core.outcome import TOLERANCE
from assay.core.rows import Rows, untargeted
from assay.core.types import Images, Labels, Mask, PerRow
from assay.engine.api import perturb
from assay.engine.batching import Splitter
from assay.engine.inputs import check_labels, make_problem
from assay.parts.balls import Ball, Split, as_geometry
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
    eps: float | Geometry,
    norm: str = "linf",
    mask: Mask | None = None,
    scale: PerRow | None = None,
    batch: int = _BATCH,
    progress: Progress = lambda done, total: None,
) -> Certificates:
    """Which samples are right on every image within a budget: a lower bound on the robust accuracy.

    Certifiers run one after another, each on what those before it left open. A certified sample is right on every image
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
        progress: called with samples done and all, a certifier at a time.

    Returns:
        The `Certificates`, on the CPU.

    Raises:
        TypeError, ValueError: a wrong argument, by name; a layer that is not bounded, by its name.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
        >>> _ = model[1].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> x, y = torch.tensor([[[[0.7, 0.3]]], [[[0.55, 0.45]]]]), torch.tensor([0, 0])
        >>> certified(model, x, y, "crown", eps=0.1).counts
        {'misclassified clean': 0, 'broken': 0, 'certified': 1, 'open': 1}
    """
    if not callable(progress):
        reject("progress", "a callable (done, total)", progress, error=TypeError)
    setting = _Setting.of(model, x, y, as_geometry(eps, norm), mask)
    chosen, factor = certifiers(certify), _factors(scale, len(setting.y))
    number_of, splitter = len(setting.y), Splitter(whole("batch", batch, least=1), "raise", [])
    decision = torch.full((number_of,), int(Decision.OPEN))
    decision[setting.predicted != setting.y] = int(Decision.MISCLASSIFIED)
    margin, by = torch.full((number_of,), torch.nan, dtype=torch.float64), torch.full((number_of,), -1)
    images, seconds = setting.x.clone(), torch.zeros(number_of, dtype=torch.float64)
    events: list[str] = []
    for place, certifier in enumerate(chosen):
        left = (decision == int(Decision.OPEN)).nonzero().squeeze(1)
        for part in left.split(splitter.slots) if len(left) else ():
            began = time.monotonic()
            finding = setting.ask(certifier, part, splitter, scale=factor[part])
            seconds[part] += (time.monotonic() - began) / len(part)
            margin[part] = torch.fmax(margin[part], finding.margin)
            newly = part[finding.margin > 0]
            decision[newly], by[newly] = int(Decision.CERTIFIED), place
            if finding.broken is not None and finding.images is not None:
                wrong = part[finding.broken]
                decision[wrong], by[wrong] = int(Decision.BROKEN), place
                images[wrong] = finding.images[finding.broken]
            events += finding.events
            progress(int((left <= part[-1]).sum()), len(left))
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
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
        >>> _ = model[1].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> x, y = torch.tensor([[[[0.7, 0.3]]]]), torch.tensor([0])
        >>> [round(float(certified_distance(model, x, y, norm=norm)), 4) for norm in ("linf", "l2", "l1")]
        [0.2, 0.2828, 0.4]
    """
    number("precision", precision, least=0, above=True)
    setting = _Setting.of(model, x, y, as_geometry(1.0, norm) if geometry is None else geometry, mask)
    chosen, setting = certifiers(certify), replace(setting, unit=0.0, slack=0.0)
    if len(chosen) != 1:
        reject("certify", "one certifier, whose distance is searched", described(f"{len(chosen)}"))
    certifier = chosen[0]
    low, high = torch.zeros(len(setting.y), dtype=torch.float64), _whole_box(setting)
    right, splitter = setting.predicted == setting.y, Splitter(whole("batch", batch, least=1), "raise", [])
    while bool(((high - low > precision) & right).any()):
        left = ((high - low > precision) & right).nonzero().squeeze(1)
        for part in left.split(splitter.slots):
            middle = (low[part] + high[part]) / 2
            sure = setting.ask(certifier, part, splitter, scale=middle).margin > 0
            low[part], high[part] = torch.where(sure, middle, low[part]), torch.where(sure, high[part], middle)
    return low


def _factors(scale: PerRow | None, n: int) -> Tensor:
    """Factors of the budget, ``(n,)``."""
    if scale is None:
        return torch.ones(n, dtype=torch.float64)
    if not isinstance(scale, Tensor) or not scale.is_floating_point():
        reject("scale", "a tensor of floats, one a sample", described(type(scale).__name__), error=TypeError)
    if scale.shape != (n,) or not bool((scale.isfinite() & (scale >= 0)).all()):
        reject("scale", f"{n} finite factors of at least 0, one a sample", described(f"shape {tuple(scale.shape)}"))
    return scale.detach().cpu().double()


def _whole_box(setting: "_Setting") -> Tensor:
    """Scales at which the geometry holds every image, ``(n,)``."""
    balls = (setting.geometry,) if isinstance(setting.geometry, Ball) else vars(setting.geometry).values()
    size = setting.x[0].numel() if len(setting.x) else 1
    widest = max(
        {"linf": 1.0, "l2": size**0.5, "l1": float(size)}[ball.norm] / ball.eps for ball in balls if ball.eps > 0
    )
    return torch.full((len(setting.y),), widest, dtype=torch.float64)


def _clean_logits(model: Classifier, x: Images, device: torch.device, dtype: torch.dtype) -> Tensor:
    try:
        parts = [classify(model, own.to(device, dtype)).cpu() for own in x.split(256)]
    except (RuntimeError, ValueError) as error:
        error.add_note(f"assay: the model raised this on clean images, x of shape {tuple(x.shape)}")
        raise
    return torch.cat(parts) if parts else torch.zeros(0, 1)


@dataclass(frozen=True)
class _Setting:
    """Model and samples of a call."""

    model: Classifier
    x: Images
    y: Labels
    mask: Mask | None
    geometry: Geometry
    predicted: Labels
    networks: Callable[[bool], Network]
    unit: float = FLOAT32
    slack: float = TOLERANCE

    @staticmethod
    def of(model: Classifier, x: Images, y: Labels, geometry: Geometry, mask: Mask | None) -> "_Setting":
        if not isinstance(geometry, Ball | Split):
            expected = "a ball, or one on the foreground and one on the background"
            reject("eps", expected, described(geometry.describe()))
        problem = make_problem(model, x, y, (), target=None, mask=mask, start=None, test=None, ids=None)
        if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
            reject("model", "a torch.nn.Module, whose layers can be read", type(model), error=TypeError)
        device, dtype = model_device(model, torch.device("cpu")), model_dtype(model)
        with preserve_state(model), torch.no_grad():
            logits = _clean_logits(model, problem.x.float(), device, dtype)
        if len(logits):
            check_labels(problem, logits)
        if not bool(logits.isfinite().all()):
            reject("model", "finite logits on the images (and x without NaN)", described("NaN or infinite ones"))
        predicted = logits.argmax(1) if len(logits) else problem.y
        shape = tuple(problem.x.shape[1:])
        networks = cache(lambda alone: trace(model, shape, rectifiers_alone=alone))
        unit = torch.finfo(dtype).eps / 2
        return _Setting(model, problem.x.float(), problem.y, problem.mask, geometry, predicted, networks, unit)

    def ask(self, certifier: Certifier, rows: Tensor, splitter: Splitter, scale: Tensor | float = 1.0) -> Finding:
        """What a certifier says of some samples; in parts where memory runs out."""
        factor = torch.as_tensor(scale, dtype=torch.float64).expand(len(rows))

        def work(at: Tensor) -> Finding:
            own = rows[at]
            device = model_device(self.model, torch.device("cpu"))
            mask = None if self.mask is None else self.mask[own].to(device)
            region = region_of(
                self.geometry, self.x[own].double().to(device), mask, scale=(factor[at] * (1 + self.slack)).to(device)
            )
            subject = CertifierInput(
                self.model,
                self.networks,
                region,
                self.y[own].to(device),
                self.unit,
                lambda row, steps: self._attacked(own[row.cpu()], factor[at][row.cpu()], steps).to(device),
                lambda images, row: self._judge(images, own[row.cpu()], factor[at][row.cpu()]),
            )
            with torch.no_grad():
                return certifier.certify(subject)

        def fail(_: int, error: Exception) -> Finding:
            raise error

        parts = [finding for _, finding in splitter.run(torch.arange(len(rows)), work, fail)]
        return Finding.joined(parts, self.x[rows])

    def _attacked(self, rows: Tensor, factor: Tensor, steps: int) -> Images:
        """Images that PGD has looked for within the budget of some samples; clean ones where a scale is not 1."""
        images, at = self.x[rows], (factor == 1).nonzero().squeeze(1)
        device, dtype, own = model_device(self.model, torch.device("cpu")), model_dtype(self.model), rows[at]
        if len(own):
            x, mask = self.x[own].to(device, dtype), None if self.mask is None else self.mask[own].to(device)
            search = PGD(self.geometry, steps=steps)
            with torch.enable_grad():
                moved = perturb(self.model, x, self.y[own].to(device), search, mask=mask, keep="best", seed=0, ids=own)
            images[at] = moved.float().cpu()
        return images

    def _judge(self, images: Images, rows: Tensor, factor: Tensor) -> tuple[Images, Tensor]:
        """Images brought into the budget and the box, and whether the model does not classify them right."""
        x, y, device = self.x[rows], self.y[rows], images.device
        own = Rows(x, untargeted(y), rows, mask=None if self.mask is None else self.mask[rows])
        scale = factor.to(x)
        moved = x + self.geometry.project(images.float().cpu() - x, own, scale)
        within = self.geometry.size(moved - x, own) <= scale * (1 + TOLERANCE)
        inside = within & ((moved >= 0) & (moved <= 1)).flatten(1).all(1)
        with preserve_state(self.model), torch.no_grad():
            logits = classify(self.model, moved.to(device, model_dtype(self.model))).cpu()
        wrong = (logits.argmax(1) != y) & logits.isfinite().all(1)
        return moved.to(images), (inside & wrong).to(device)
