"""Save and restore the state of models and random generators."""

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.core.call_context import ONE_DRAWS, neutral, random_states, restore_random_states
from assay.core.model_calls import Classifier
from assay.core.model_lock import model_lock
from assay.core.model_parts import Generator, held_in, modules_in

_TABLES = ("_parameters", "_buffers")
_HOOKS = (
    "_forward_pre_hooks",
    "_forward_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_modules",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
)
"""Tables of a module, beside those of tensors, that a forward pass may change."""


@contextmanager
def preserve_state(*models: Classifier) -> Iterator[None]:
    """Put models into evaluation mode with frozen parameters, in a context of our own, and everything back afterwards.

    Restored, also after an exception: the training flag of every submodule, ``requires_grad`` of every parameter,
    parameters and buffers with their contents (also where the model replaces them), hooks, and the random state of
    PyTorch (each device the models are on), NumPy and Python, also of generators that the models hold. ``.grad`` is
    never written to. The context is that of `call_context.neutral`: the caller's inference mode, autocast, default type
    and
    default device do not reach the model. Threads of assay that use the same modules take turns.

    Args:
        models: modules, or callables; the modules that a callable holds are looked after, too
            (`model_parts.modules_in`).
    """
    roots, locked, generators = _locked(models)
    with model_lock(locked) as first, neutral({t.device for root in roots for t in _tensors(root)}):
        states = [_State.of(root, contents=first) for root in roots]
        drawn = [(own, _state_of(own)) for own in generators]
        try:
            for root in roots:
                _freeze(root)
            yield
        finally:
            for state in reversed(states):
                state.restore()
            for own, before in drawn:
                _set_state(own, before)


@contextmanager
def lock_model(*models: Classifier) -> Iterator[None]:
    """Look at models as they are, while no other thread of assay has put them into evaluation mode or changed them."""
    with model_lock(_locked(models)[1], reads=True):
        yield


def _locked(models: tuple[Classifier, ...]) -> tuple[tuple[nn.Module, ...], list[object], list[Generator]]:
    """The modules that models hold, all that has a lock (threads that share a part take turns), and the generators."""
    held = [held_in(model) for model in models]
    roots = tuple(dict.fromkeys(root for each in held for root in each.modules))
    # The parts of a scripted module are wrapped anew at each look: the whole stands for them.
    parts = [part for root in roots for part in root.modules() if not isinstance(part, torch.jit.ScriptModule)]
    generators = [own for each in held for own in each.generators]
    return roots, [*models, *roots, *parts, *generators], generators


@contextmanager
def seeded(seed: int, devices: set[torch.device]) -> Iterator[None]:
    """Let PyTorch, NumPy and Python draw what they draw after a seed; afterwards go on as if nothing had been drawn.

    Args:
        seed: of all three.
        devices: accelerators whose random state counts.
    """
    with ONE_DRAWS:
        state = random_states(devices)
        torch.default_generator.manual_seed(seed)
        for device in devices:
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
    try:
        yield
    finally:
        restore_random_states(state)


def model_dtype(model: Classifier) -> torch.dtype:
    """The floating type of a model's parameters; float32 if it has none, or holds modules of several types."""
    kinds = {_dtype(root) for root in modules_in(model)} - {None}
    return kinds.pop() or torch.float32 if len(kinds) == 1 else torch.float32


def model_device(model: Classifier, default: torch.device) -> torch.device:
    """The device of a model's first parameter or buffer; ``default`` if it has none."""
    own = next(_tensors(model), None) if isinstance(model, nn.Module) else None
    if own is not None:  # a module comes first itself: no walk
        return own.device
    return next((tensor.device for root in modules_in(model) for tensor in _tensors(root)), default)


@dataclass(frozen=True)
class _State:
    """One module as it was."""

    root: nn.Module
    modes: list[tuple[nn.Module, bool]]
    frozen: list[tuple[Tensor, bool]]
    tables: list[tuple[dict[str, Any], dict[str, Any]]]
    contents: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, root: nn.Module, *, contents: bool) -> "_State":
        """Take note of a module.

        Args:
            root: the module.
            contents: whether parameters are copied, too (buffers always are).
        """
        own = [part for part in root.modules() if not isinstance(part, torch.jit.ScriptModule)]
        tables = [getattr(part, name) for part in own for name in (*_TABLES, *_HOOKS) if hasattr(part, name)]
        kept = [*root.buffers(), *(root.parameters() if contents else ())]
        return cls(
            root,
            [(part, part.training) for part in root.modules() if hasattr(part, "training")],
            [(parameter, parameter.requires_grad) for parameter in root.parameters()],
            [(table, dict(table)) for table in tables],
            [(tensor, tensor.detach().clone()) for tensor in kept],
        )

    def restore(self) -> None:
        """Put the module back."""
        if [part.training for part, _ in self.modes] != [mode for _, mode in self.modes]:
            with suppress(NotImplementedError):  # an exported program has no modes
                self.root.train(self.modes[0][1] if self.modes else False)
        for part, mode in self.modes:
            part.training = mode
        for table, before in self.tables:
            if len(table) != len(before) or any(table.get(name) is not before[name] for name in before):
                table.clear()
                table.update(before)
        for parameter, flag in self.frozen:
            if parameter.requires_grad != flag:
                parameter.requires_grad_(flag)
        for tensor, copy in _changed(self.contents):
            with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                if (tensor.shape, tensor.dtype) == (copy.shape, copy.dtype):
                    tensor.copy_(copy)
                else:  # resized, or of another type since
                    tensor.data = copy


def _freeze(root: nn.Module) -> None:
    """Evaluation mode, no gradients by the weights, weights that autograd may save."""
    if any(getattr(part, "training", False) for part in root.modules()):
        with suppress(NotImplementedError):
            root.eval()
        for part in root.modules():
            if getattr(part, "training", False):
                part.training = False
    for part in root.modules():
        for name in _TABLES if not isinstance(part, torch.jit.ScriptModule) else ():
            table = getattr(part, name)
            for key, tensor in table.items():
                if tensor is not None and tensor.is_inference():  # made in inference mode
                    copy = tensor.clone()
                    table[key] = nn.Parameter(copy, requires_grad=False) if name == "_parameters" else copy
    for parameter in root.parameters():
        if parameter.requires_grad:
            parameter.requires_grad_(False)


def _state_of(generator: Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state() if isinstance(generator, np.random.RandomState) else generator.getstate()


def _set_state(generator: Generator, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.setstate(state)


def _changed(pairs: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Those pairs that differ; one wait for an accelerator, not one a tensor."""
    here = [pair for pair in pairs if pair[0].device.type == "cpu"]
    there = [pair for pair in pairs if pair[0].device.type != "cpu" and pair[0].numel()]
    differ = [pair for pair in here if not _equal(*pair)]
    differ += [pair for pair in there if not _alike(*pair)]
    there = [pair for pair in there if _alike(*pair)]
    if there:
        flags = torch.stack([_differ(*pair).to(there[0][0].device) for pair in there]).tolist()
        differ += [pair for pair, flag in zip(there, flags, strict=True) if flag]
    return differ


def _alike(one: Tensor, other: Tensor) -> bool:
    return (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether tensors are the same, NaN for NaN."""
    return _alike(one, other) and (torch.equal(one, other) or (one.numel() > 0 and not bool(_differ(one, other))))


def _differ(one: Tensor, other: Tensor) -> Tensor:
    """Whether some value is another, where NaN is no other than NaN."""
    return ((one != other) & ~((one != one) & (other != other))).any()


def _tensors(root: nn.Module) -> Iterator[Tensor]:
    yield from root.parameters()
    yield from root.buffers()


def _dtype(root: nn.Module) -> torch.dtype | None:
    return next((p.dtype for p in root.parameters() if p.is_floating_point()), None)
