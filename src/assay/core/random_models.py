"""What a model draws itself, beside other threads that draw: each of its calls draws after a seed of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from assay.core.call_context import ONE_DRAWS, random_states
from assay.core.model_state import seeded

_STRIDE = 0x9E3779B97F4A7C15


class SeededCalls:
    """The calls of one model in one attack; whether it draws at all is seen at the first of them.

    Args:
        seed: of all its draws; None to leave them to the caller.
        devices: accelerators whose random state counts.
    """

    def __init__(self, seed: int | None, devices: set[torch.device]) -> None:
        self.seed, self.devices = seed or 0, devices
        self.calls = 0
        self.random: bool | None = None if seed is not None else False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One call of the model."""
        if self.random is False:
            yield
            return
        self.calls += 1
        with ONE_DRAWS, seeded((self.seed + self.calls * _STRIDE) % 2**63, self.devices):
            before = random_states(self.devices) if self.random is None else None
            yield
            if before is not None:
                after = random_states(self.devices)
                self.random = before.pop("python") != after.pop("python") or not _same(before, after)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, tuple):
        return all(_same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
