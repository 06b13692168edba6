"""A device that is not the CPU, for machines without one: the arithmetic of the CPU and the rules of a GPU.

After `install` there is ``torch.device("sim")``. Tensors on it cannot be mixed with tensors on the CPU, nor be turned
into arrays; `counting` says how many operators were launched, and where the host would have had to wait for the device.
It uses an experimental interface of torch and changes functions of the module, so it belongs in a process of its own.
"""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

SIM = torch.device("cpu")  # replaced by `install`
_WAITING = {
    "_local_scalar_dense",
    "_unique2",
    "allclose",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "repeat_interleave",
    "unique_consecutive",
    "unique_dim",
}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_counts: list["Counts"] = []


class Counts:
    """What happened on the device.

    Attributes:
        launches: operators by name.
        waits: reasons for which the host waited, each with the line of assay that asked.
    """

    def __init__(self) -> None:
        self.launches: Counter[str] = Counter()
        self.waits: Counter[tuple[str, str]] = Counter()


@contextmanager
def counting() -> Iterator[Counts]:
    """Count while the block runs."""
    counts = Counts()
    _counts.append(counts)
    try:
        yield counts
    finally:
        _counts.remove(counts)


class SimulatedTensor(torch.Tensor):
    """A tensor on the device, around the tensor on the CPU that holds its values."""

    @staticmethod
    def __new__(cls, inner, requires_grad=False):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=SIM,
            requires_grad=requires_grad,
        )

    def __init__(self, inner, requires_grad=False):
        self.inner = inner

    def __repr__(self):
        return f"simulated({self.inner!r})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self):
        _wait("tolist")
        return self.inner.detach().tolist()

    def numpy(self, *args, **kwargs):
        raise TypeError("can't convert sim:0 device type tensor to numpy; use Tensor.cpu() first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _dispatch(func, args, kwargs or {})


def install() -> torch.device:
    """Make the device known to torch, once a process."""
    global SIM, _library
    if SIM.type == "sim":
        return SIM
    _setup_privateuseone_for_python_backend("sim")
    SIM = torch.device("sim:0")
    torch.sim.get_rng_state = lambda device=None: torch.get_rng_state()
    torch.sim.set_rng_state = lambda state, device=None: None  # draws come from the CPU's generator
    _library = torch.library.Library("_", "IMPL")
    _library.fallback(lambda op, *args, **kwargs: _dispatch(op, args, kwargs), "PrivateUse1")
    for name in ("tensor", "as_tensor", "asarray"):
        setattr(torch, name, _on_the_cpu_first(getattr(torch, name), from_data=True))
    for name in ("arange", "linspace", "logspace", "eye", "randperm", "range", "tril_indices", "triu_indices"):
        setattr(torch, name, _on_the_cpu_first(getattr(torch, name), from_data=False))
    return SIM


def _on_the_cpu_first(make, *, from_data):
    """Factories that write into the tensor inside the library, where no fallback reaches: made, then moved."""

    @wraps(make)
    def moved(*args, device=None, **kwargs):
        if device is None or torch.device(device).type != "sim":
            return make(*args, **({} if device is None else {"device": device}), **kwargs)
        if from_data and isinstance(args[0], torch.Tensor):
            return args[0].to(device, kwargs.get("dtype") or args[0].dtype)
        return make(*args, **kwargs).to(device)

    return moved


def _dispatch(func, args, kwargs) -> Any:
    name = func._schema.name.split("::")[1]
    for counts in _counts:
        counts.launches[name] += 1
    if name in ("_to_copy", "to"):
        return _copied(func, args, kwargs)
    if name in ("copy_", "_copy_from", "_copy_from_and_resize"):
        target, source = (args[0], args[1]) if name == "copy_" else (args[1], args[0])
        if isinstance(source, SimulatedTensor) and not isinstance(target, SimulatedTensor):
            _wait("copied to the CPU")
        _inner(target).copy_(_inner(source))
        return target
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    _check_devices(name, func, args, tensors)
    if name in _WAITING and not (name == "repeat_interleave" and kwargs.get("output_size") is not None):
        _wait(name)
    wanted = kwargs.get("device")
    on_device = any(isinstance(t, SimulatedTensor) for t in tensors) or (
        not tensors and (wanted is None or torch.device(wanted).type == "sim")
    )
    plain = {k: _inner_tree(v) for k, v in kwargs.items() if k != "pin_memory"}
    if wanted is not None and torch.device(wanted).type == "sim":
        on_device, plain["device"] = True, torch.device("cpu")
    if plain.get("generator") is not None and plain["generator"].device.type != "cpu":
        plain["generator"] = None
    out = func(*_inner_tree(args), **plain)
    if not on_device:
        return out
    if func._schema.is_mutable and name.endswith("_") and isinstance(args[0], SimulatedTensor):
        return args[0]
    outs = [kwargs[a.name] for a in func._schema.arguments if a.is_out and a.name in kwargs]
    if outs:
        return outs[0] if len(outs) == 1 else tuple(outs)
    return tree_map(_wrapped, out)


def _copied(func, args, kwargs):
    source, wanted = args[0], kwargs.get("device")
    target = source.device if wanted is None else torch.device(wanted)
    rest = {k: v for k, v in kwargs.items() if k not in ("device", "pin_memory")}
    out = func(_inner(source), **rest)
    if target.type != "cpu":
        return _wrapped(out)
    if isinstance(source, SimulatedTensor):
        _wait("copied to the CPU")
    return out


def _check_devices(name, func, args, tensors) -> None:
    """As CUDA does: tensors of one device, numbers aside; indices may be on the CPU, and cost a wait."""
    here = any(isinstance(t, SimulatedTensor) for t in tensors)
    elsewhere = any(not isinstance(t, SimulatedTensor) and t.dim() for t in tensors)
    if here and elsewhere and name != "set_":
        if name not in _INDEXING or not isinstance(args[0], SimulatedTensor):
            raise RuntimeError(f"Expected all tensors to be on the same device, but found sim:0 and cpu ({func})")
        _wait(f"{name} with indices on the CPU")
    indexed = name in _INDEXING and isinstance(args[0], SimulatedTensor)
    if indexed and any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1]):
        _wait(f"{name} by a mask")


def _wait(reason: str) -> None:
    if _counts:
        frames = [f for f in traceback.extract_stack() if "/assay/" in f.filename and "/torch/" not in f.filename]
        place = f"{frames[-1].filename.split('/assay/')[-1]}:{frames[-1].lineno}" if frames else "elsewhere"
        for counts in _counts:
            counts.waits[reason, place] += 1


def _inner(value):
    return value.inner if isinstance(value, SimulatedTensor) else value


def _inner_tree(tree):
    return tree_map(_inner, tree)


def _wrapped(value):
    is_plain = isinstance(value, torch.Tensor) and not isinstance(value, SimulatedTensor)
    return SimulatedTensor(value) if is_plain else value
