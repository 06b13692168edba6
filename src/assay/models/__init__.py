"""Architectures the papers use, normalisation, and loading by spec."""

from assay.models.adapters import BinaryLogit, FixedBatch, MultiLabel
from assay.models.ensemble import Ensemble
from assay.models.load import digest, is_factory, load, save, start_weights, weights_digest
from assay.models.noisy import with_noise_layers
from assay.models.normalize import Normalize
from assay.models.query import QueryModel, from_onnx
from assay.models.registry import ARCHITECTURES, build

__all__ = [
    "ARCHITECTURES",
    "BinaryLogit",
    "Ensemble",
    "FixedBatch",
    "MultiLabel",
    "Normalize",
    "QueryModel",
    "build",
    "digest",
    "from_onnx",
    "is_factory",
    "load",
    "save",
    "start_weights",
    "weights_digest",
    "with_noise_layers",
]
