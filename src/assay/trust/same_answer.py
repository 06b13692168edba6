"""A13: the same answer to the same image, however it is asked."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from assay.core.call_context import default_device_for
from assay.core.model_calls import as_logits, call, call_in_groups, exported_batch
from assay.core.model_state import lock_model, preserve_state
from assay.core.types import Images, Logits
from assay.trust.answer import CheckResult, issue, not_applicable, passed, warning
from assay.trust.context import CheckContext

_IMAGES, _NEIGHBOURS, _COPIES = 16, 24, 8
_CLOSE, _SURE = 1e-3, 1e-2
_TINY, _JUMP = 2e-4, 0.25


def same_answer(context: CheckContext) -> CheckResult:
    """A13: an image gets one answer with and without gradients, alone and repeated, before and after other questions.

    A model that sees that it is attacked, by who asks or by what is asked of it and not by the image, answers attacks
    in another way than users: it is also asked in a thread of its own, where nothing of assay calls it. Last it is
    asked a fifth of a thousandth beside the image, where no 8-bit image lies.
    """
    if not len(context.chosen):
        return not_applicable("there are no images")
    if context.is_random:
        return not_applicable("the model is random, so that answers cannot be compared")
    model, x = context.model, context.images[:_IMAGES]
    generator = torch.Generator().manual_seed(context.seed)
    noise = [(torch.rand(x.shape, generator=generator).to(x) * 2 - 1) for _ in range(_NEIGHBOURS)]
    with lock_model(model), preserve_state(model):
        first = _ask(context, x)
        ways: dict[str, Callable[[], Logits]] = {
            "the second time": lambda: _ask(context, x),
            "with gradients enabled": lambda: _ask(context, x, enabled=True),
            "when a gradient is asked for": lambda: _ask(context, x, enabled=True, leaf=True),
            "among copies of itself": lambda: _repeated(context, x),
            "in another memory layout": lambda: _ask(context, x.contiguous(memory_format=torch.channels_last)),
            "in a thread of its own": lambda: _elsewhere(context, x),
            f"after {_NEIGHBOURS} images beside it": lambda: _after(context, x, noise),
        }
        answers = {way: ask() for way, ask in ways.items()}
        near = _ask(context, (x + _TINY * noise[0]).clamp(0, 1))
    scale = first.abs().amax(1, keepdim=True).clamp_min(1e-6)
    sure = _gap(first) > _SURE * scale.squeeze(1)
    for way, logits in answers.items():
        changed = (logits.argmax(1) != first.argmax(1)) & sure
        most = float(((logits - first).abs() / scale).max())
        if bool(changed.any()) or most > _CLOSE:
            kind = issue if bool(changed.any()) else warning
            text = (
                f"{int(changed.sum())} of {len(x)} images get another class" if bool(changed.any()) else "logits change"
            )
            return kind(
                f"{text} {way} (by {most:.2g} of their size): what attacks are told is not what users are told",
                most,
                _CLOSE,
                tuple(context.chosen[:_IMAGES][changed.cpu()].tolist()),
            )
    return _beside(context, first, near)


def _beside(context: CheckContext, first: Logits, near: Logits) -> CheckResult:
    """Whether a step that no eye and no grid of bytes knows changes the answer."""
    spread = first.std(1).clamp_min(1e-9)
    jump = ((near - first).abs().amax(1) / spread).median()
    if float(jump) > _JUMP:
        return warning(
            f"{_TINY * 255:.2g}/255 beside an image the logits are others by {float(jump):.2g} of their spread: the "
            "model tells images that were written as bytes from those that attacks make",
            float(jump),
            _JUMP,
        )
    return passed(
        "the same answer with and without gradients, alone and repeated, before and after others, and beside the image",
        float(jump),
        _JUMP,
    )


def _ask(context: CheckContext, x: Images, *, enabled: bool = False, leaf: bool = False) -> Logits:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_(leaf)
    with torch.set_grad_enabled(enabled):
        return as_logits(call(context.model, x), len(x)).detach().float()


def _elsewhere(context: CheckContext, x: Images) -> Logits:
    """The answer to a caller that is not assay: nothing but the model is on the stack of the thread that asks."""
    is_set = isinstance(default_device_for(x), torch.device)
    begin = partial(torch.set_default_device, x.device) if is_set else None  # of that thread alone
    with ThreadPoolExecutor(1, initializer=begin) as pool:
        ask = lambda images: pool.submit(context.model, images).result()  # noqa: E731
        size = exported_batch(context.model, len(x))
        with torch.no_grad():
            output = call(ask, x) if size in (None, len(x)) else call_in_groups(ask, x, size)
    return as_logits(output, len(x)).detach().float()


def _repeated(context: CheckContext, x: Images) -> Logits:
    """The first answer to each image among copies of it alone."""
    return torch.cat([_ask(context, image.expand(_COPIES, *x.shape[1:]))[:1] for image in x.split(1)])


def _after(context: CheckContext, x: Images, noise: list[Tensor]) -> Logits:
    for step in noise:
        _ask(context, (x + 4 / 255 * step).clamp(0, 1))
    return _ask(context, x)


def _gap(logits: Logits) -> Tensor:
    top = logits.topk(min(2, logits.shape[1]), 1).values
    return top[:, 0] - top[:, -1]
