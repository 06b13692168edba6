"""A1, A2, A3, A9: the model is deterministic, in evaluation mode and independent of the batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from assay.core.model_calls import call, classify
from assay.core.model_state import lock_model, model_dtype, preserve_state
from assay.core.types import Images, Logits
from assay.engine.preflight import randomness, training_mode
from assay.trust.answer import CheckResult, issue, not_applicable, passed, warning
from assay.trust.budgets import change_a_value
from assay.trust.context import CheckContext

_PASSES = 5
_CLOSE = 1e-3
_TIE = 1e-2
_FEW = 8


def frozen(context: CheckContext) -> CheckResult:
    """A1: evaluation mode, and a state that a forward pass does not change."""
    model = context.model
    with lock_model(model):
        finding = training_mode(model)
        before = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
        with preserve_state(model), torch.no_grad():
            classify(model, context.images[:8])
            training_modules = [name for name, part in model.named_modules() if getattr(part, "training", False)]
            changed = [name for name, buffer in model.named_buffers() if not _same(buffer, before.get(name))]
    if training_modules:
        return issue(
            f"in evaluation mode a forward pass puts {len(training_modules)} modules back into training mode (first: "
            f"{training_modules[0] or 'the model itself'}), so answers depend on the batch",
            float(len(training_modules)),
            0.0,
        )
    if changed:
        return issue(
            f"a forward pass changes {len(changed)} buffers (first: {changed[0]}): the model that is attacked "
            "last is not the one that was attacked first",
            float(len(changed)),
            0.0,
        )
    return passed("in evaluation mode, and no forward pass changes it") if finding is None else issue(finding.text)


def _same(now: Tensor, before: Tensor | None) -> bool:
    return before is not None and now.shape == before.shape and torch.equal(now, before)


def deterministic(context: CheckContext) -> CheckResult:
    """A2: the same answer every time, or attacked in expectation."""
    passes = context.passes(_PASSES)
    finding = randomness(context.model, passes)
    if finding is None:
        return passed(f"{_PASSES} passes over {len(context.chosen)} images give the same logits")
    if context.in_expectation and context.is_adapted:
        return passed(f"random, and attacked in expectation: {context.adaptation.how if context.adaptation else 'EOT'}")
    return warning(finding.text)


def batch_invariant(context: CheckContext) -> CheckResult:
    """A3: the same answer alone, among seven and among all; also of a noisy image among clean ones.

    An attack changes every image of a batch, an adversary may send one among those of others.
    """
    if context.is_random:
        return not_applicable("the model is random, so that batches cannot be compared")
    images, n = context.images, len(context.images)
    if not n:
        return not_applicable("there are no images")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(context.seed))
    clean = {
        "alone": torch.cat([context.logits(images[i : i + 1]) for i in range(n)]),
        "in batches of seven": context.logits(images, batch=7),
        "shuffled": context.logits(images[order])[order.argsort()],
    }
    pairs = [(f"images get another class {way} than among {n}", context.clean_logits, z) for way, z in clean.items()]
    noisy, few, every = _noisy(context), slice(0, _FEW), slice(0, n, 2)
    together = context.logits(noisy, batch=n)
    alone = [torch.cat((images[:i], noisy[i : i + 1], images[i + 1 :])) for i in range(n)[few]]
    single = torch.stack([context.logits(batch, batch=n)[i] for i, batch in enumerate(alone)])
    half = context.logits(torch.stack((noisy[::2], images[::2]), 1).flatten(0, 1)[:n], batch=n)[::2]
    pairs += [
        ("noisy images get another class each among clean ones than together", together[few], single),
        ("noisy images get another class each after a clean one than together", together[every], half),
    ]
    return _judged(context, pairs)


def _noisy(context: CheckContext) -> Images:
    """The images under noise as large as the budget."""
    generator = torch.Generator().manual_seed(context.seed)
    signs = torch.randint(0, 2, context.images.shape, generator=generator) * 2 - 1
    size = change_a_value(context.budgets, context.images[0].numel())
    return (context.images + size * signs.to(context.images)).clamp(0, 1)


def _judged(context: CheckContext, pairs: Sequence[tuple[str, Logits, Logits]]) -> CheckResult:
    """The worst difference of two answers to the same images; a class counts where the first is not a tie."""
    most = 0.0
    for what, usual, logits in pairs:
        scale = usual.abs().amax(1, keepdim=True).clamp_min(1e-6)
        top = usual.topk(2, dim=1).values if usual.shape[1] > 1 else usual.repeat(1, 2)
        sure = (top[:, 0] - top[:, 1]) > _TIE * scale.squeeze(1)
        flips = ((logits.argmax(1) != usual.argmax(1)) & sure).nonzero().squeeze(1)
        if len(flips):
            at = tuple(context.chosen[flips.cpu()].tolist()) if len(usual) == len(context.chosen) else ()
            text = f"{len(flips)} of {len(usual)} {what}: the answer to an image depends on the batch it is in"
            return issue(text, float(len(flips)), 0.0, at)
        most = max(most, float(((logits - usual).abs() / scale).max()))
    if most > _CLOSE:
        return warning(f"logits change by {most:.2g} of their size with the batch an image is in", most, _CLOSE)
    return passed("an image gets the same logits alone, in batches of seven, shuffled and beside others", most, _CLOSE)


class CallRecorder(TorchFunctionMode):
    """Notes which functions a forward pass calls, and which of them let no gradient through."""

    def __init__(self) -> None:
        super().__init__()
        self.autograd_calls: list[str] = []
        self.without_gradient: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call, and note."""
        name = getattr(func, "__name__", "")
        if name in ("grad", "backward"):
            self.autograd_calls.append(name)
        if name in _FLAT and any(isinstance(a, Tensor) and a.requires_grad for a in args):
            self.without_gradient.append(name.rstrip("_"))
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


def record_calls(model: nn.Module, x: Tensor) -> CallRecorder:
    """What a forward pass of a model calls, with a gradient asked for."""
    recorder = CallRecorder()
    leaf = x.detach().clone().to(model_dtype(model)).requires_grad_()
    with preserve_state(model), torch.enable_grad(), recorder:
        call(model, leaf)
    return recorder


def no_optimisation(context: CheckContext) -> CheckResult:
    """A9: no optimisation in the forward pass."""
    recorder = record_calls(context.model, context.images[:2])
    if not recorder.autograd_calls:
        return passed("the forward pass calls no automatic differentiation")
    text = f"the forward pass differentiates {len(recorder.autograd_calls)} times: it optimises something at inference"
    if context.adaptation is not None and context.is_adapted:
        return passed(f"{text}; attacked as the defence declares: {context.adaptation.how}")
    return warning(
        f"{text}. Attack it through that (unrolled, or by BPDA), and by queries",
        float(len(recorder.autograd_calls)),
        0.0,
    )
