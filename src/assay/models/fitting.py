"""Weights of other programs under the names that a network of ours has."""

from collections.abc import Collection, Mapping
from typing import NoReturn

import torch
from torch import Tensor, nn

from assay.util.validate import described, reject

_WRAPPERS = ("module.", "_orig_mod.", "model.", "network.", "net.", "backbone.", "classifier.", "0.", "1.")
"""Prefixes by which data-parallel, compiled, Lightning and other modules name what they wrap."""


def align_names(weights: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """Weights with the prefixes of their names taken off, or put on, so that as many as possible fit.

    Args:
        weights: by the names that they have in a file.
        names: those that a network has.

    Returns:
        The same tensors; names that fit already stay.

    Example:
        >>> import torch
        >>> sorted(align_names({"module.fc.bias": torch.ones(1)}, ["1.fc.bias", "1.fc.weight"]))
        ['1.fc.bias']
    """
    own = set(names)
    heads = sorted({name.partition(".")[0] + "." for name in own if name.partition(".")[0].isdigit()})
    best, most = dict(weights), len(own & set(weights))
    for stripped in _strip_prefixes(weights):
        for head in ("", *heads):
            candidate = {head + name: tensor for name, tensor in stripped.items()}
            fits = len(own & set(candidate))
            if fits > most:
                best, most = candidate, fits
    return best


def fill_weights(
    model: nn.Module, weights: Mapping[str, Tensor], name: str, arch: str, optional: Collection[str] = ()
) -> None:
    """Put weights into a network, whatever prefix they have.

    Args:
        model: the network; changed.
        weights: by name.
        name: of the file, for the message.
        arch: of the network, for the message.
        optional: names that may be missing (a normalisation layer that is named otherwise).

    Raises:
        ValueError: weights are missing, left over, or of another shape; the message names the first of each.
    """
    own = model.state_dict()
    aligned = align_names(weights, own)
    check_kinds(aligned, own, name)
    missing = [key for key in own if key not in aligned and key not in optional and not key.endswith("batches_tracked")]
    unexpected = [key for key in aligned if key not in own]
    shaped = [key for key in own if key in aligned and own[key].shape != aligned[key].shape]
    if missing or unexpected or shaped:
        _refuse(name, arch, missing, unexpected, [(key, aligned[key], own[key]) for key in shaped])
    model.load_state_dict(dict(aligned), strict=False)


def check_kinds(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], name: str) -> None:
    """Refuse weights that are no plain numbers of the kind that a network has.

    Args:
        weights: by the names of the network.
        own: the network's.
        name: of the file, for the message.

    Raises:
        ValueError: quantised, sparse or complex weights, whole numbers for fractions, NaN; the first is named.
    """
    for key, tensor in weights.items():
        wanted = own.get(key)
        kind = _kind(tensor)
        if not kind and wanted is not None and wanted.is_floating_point() != tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
        if kind:
            reject("model", f"dense floating-point weights without NaN in {name}", described(f"{key}: {kind}"))


def _kind(tensor: Tensor) -> str:
    """What is odd about a tensor of weights, or nothing."""
    if tensor.is_meta:
        return "a tensor without data (saved from the meta device)"
    if tensor.is_quantized:
        return "a quantised tensor"
    if tensor.layout != torch.strided:
        return "a sparse tensor"
    if tensor.is_complex():
        return "complex numbers"
    if tensor.is_floating_point() and bool(tensor.isnan().any()):
        return f"{int(tensor.isnan().sum())} of {tensor.numel()} NaN"
    return ""


def _strip_prefixes(weights: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The weights with one prefix more taken off each time, from those names that have it."""
    versions, current = [dict(weights)], dict(weights)
    for _ in range(6):
        counts = {p: sum(name.startswith(p) for name in current) for p in _WRAPPERS}
        prefix = max(counts, key=lambda p: counts[p])
        if 2 * counts[prefix] <= len(current):
            break
        current = {name.removeprefix(prefix): tensor for name, tensor in current.items() if name.startswith(prefix)} | {
            name: tensor for name, tensor in current.items() if not name.startswith(prefix)
        }
        if len(current) < len(weights):  # two names have become one
            break
        versions.append(current)
    return versions


def _refuse(
    name: str, arch: str, missing: list[str], unexpected: list[str], shaped: list[tuple[str, Tensor, Tensor]]
) -> NoReturn:
    parts = []
    if shaped:
        key, there, wanted = shaped[0]
        parts.append(f"{key} of shape {tuple(there.shape)} instead of {tuple(wanted.shape)}{_more(shaped)}")
    if missing:
        parts.append(f"no {missing[0]}{_more(missing)}")
    if unexpected:
        parts.append(f"an unexpected {unexpected[0]}{_more(unexpected)}")
    name_of, _, sizes = arch.partition(" for ")
    advice = f"{sizes and f'{sizes}; '}else another --arch, or data of other channels, classes or size"
    reject("model", f"weights of {name_of} in {name} ({advice})", described("; ".join(parts)))


def _more(items: Collection[object]) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""
