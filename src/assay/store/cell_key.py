"""The identity of a cell: all fields that its result depends on, and the key made from them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from assay.core.combinators import AnyAttack
from assay.core.fingerprint import fingerprint
from assay.defences.adaptation import Adaptation
from assay.models.load import digest
from assay.store.columns import Cell

FORMAT = 2

FIELD_LABELS = {
    "model": "the model's structure or weights",
    "data": "images, labels, classes or masks",
    "attack": "the attack or its parameters",
    "parts": "a network that the attack holds",
    "attack_code": "the code of an attack that is not assay's",
    "adaptation": "how the defence is attacked",
    "stop": "when a sample ends",
    "search": "the precision of the search",
    "seed": "the seed",
    "max_forwards": "the most forward passes a sample",
    "start": "where attacks by labels alone start",
    "code": "assay's own code",
    "torch": "the version of torch",
    "device": "the kind of device",
}
"""The fields of an identity, in words. Slots, workers and shard size are not part of it."""
_VERSIONS = frozenset({"code", "torch"})
"""The fields in which a result may differ and be kept all the same, where that was asked for."""
_RENAMED = MappingProxyType({"budget": "max_forwards"})
"""Fields that had another name in 0.1."""


def fields_of(
    model: str,
    data: str,
    code: str,
    attack: AnyAttack,
    *,
    adaptation: Adaptation | None,
    stop: str,
    search: str,
    seed: int,
    max_forwards: int | None,
    device: str,
    start: str = "",
) -> dict[str, str]:
    """The fields of a cell's identity.

    Args:
        model: digest of the model.
        data: digest of the data.
        code: digest of the code that decides a verdict.
        attack: the attack, adapted to the model's defence.
        adaptation: how a defence is attacked; None without one, or where the attack does not adapt.
        stop: ``"hit"`` or ``"never"``.
        search: precision of the search.
        seed: of the draws.
        max_forwards: most forward passes a sample.
        device: where the model runs; its number does not count.
        start: what attacks by labels alone start from; empty for random images.

    Returns:
        Text by name, of `FIELD_LABELS`.
    """
    made_of = fingerprint(attack)
    fields = {
        "model": model,
        "data": data,
        "attack": made_of.text,
        "parts": " ".join(digest(network) for network in made_of.networks),
        "attack_code": fingerprint((attack, adaptation)).code,
        "adaptation": "" if adaptation is None else adaptation.how,
        "stop": stop,
        "search": search,
        "seed": str(seed),
        "max_forwards": "" if max_forwards is None else str(max_forwards),
        "start": start,
        "code": code,
        "torch": torch.__version__,
        "device": torch.device(device).type,
    }
    return {name: fields[name] for name in FIELD_LABELS}


def key_of(fields: Mapping[str, Any]) -> str:
    """A name for what these fields decide: the first 24 digits of the SHA-256 of their canonical JSON.

    Example:
        >>> key_of({"model": "a", "seed": "0"}) == key_of({"seed": "0", "model": "a"}) != key_of({"model": "a"})
        True
    """
    text = json.dumps({"format": FORMAT, **fields}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def made_by_other_versions(fields: Mapping[str, str], entries: Iterable[Cell]) -> Cell | None:
    """The latest earlier result that nothing but assay's code or the version of torch tells from what is wanted.

    Args:
        fields: of the identity that is wanted.
        entries: the stored cells.
    """
    near = [entry for entry in entries if set(differences(fields, entry.fields)) <= _VERSIONS]
    return near[-1] if near else None


def differences(mine: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the fields that differ.

    Example:
        >>> differences({"model": "a", "seed": "0"}, {"model": "a", "seed": "1"})
        ('seed',)
    """
    mine, theirs = ({_RENAMED.get(name, name): text for name, text in fields.items()} for fields in (mine, theirs))
    return tuple(name for name in dict.fromkeys((*mine, *theirs)) if mine.get(name, "") != theirs.get(name, ""))
