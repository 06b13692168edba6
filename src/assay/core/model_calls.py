"""The one place where assay calls a model: own copy of the images, one form of answer, gradients by the images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from assay.core.call_context import default_device_for, default_dtype_for
from assay.core.types import Images, Logits
from assay.util.validate import described, reject

T = TypeVar("T")
Classifier = Callable[[Tensor], Any]
"""Anything that maps images ``(b, c, h, w)`` in [0, 1] to logits ``(b, k)``; usually an ``nn.Module``."""

Value = Tensor | tuple[Tensor, Tensor | None]
"""A scalar; or a tensor, and the gradient of a scalar by it."""

OUTPUT_RULE = (
    "a tensor; or an object's .logits; or the entry 'logits' of a mapping; or the first element of a tuple or list"
)
"""Where logits are looked for in what a model returns, in this order."""

_REENTRANT = "use_reentrant=True"


def call(model: Classifier, x: Tensor) -> Tensor:
    """What a model returns for its own copy of some images, as a tensor of any shape.

    The model may change its input in place: the caller's tensor stays as it is.

    Args:
        model: the model.
        x: images, ``(b, c, h, w)``.

    Returns:
        The tensor that `OUTPUT_RULE` finds, on the device of ``x``.

    Raises:
        TypeError: the model returns something else.
    """
    return call_and_describe(model, x)[0]


def call_and_describe(model: Classifier, x: Tensor) -> tuple[Tensor, str]:
    """As `call`, and in which part of the model's output the tensor was (empty for a plain tensor)."""
    size = exported_batch(model, len(x))
    if size is not None and len(x) != size:
        return call_in_groups(model, x, size), ""
    gradients_taken = torch.is_grad_enabled()
    with default_device_for(x), default_dtype_for(x):
        try:
            output = model(x.clone())
        except SystemExit as error:
            raise RuntimeError(f"the model tried to end the program (SystemExit: {error})") from error
    if torch.is_grad_enabled() != gradients_taken:  # which the model has switched for those after it
        torch.set_grad_enabled(gradients_taken)
    tensor, where = select_output(output)
    return tensor.to(x.device), where


def call_in_groups(model: Classifier, x: Tensor, size: int) -> Tensor:
    """As `call`, for a model that takes exactly ``size`` images: the last group is filled up with its last image.

    Args:
        model: maps exactly ``size`` images to ``size`` rows.
        x: images, ``(b, c, h, w)``, any number.
        size: images a call.

    Raises:
        ValueError: the model returns another number of rows.
    """
    parts = []
    for part in x.split(size) if len(x) else (x,):
        filler = part[-1:] if len(part) else x.new_zeros(1, *x.shape[1:])
        full = torch.cat((part, filler.expand(size - len(part), *x.shape[1:])))
        rows = call(model, full)
        if not rows.dim() or len(rows) != size:
            reject("model", f"{size} rows for {size} images", described(f"shape {tuple(rows.shape)}"))
        parts.append(rows[: len(part)])
    return torch.cat(parts)


def exported_batch(model: Classifier, count: int) -> int | None:
    """How many images an exported program takes, where its graph says so; if any number, then no single one."""
    if not isinstance(model, torch.fx.GraphModule):
        return None
    for node in model.graph.nodes:
        if node.op == "placeholder":
            shape: tuple[Any, ...] = tuple(getattr(node.meta.get("val"), "shape", ()))
            if not len(shape):
                return None
            return shape[0] if isinstance(shape[0], int) else 2 if count == 1 else None
    return None


def classify(model: Classifier, x: Tensor) -> Logits:
    """Logits of some images, ``(b, k)`` with k at least 2, as `call` finds them; masked classes filled (`fill_masked`).

    Args:
        model: the model.
        x: images, ``(b, c, h, w)``.

    Raises:
        TypeError: the model returns no tensor, or one of integers.
        ValueError: not one row of at least two logits for each image.

    Example:
        >>> model = lambda x: (x.sub_(0.5).flatten(1), "features")
        >>> x = torch.ones(2, 1, 1, 3)
        >>> classify(model, x).tolist(), x.min().item()
        ([[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]], 1.0)
    """
    return fill_masked(as_logits(call(model, x), len(x)))


def fill_masked(logits: Logits) -> Logits:
    """Logits in which a class at minus infinity, which the model masks, is 50 below the least of the others.

    Its probability is then below 1e-21, and every objective and gradient is finite.

    Args:
        logits: ``(b, k)``; a row without any finite logit stays as it is.

    Example:
        >>> fill_masked(torch.tensor([[2.0, -torch.inf, 1.0]])).tolist()
        [[2.0, -49.0, 1.0]]
    """
    masked = logits.detach() == -torch.inf
    least = logits.detach().masked_fill(masked, torch.inf).amin(1, keepdim=True) - 50
    return torch.where(masked & least.isfinite(), least, logits)


def as_logits(logits: Tensor, count: int) -> Logits:
    """Check that a tensor holds logits of so many images; arguments and errors as in `classify`."""
    if logits.dim() == 1 and count == 1 and len(logits) > 1:
        logits = logits[None]  # a network that squeezes its output
    _check_logits(logits, count)
    return logits


def select_output(output: Any) -> tuple[Tensor, str]:
    """The tensor that stands for logits in what a model returned, and in which part of it.

    Returns:
        The tensor, and words such as ``"its attribute .logits"`` (empty for a plain tensor).

    Raises:
        TypeError: none of the forms of `OUTPUT_RULE`.

    Example:
        >>> select_output({"logits": torch.zeros(1, 2), "loss": None})[1]
        "its entry 'logits'"
    """
    if isinstance(output, Tensor):
        return output, ""
    if isinstance(getattr(output, "logits", None), Tensor):
        return output.logits, "its attribute .logits"
    if isinstance(output, Mapping):
        if isinstance(output.get("logits"), Tensor):
            return output["logits"], "its entry 'logits'"
        return reject("model", f"logits: {OUTPUT_RULE}", _kind_of(output), error=TypeError)
    if isinstance(output, Sequence) and not isinstance(output, str | bytes) and len(output):
        tensor, where = select_output(output[0])
        return tensor, f"{where or 'it'} in its first element".replace("it in its", "its")
    hint = "; wrap a function of NumPy arrays in assay.QueryModel" if hasattr(output, "__array__") else ""
    return reject("model", f"logits: {OUTPUT_RULE}{hint}", _kind_of(output), error=TypeError)


def gradients(
    forward: Callable[[Images], tuple[Sequence[Value], T]], x: Images, *, graph: bool = False
) -> tuple[list[Images], T]:
    """Gradients of scalars by the images, and what came beside them.

    Instead of a scalar there may be a tensor and the gradient of the scalar by it. A scalar that does not depend on the
    images has a gradient of zeros. Models with reentrant activation checkpoints, which refuse ``torch.autograd.grad``,
    are run again with ``backward``.

    Args:
        forward: from a leaf that requires gradients to scalars (or pairs) and anything else.
        x: images, ``(b, c, h, w)``; not changed.
        graph: whether gradients can be differentiated again.

    Returns:
        One gradient of the shape of ``x`` for each scalar, and the rest of what ``forward`` returned.

    Example:
        >>> grads, _ = gradients(lambda leaf: ([(leaf * 2).sum(), torch.ones(())], None), torch.zeros(1, 1, 1, 2))
        >>> [g.flatten().tolist() for g in grads]
        [[2.0, 2.0], [0.0, 0.0]]
    """
    try:
        return _gradients(forward, x, _by_grad, graph=graph)
    except RuntimeError as error:
        if _REENTRANT not in str(error):
            raise
    return _gradients(forward, x, _by_backward, graph=graph)


def _gradients(
    forward: Callable[[Images], tuple[Sequence[Value], T]],
    x: Images,
    differentiate: Callable[[Tensor, Tensor | None, Images, bool, bool], Images | None],
    *,
    graph: bool,
) -> tuple[list[Images], T]:
    leaf = x.detach().clone() if x.is_inference() else x.detach()
    leaf = leaf.requires_grad_()
    with torch.enable_grad():
        values, rest = forward(leaf)
        last = len(values) - 1
        pairs = [(value, None) if isinstance(value, Tensor) else value for value in values]
        grads = [
            differentiate(value, by, leaf, i < last or graph, graph) if value.requires_grad else None
            for i, (value, by) in enumerate(pairs)
        ]
    return [torch.zeros_like(x) if grad is None else grad for grad in grads], rest


def _by_grad(value: Tensor, by: Tensor | None, leaf: Images, retain: bool, graph: bool) -> Images | None:
    return torch.autograd.grad(value, leaf, by, retain_graph=retain, create_graph=graph, allow_unused=True)[0]


def _by_backward(value: Tensor, by: Tensor | None, leaf: Images, retain: bool, graph: bool) -> Images | None:
    value.backward(by, retain_graph=retain, create_graph=graph)
    grad, leaf.grad = leaf.grad, None
    return grad


def _check_logits(logits: Tensor, count: int) -> None:
    expected = f"logits of shape ({count}, k) with k at least 2, one row an image"
    if not logits.is_floating_point():
        reject(
            "model",
            f'{expected} (for labels: assay.QueryModel with gives="labels")',
            described(f"values of type {logits.dtype}"),
            error=TypeError,
        )
    one = logits.numel() == count and logits.dim() <= 2
    if logits.dim() != 2 or len(logits) != count or logits.shape[1] < 2:
        hint = " (wrap a network with one logit in assay.models.BinaryLogit)" if one else ""
        reject("model", expected + hint, described(f"shape {tuple(logits.shape)}"))


def _kind_of(output: Any) -> str:
    kind = type(output)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    inner = f" with the keys {sorted(map(str, output))[:8]}" if isinstance(output, Mapping) else ""
    if isinstance(output, tuple | list):
        inner = f" of {len(output)}"
    return described(f"{name}{inner}")
