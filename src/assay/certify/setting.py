"""Setting: the model and samples of a certification, and what a certifier says of some of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn

from assay.attacks.pgd import PGD
from assay.certify.certificates import Finding
from assay.certify.interval import FLOAT32
from assay.certify.network import Network
from assay.certify.region import region_of
from assay.certify.subject import Certifier, CertifierInput
from assay.certify.tracing import trace
from assay.core.geometry import Geometry
from assay.core.model_calls import Classifier, classify
from assay.core.model_state import model_device, model_dtype, preserve_state
from assay.core.outcome import TOLERANCE
from assay.core.rows import Rows, untargeted
from assay.core.types import Images, Labels, Mask
from assay.defences.adaptation import adaptation_of
from assay.defences.smoothing import Smoothed
from assay.engine.api import perturb
from assay.engine.batching import Splitter
from assay.engine.inputs import check_labels, make_problem
from assay.parts.balls import Ball, Split
from assay.util.validate import described, reject


@dataclass(frozen=True)
class Setting:
    """The model and samples of a call.

    Attributes:
        model: the classifier.
        x: images, float32, on the CPU, ``(n, c, h, w)``.
        y: labels, ``(n,)``.
        mask: foreground, ``(n, 1, h, w)``, for a geometry of two balls.
        geometry: the budget.
        predicted: class of each clean image, ``(n,)``.
        networks: what bounds see of the model, its maxima as such or as rectifiers alone.
        unit: relative error of a rounding of the model's own arithmetic; 0 for exact arithmetic.
        slack: by how much the budget counts as larger, as a share of it.
    """

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
    def of(model: Classifier, x: Images, y: Labels, geometry: Geometry, mask: Mask | None) -> "Setting":
        """Validate the arguments of a call, and classify its clean images.

        Raises:
            TypeError, ValueError: a wrong argument, by name.
        """
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
        networks = cache(partial(_trace, model, shape))
        unit = torch.finfo(dtype).eps / 2
        return Setting(model, problem.x.float(), problem.y, problem.mask, geometry, predicted, networks, unit)

    def ask(
        self,
        certifier: Certifier,
        rows: Tensor,
        splitter: Splitter,
        scale: Tensor | float = 1.0,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Finding:
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
                lambda done, total: progress(int(at[0]) + len(at) * done // max(total, 1)),
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


def _trace(model: nn.Module, shape: tuple[int, ...], alone: bool) -> Network:
    """The network of a model; raises with the defence named where a defence hides it."""
    try:
        return trace(model, shape, rectifiers_alone=alone)
    except ValueError as error:
        declared = adaptation_of(model)
        if declared is None:
            raise
        hint = " (of a smoothed model: the certifier smoothing)" if isinstance(model, Smoothed) else ""
        got = described(f"one behind a defence, attacked by {declared.how}")
        raise ValueError(f"model: expected a network whose layers can be read{hint}, got {got}") from error


def _clean_logits(model: Classifier, x: Images, device: torch.device, dtype: torch.dtype) -> Tensor:
    try:
        parts = [classify(model, own.to(device, dtype)).cpu() for own in x.split(256)]
    except (RuntimeError, ValueError) as error:
        error.add_note(f"assay: the model raised this on clean images, x of shape {tuple(x.shape)}")
        raise
    return torch.cat(parts) if parts else torch.zeros(0, 1)
