"""Planted failures that no check was developed against: run once, at the end."""

from trust.failures.base import Failure
from trust.held_out import (
    claims,
    data,
    decoys,
    detectors,
    gradients,
    masks,
    randomness,
    squeezed,
    state,
    weak,
)

_MODULES = (squeezed, gradients, decoys, detectors, randomness, state, weak, claims, data, masks)
FAILURES: tuple[Failure, ...] = tuple(failure for module in _MODULES for failure in module.FAILURES)
