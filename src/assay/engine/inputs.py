"""The samples of a call: checked once, kept on the CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike

import torch
from torch import Tensor

from assay.core.combinators import Stage
from assay.core.model_calls import Classifier
from assay.core.rng import content_keys
from assay.core.rows import Goal, Test, untargeted
from assay.core.types import Images, Labels, Logits, Mask
from assay.util.validate import described, reject

ROUNDING = 1e-5
"""How far beyond [0, 1] a value may be by rounding; it is clipped."""
_ADVICE = " (torch.as_tensor makes one of arrays and lists)"


@dataclass(frozen=True)
class Problem:
    """All samples of a call, where the caller keeps them.

    Attributes:
        x: clean images, ``(n, c, h, w)``.
        y: labels.
        target: classes to reach, or -1.
        keys: stable addresses of the samples' random draws.
        mask: foreground, or None.
        reference: clean logits, ``(n, k)``.
        goal: the samples' goals.
        start: images to start from, or None.
    """

    x: Images
    y: Labels
    target: Labels
    keys: Labels
    mask: Mask | None
    reference: Logits
    goal: Goal
    start: Images | None = None


def make_problem(
    model: Classifier,
    x: Images,
    y: Labels,
    stages: tuple[Stage, ...],
    *,
    target: Labels | None,
    mask: Mask | None,
    start: Images | None,
    test: Test | None,
    ids: Labels | None,
) -> Problem:
    """Check what the caller gave, and copy it to the CPU. Arguments as in `run.attack`.

    Values of images that leave [0, 1] by rounding are clipped.

    Raises:
        TypeError, ValueError: a wrong argument, by name.
    """
    if not callable(model) or isinstance(model, type):
        reject("model", "a callable that maps images to logits", described(_not_called(model)), error=TypeError)
    _check_images(x)
    y = _check_per_sample("y", y, len(x)).cpu()
    goal = untargeted(y)
    if target is not None:
        target = _check_per_sample("target", target, len(x)).cpu()
        if len(y) and bool((target == y).all()):
            reject("target", "a class other than the label of its sample", described(f"{int(y[0])} at index 0"))
        goal = Goal(y, target, torch.ones_like(y, dtype=torch.bool))
    if test is not None:
        if not callable(test):
            reject("test", "a callable (logits, images) -> bool (b,)", test, error=TypeError)
        goal = goal.also(test)
    needs = {need for stage in stages for need in stage.attack.needs}
    blind = next((stage.attack for stage in stages if stage.attack.traits.access == "scores"), None)
    if blind is not None and getattr(model, "gives", "") == "labels":
        reject(
            "attack",
            "one that goes by labels (such as HopSkipJump or Boundary), because the model gives no scores",
            described(blind.describe()),
        )
    mask = _check_mask(mask, x, required="mask" in needs)
    keys = content_keys(x, y) if ids is None else _check_per_sample("ids", ids, len(x)).cpu()
    return Problem(
        x=_own(x),
        y=y.clone(),
        target=torch.full_like(y, -1) if target is None else target.clone(),
        keys=keys,
        mask=mask,
        reference=torch.zeros(len(x), 2),
        goal=goal,
        start=None if start is None else _own(_check_start(start, x)),
    )


def _check_images(x: Images) -> None:
    expected = "a float tensor of shape (n, c, h, w) with values in [0, 1]"
    if not isinstance(x, Tensor):
        reject("x", f"{expected}{_ADVICE}", type(x), error=TypeError)
    if x.layout != torch.strided or x.is_meta:
        reject("x", expected + ", dense and with data", described(f"{x.layout} on {x.device}"), error=TypeError)
    if x.dim() != 4:
        reject("x", expected, described(f"shape {tuple(x.shape)}"))
    if not x.is_floating_point():
        reject("x", expected + " (divide 8-bit images by 255)", described(f"dtype {x.dtype}"), error=TypeError)
    _check_range("x", x, expected + "; put normalisation into the model (assay.models.Normalize)")


def _check_range(name: str, x: Images, expected: str) -> None:
    finite = x.detach()[x.isfinite()].double()
    if finite.numel() and (float(finite.min()) < -ROUNDING or float(finite.max()) > 1 + ROUNDING):
        outside = int(((finite < -ROUNDING) | (finite > 1 + ROUNDING)).sum())
        span = f"{outside} values outside, from {float(finite.min()):.9g} to {float(finite.max()):.9g}"
        reject(name, expected, described(span))


def _check_start(start: Images, x: Images) -> Images:
    expected = f"a float tensor of images in [0, 1] of shape {tuple(x.shape)}, one to start from for each of x"
    if not isinstance(start, Tensor) or not start.is_floating_point():
        reject("start", expected, described(_kind(start)), error=TypeError)
    if start.shape != x.shape:
        reject("start", expected, described(f"shape {tuple(start.shape)}"))
    if not bool(start.isfinite().all()):
        reject("start", expected, described("NaN or infinite values"))
    _check_range("start", start, expected)
    return start


def _own(x: Images) -> Images:
    """A copy on the CPU, in float32 or float64, within [0, 1]; what is not finite stays."""
    own = x.detach().to("cpu", x.dtype if x.dtype == torch.float64 else torch.float32, copy=True)
    return torch.where(own.isfinite(), own.clamp(0, 1), own)


def _not_called(model: object) -> str:
    """What stands for a model and is none, with advice."""
    if isinstance(model, Mapping):
        return "a mapping (weights? build the network, network.load_state_dict(weights), and pass the network)"
    if isinstance(model, str | PathLike):
        return f"{str(model)!r} (assay.models.load loads weights and models by name)"
    if isinstance(model, type):
        return f"the class {model.__name__} (call it, and load its weights)"
    return f"{model!r}"


def _kind(value: object) -> str:
    return f"dtype {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _check_per_sample(name: str, values: Labels, count: int) -> Labels:
    expected = f"an integer tensor of shape ({count},)"
    if not isinstance(values, Tensor):
        reject(name, f"{expected}{_ADVICE}", type(values), error=TypeError)
    if values.is_floating_point() or values.dtype == torch.bool:
        one_hot = values.dim() == 2 and len(values) == count
        advice = f" (from one row of classes a sample: {name}.argmax(1))" if one_hot else f" ({name}.long())"
        reject(
            name, expected + advice, described(f"dtype {values.dtype}, shape {tuple(values.shape)}"), error=TypeError
        )
    if tuple(values.shape) != (count,):
        reject(name, expected, described(f"shape {tuple(values.shape)}"))
    values = values.long()
    if name != "ids" and count and int(values.min()) < 0:
        reject(name, expected + " of classes from 0", described(f"{int(values.min())}"))
    return values


def check_labels(problem: Problem, logits: Tensor) -> None:
    """Refuse labels and targets that the model has no logit for.

    Raises:
        ValueError: a class that is too large, by the argument's name.
    """
    classes = logits.shape[1]
    for name, values in (("y", problem.y), ("target", problem.target)):
        if len(values) and int(values.max()) >= classes:
            reject(name, f"classes below {classes}, the number of logits", described(str(int(values.max()))))


def _check_mask(mask: Mask | None, x: Images, *, required: bool) -> Mask | None:
    expected = f"a foreground mask of shape {(len(x), 1, *x.shape[2:])} of 0 and 1"
    if mask is None:
        if required:
            reject("mask", expected + ", which this attack needs", None)
        return None
    if not isinstance(mask, Tensor):
        reject("mask", expected, type(mask), error=TypeError)
    if tuple(mask.shape) != (len(x), 1, *x.shape[2:]):
        reject("mask", expected, described(f"shape {tuple(mask.shape)}"))
    if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
        reject("mask", expected, described("other values"))
    return mask.detach().to("cpu", x.dtype if x.dtype == torch.float64 else torch.float32, copy=True)
