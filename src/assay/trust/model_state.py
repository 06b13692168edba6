"""A1, A2, A3, A9: does the model give one answer to one image, whatever is around it?"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from assay.core.model_calls import call, classify
from assay.core.model_state import lock_model, model_dtype, preserve_state
from assay.engine.preflight import randomness, training_mode
from assay.trust.answer import CheckResult, issue, not_applicable, passed, warning
from assay.trust.context import CheckContext

_PASSES = 5
_CLOSE = 1e-3
_TIE = 1e-2


def frozen(exam: CheckContext) -> CheckResult:
    """A1: evaluation mode, and a state that a forward pass does not change."""
    model = exam.model
    with lock_model(model):
        result = training_mode(model)
        before = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
        with preserve_state(model), torch.no_grad():
            classify(model, exam.images[:8])
            again = [name for name, part in model.named_modules() if getattr(part, "training", False)]
            changed = [name for name, buffer in model.named_buffers() if not _same(buffer, before.get(name))]
    if again:
        return issue(
            f"in evaluation mode a forward pass puts {len(again)} modules back into training mode (first: "
            f"{again[0] or 'the model itself'}), so answers depend on the batch",
            float(len(again)),
            0.0,
        )
    if changed:
        return issue(
            f"a forward pass changes {len(changed)} buffers (first: {changed[0]}): the model that is attacked "
            "last is not the one that was attacked first",
            float(len(changed)),
            0.0,
        )
    return passed("in evaluation mode, and no forward pass changes it") if result is None else issue(result.text)


def _same(now: Tensor, before: Tensor | None) -> bool:
    return before is not None and now.shape == before.shape and torch.equal(now, before)


def deterministic(exam: CheckContext) -> CheckResult:
    """A2: the same answer every time, or attacked in expectation."""
    passes = exam.passes(_PASSES)
    result = randomness(exam.model, passes)
    if result is None:
        return passed(f"{_PASSES} passes over {len(exam.chosen)} images give the same logits")
    if exam.in_expectation and exam.adapted:
        return passed(f"random, and attacked in expectation: {exam.adaptation.how if exam.adaptation else 'EOT'}")
    return warning(result.text)


def batch_invariant(exam: CheckContext) -> CheckResult:
    """A3: the same answer alone, among seven and among all."""
    if exam.random:
        return not_applicable("the model is random, so that batches cannot be compared")
    images, n = exam.images, len(exam.images)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(exam.seed))
    back = order.argsort()
    ways = {
        "alone": torch.cat([exam.logits(images[i : i + 1]) for i in range(n)]) if n else exam.clean,
        "in batches of seven": exam.logits(images, batch=7),
        "shuffled": exam.logits(images[order])[back],
    }
    scale = exam.clean.abs().amax(1, keepdim=True).clamp_min(1e-6)
    top = exam.clean.topk(2, dim=1).values if exam.clean.shape[1] > 1 else exam.clean.repeat(1, 2)
    sure = (top[:, 0] - top[:, 1]) > _TIE * scale.squeeze(1)
    for words, logits in ways.items():
        flips = ((logits.argmax(1) != exam.clean.argmax(1)) & sure).nonzero().squeeze(1)
        if len(flips):
            at = tuple(exam.chosen[flips.cpu()].tolist())
            return issue(
                f"{len(flips)} of {n} images get another class {words} than among {n}: the answer to an image "
                "depends on the batch it is in",
                float(len(flips)),
                0.0,
                at,
            )
    most = max(float(((logits - exam.clean).abs() / scale).max()) for logits in ways.values()) if n else 0.0
    if most > _CLOSE:
        return warning(f"logits change by {most:.2g} of their size with the batch an image is in", most, _CLOSE)
    return passed("an image gets the same logits alone, in batches of seven, and shuffled", most, _CLOSE)


class Seen(TorchFunctionMode):
    """Notes which functions a forward pass calls, and which of them let no gradient through."""

    def __init__(self) -> None:
        super().__init__()
        self.optimising: list[str] = []
        self.flat: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call, and note."""
        name = getattr(func, "__name__", "")
        if name in ("grad", "backward"):
            self.optimising.append(name)
        if name in _FLAT and any(isinstance(a, Tensor) and a.requires_grad for a in args):
            self.flat.append(name.rstrip("_"))
        return func(*args, **(kwargs or {}))


_FLAT = frozenset(
    {
        "round",
        "round_",
        "floor",
        "floor_",
        "ceil",
        "ceil_",
        "trunc",
        "trunc_",
        "sign",
        "sign_",
        "argmax",
        "heaviside",
        "bucketize",
        "searchsorted",
    }
)


def calls(model: nn.Module, x: Tensor) -> Seen:
    """What a forward pass of a model calls, with a gradient asked for."""
    seen = Seen()
    leaf = x.detach().clone().to(model_dtype(model)).requires_grad_()
    with preserve_state(model), torch.enable_grad(), seen:
        call(model, leaf)
    return seen


def no_optimisation(exam: CheckContext) -> CheckResult:
    """A9: no optimisation in the forward pass."""
    seen = calls(exam.model, exam.images[:2])
    if not seen.optimising:
        return passed("the forward pass calls no automatic differentiation")
    text = f"the forward pass differentiates {len(seen.optimising)} times: it optimises something at inference"
    if exam.adaptation is not None and exam.adapted:
        return passed(f"{text}; attacked as the defence declares: {exam.adaptation.how}")
    return warning(
        f"{text}. Attack it through that (unrolled, or by BPDA), and by queries", float(len(seen.optimising)), 0.0
    )
