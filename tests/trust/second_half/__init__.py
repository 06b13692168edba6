"""Fifty more planted failures, five of each kind, planted by somebody who had read none of the checks."""

from trust.failures.base import Failure
from trust.second_half import (
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
