"""The catalogue: everything that has a name, for ``assay ls`` and the reference in the documentation.

``python -m assay.cli.catalogue`` writes it to ``catalogue.json``, so that listing it does not import PyTorch.
"""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.attacks.registry import ATTACKS, SUITES
from assay.certify.registry import CERTIFIERS
from assay.corruptions.registry import CORRUPTIONS
from assay.data.recipes.registry import RECIPES
from assay.data.registry import SOURCES
from assay.defences.registry import DEFENCES
from assay.diagnostics.registry import DIAGNOSTICS
from assay.models.registry import ARCHITECTURES
from assay.training.objectives.registry import OBJECTIVES
from assay.util.plugins import origin

FILE = Path(__file__).with_name("catalogue.json")


def catalogue() -> dict[str, list[dict[str, str]]]:
    """Everything of assay by kind: name, what it is, its arguments."""
    return {
        "attacks": _attacks(ATTACKS.entries),
        "suites": [{"name": name, "what": ", ".join(parts), "arguments": ""} for name, parts in SUITES.items()],
        "data": _data(SOURCES.entries),
        "recipes": [
            {"name": name, "what": recipe.help, "arguments": ", ".join(archive.name for archive in recipe.archives)}
            for name, recipe in RECIPES.items()
        ],
        "models": _models(ARCHITECTURES.entries),
        "training": [_row(name, entry.help, entry.make) for name, entry in OBJECTIVES.items()],
        "diagnostics": _diagnostics(DIAGNOSTICS.entries),
        "corruptions": [
            {"name": name, "what": _first_line(entry.change) + (" (extra)" if entry.extra else ""), "arguments": ""}
            for name, entry in CORRUPTIONS.items()
        ],
        "certifiers": [_row(name, _first_line(make), make) for name, make in CERTIFIERS.items()],
        "defences": _defences(DEFENCES.entries),
    }


def added_rows() -> dict[str, list[dict[str, str]]]:
    """What other packages add, by kind; each row names its package."""
    rows = {
        "attacks": _attacks(ATTACKS.added),
        "data": _data(SOURCES.added),
        "models": _models(ARCHITECTURES.added),
        "diagnostics": _diagnostics(DIAGNOSTICS.added),
        "defences": _defences(DEFENCES.added),
    }
    return {
        kind: [row | {"what": f"{row['what']} ({origin(f'assay.{kind}', row['name'])})"} for row in own]
        for kind, own in rows.items()
    }


def _attacks(entries: Mapping[str, Any]) -> list[dict[str, str]]:
    return [_row(name, entry.help, entry.make) for name, entry in entries.items()]


def _data(entries: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {"name": name, "what": source.help, "arguments": f"for example {source.example}"}
        for name, source in entries.items()
    ]


def _models(entries: Mapping[str, Any]) -> list[dict[str, str]]:
    return [_row(name, _first_line(make), make) for name, make in entries.items()]


def _diagnostics(entries: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {"name": name, "what": entry.question, "arguments": "a training trail" if entry.trail else "models or a trail"}
        for name, entry in entries.items()
    ]


def _defences(entries: Mapping[str, Any]) -> list[dict[str, str]]:
    return [_row(name, entry.help, entry.make) for name, entry in entries.items()]


def _row(name: str, what: str, make: object) -> dict[str, str]:
    known = inspect.signature(make).parameters  # type: ignore[arg-type]
    return {"name": name, "what": what, "arguments": ", ".join(k for k in known if k != "model")}


def _first_line(make: object) -> str:
    return (inspect.getdoc(make) or "").partition("\n")[0]


def to_json() -> str:
    """The content of ``catalogue.json``."""
    return json.dumps(catalogue(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(to_json(), encoding="utf-8")
