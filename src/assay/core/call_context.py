"""The context that assay makes for itself, so that a result does not depend on the caller's."""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from assay.util.validate import described, reject

P = ParamSpec("P")
T = TypeVar("T")
_AUTOCAST = ("cpu", "cuda", "mps", "xpu", "mtia", "hpu", "privateuseone")
"""Types of devices whose autocast a caller may have switched on."""


@contextmanager
def neutral(devices: set[torch.device]) -> Iterator[None]:
    """PyTorch as it is in a fresh process, and afterwards as the caller had it.

    Meanwhile inference mode, autocast and hooks on saved tensors are off, gradients can be taken, the default type is
    float32 and the default device the CPU, matrices are multiplied in full float32, anomaly detection is off. Random
    states of PyTorch, NumPy and Python are put back at the end. What belongs to the process and not to the thread is
    put back when the last thread leaves.

    Args:
        devices: whose random states count.
    """
    with _PROCESS.entered(devices), ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        for kind in _AUTOCAST:
            if _autocasts(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if _functions_are_intercepted():
            stack.enter_context(torch.device("cpu"))
        if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
            stack.enter_context(torch.autograd.graph.saved_tensors_hooks(_same, _same))  # instead of the caller's
        yield


def in_neutral_context(function: Callable[P, T]) -> Callable[P, T]:
    """A function that runs in the context of `neutral`, whatever its caller's is.

    Tensors among its arguments that were made in inference mode, which autograd cannot save, are copied.
    """

    @wraps(function)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> T:
        with neutral(set()):
            plain = [_plain(value) for value in arguments]
            return function(*plain, **{name: _plain(value) for name, value in named.items()})

    return wrapped


def with_images_on_the_cpu(function: Callable[P, T]) -> Callable[P, T]:
    """A function in a neutral context whose images, labels and masks are on the CPU, wherever its caller's are.

    Tensors among its arguments are moved, those in tuples, lists and mappings too; images come to the number format of
    the first network's parameters. Networks stay as they are, where they are. Integer images named ``x`` are refused.
    """
    names = tuple(signature(function).parameters)

    @in_neutral_context
    @wraps(function)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> T:
        values = (*arguments, *named.values())
        x = {**dict(zip(names, arguments, strict=False)), **named}.get("x")
        if isinstance(x, Tensor) and not x.is_floating_point():
            expected = "a float tensor of shape (n, c, h, w) with values in [0, 1] (divide 8-bit images by 255)"
            reject("x", expected, described(f"dtype {x.dtype}"), error=TypeError)
        dtype = next(filter(None, map(_number_format, values)), torch.float32)
        here = [_on_the_cpu(value, dtype) for value in arguments]
        return function(*here, **{name: _on_the_cpu(value, dtype) for name, value in named.items()})

    return wrapped


def _number_format(value: Any) -> torch.dtype | None:
    """Of a network's floating-point parameters, or of the first one in a mapping."""
    if isinstance(value, Mapping):
        return next(filter(None, map(_number_format, value.values())), None)
    parameters = value.parameters() if isinstance(value, nn.Module) else ()
    return next((own.dtype for own in parameters if own.is_floating_point()), None)


def _on_the_cpu(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return _plain(value).to("cpu", dtype if value.is_floating_point() and value.dim() == 4 else value.dtype)
    if isinstance(value, Mapping):
        return {key: _on_the_cpu(each, dtype) for key, each in value.items()}
    return type(value)(_on_the_cpu(each, dtype) for each in value) if type(value) in (tuple, list) else value


def _same(value: Any) -> Any:
    return value


def _plain(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def default_device_for(x: Tensor) -> AbstractContextManager[Any]:
    """The device of some images as the default device, where the caller had set one; else nothing."""
    return torch.device(x.device) if _functions_are_intercepted() else nullcontext()


def default_dtype_for(x: Tensor) -> AbstractContextManager[Any]:
    """Float64 as the default type for images of that type, where the caller had set it; else nothing."""
    return _default_dtype(x.dtype) if x.dtype == torch.float64 == _PROCESS.dtype else nullcontext()


ONE_DRAWS = threading.RLock()
"""All threads share the random states of PyTorch, NumPy and Python: who holds this draws alone, and waits for nothing
else meanwhile."""


def random_states(devices: set[torch.device]) -> dict[str, Any]:
    """The random states of PyTorch (on the CPU and on accelerators), NumPy and Python."""
    cuda = {d: torch.cuda.get_rng_state(d) for d in devices if d.type == "cuda"}
    return {"torch": torch.get_rng_state(), "cuda": cuda, "numpy": np.random.get_state(), "python": random.getstate()}


def restore_random_states(state: dict[str, Any]) -> None:
    """Put back what `random_states` returned; never while another thread draws."""
    with ONE_DRAWS:
        torch.set_rng_state(state["torch"])
        for device, value in state["cuda"].items():
            torch.cuda.set_rng_state(value, device)
        np.random.set_state(state["numpy"])
        random.setstate(state["python"])


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _autocasts(kind: str) -> bool:
    try:
        return torch.is_autocast_enabled(kind)
    except RuntimeError:  # a type of device that this build does not know
        return False


def _functions_are_intercepted() -> bool:
    """Whether a mode for functions is on, such as a default device."""
    return torch._C._len_torch_function_stack() > 0


class _Process:
    """Settings that all threads share: the first thread in sets them, the last one out puts them back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._depth = threading.local()
        self._before: dict[str, Any] = {}

    @property
    def dtype(self) -> torch.dtype | None:
        """The default type that the caller had set, while assay is at work."""
        dtype: torch.dtype | None = self._before.get("dtype")
        return dtype

    @contextmanager
    def entered(self, devices: set[torch.device]) -> Iterator[None]:
        """Inside; nested in one thread, only random states are put back at the inner end."""
        depth = getattr(self._depth, "value", 0)
        states = random_states(devices) if depth else None
        if not depth:
            with self._lock:
                self._inside += 1
                if self._inside == 1:
                    self._before = {**_settings(), "random": random_states(devices)}
                    _set_plain()
        self._depth.value = depth + 1
        try:
            yield
        finally:
            self._depth.value = depth
            if states is not None:
                restore_random_states(states)
            else:
                with self._lock:
                    self._inside -= 1
                    if not self._inside:
                        before, self._before = self._before, {}
                        _restore_settings(before)


def _settings() -> dict[str, Any]:
    return {
        "dtype": torch.get_default_dtype(),
        "anomaly": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "matmul": _matmul_precision(),
        "cudnn": torch.backends.cudnn.allow_tf32,
    }


def _matmul_precision() -> str | None:
    """How exactly float32 matrices are multiplied; None where old and new settings contradict each other."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def _set_plain() -> None:
    torch.set_default_dtype(torch.float32)
    torch.autograd.set_detect_anomaly(mode=False)
    if _matmul_precision() not in ("highest", None):
        torch.set_float32_matmul_precision("highest")
    if torch.backends.cudnn.allow_tf32:
        torch.backends.cudnn.allow_tf32 = False


def _restore_settings(before: dict[str, Any]) -> None:
    restore_random_states(before["random"])
    torch.set_default_dtype(before["dtype"])
    torch.autograd.set_detect_anomaly(*before["anomaly"])
    with suppress(RuntimeError):  # of settings old and new that contradict each other since
        if before["matmul"] is not None and _matmul_precision() != before["matmul"]:
            torch.set_float32_matmul_precision(before["matmul"])
        if torch.backends.cudnn.allow_tf32 != before["cudnn"]:
            torch.backends.cudnn.allow_tf32 = before["cudnn"]


_PROCESS = _Process()
