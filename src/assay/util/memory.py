"""Detect and survive out-of-memory errors."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out (the few known forms only; any other error is a bug to show)."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MESSAGES)


def attempt(work: Callable[[], T], tolerate: Callable[[Exception], bool]) -> tuple[T | None, Exception | None]:
    """Run ``work``; return its result, or the exception if it is one of those to tolerate.

    The exception comes back without its traceback, which would keep the tensors of the failed pass alive.

    Args:
        work: what to run.
        tolerate: whether to return an exception rather than raise it.
    """
    failure: Exception | None = None
    try:
        return work(), None
    except Exception as error:
        if not tolerate(error):
            raise
        failure = error.with_traceback(None)
        failure.__context__ = None
    if not is_out_of_memory(failure):
        return None, failure
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None, failure
