"""Leave the model, and the process, as they were found."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Classifier = Callable[[Tensor], Tensor]
"""Anything that maps images ``(b, c, h, w)`` in [0, 1] to logits ``(b, k)``; usually an ``nn.Module``."""


@contextmanager
def untouched(model: Classifier) -> Iterator[None]:
    """Put a model into evaluation mode with frozen parameters, and everything back afterwards.

    Restored, also after an exception: the training flag of every submodule, ``requires_grad`` of every parameter,
    the contents of every buffer, and the random state of PyTorch (each device the model is on), NumPy and Python.
    TensorFloat-32 is off meanwhile. ``.grad`` is never written to and no hooks are added.

    Args:
        model: a module or any callable (for which only the process is looked after).
    """
    module = model if isinstance(model, nn.Module) else nn.Module()
    modes = [(m, m.training) for m in module.modules()]
    frozen = [(p, p.requires_grad) for p in module.parameters()]
    buffers = [(b, b.detach().clone()) for b in module.buffers()]
    process = _process_state({t.device for t in (*module.parameters(), *module.buffers())})
    tf32 = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    try:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, False
        module.eval()
        for parameter, _ in frozen:
            parameter.requires_grad_(False)
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
        for child, mode in modes:
            child.training = mode
        for parameter, flag in frozen:
            parameter.requires_grad_(flag)
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)
        _restore_process(process)


@contextmanager
def seeded(seed: int, devices: set[torch.device]) -> Iterator[None]:
    """Let PyTorch, NumPy and Python draw what they draw after a seed; afterwards go on as if nothing had been drawn.

    Args:
        seed: of all three.
        devices: accelerators whose random state counts.
    """
    process = _process_state(devices)
    try:
        torch.default_generator.manual_seed(seed)
        for device in devices:
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield
    finally:
        _restore_process(process)


def model_dtype(model: Classifier) -> torch.dtype:
    """The floating type of a model's parameters; float32 if it has none."""
    if isinstance(model, nn.Module):
        for parameter in model.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return torch.float32


def model_device(model: Classifier, default: torch.device) -> torch.device:
    """The device of a model's first parameter or buffer; ``default`` if it has none."""
    if isinstance(model, nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return default


def _process_state(devices: set[torch.device]) -> dict[str, Any]:
    cuda = {d: torch.cuda.get_rng_state(d) for d in devices if d.type == "cuda"}
    return {"torch": torch.get_rng_state(), "cuda": cuda, "numpy": np.random.get_state(), "python": random.getstate()}


def _restore_process(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    for device, value in state["cuda"].items():
        torch.cuda.set_rng_state(value, device)
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
