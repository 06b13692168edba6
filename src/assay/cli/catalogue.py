"""The catalogue: everything that has a name, for ``assay ls`` and the reference in the documentation.

``python -m assay.cli.catalogue`` writes it to ``catalogue.json``, so that listing it does not import PyTorch.
"""

import inspect
import json
from pathlib import Path

from assay.attacks.registry import ATTACKS, SUITES
from assay.certify.registry import CERTIFIERS
from assay.corruptions.registry import CORRUPTIONS
from assay.data.recipes.registry import RECIPES
from assay.data.registry import SOURCES
from assay.defences.registry import DEFENCES
from assay.diagnostics.registry import DIAGNOSTICS
from assay.models.registry import ARCHITECTURES
from assay.training.objectives.registry import OBJECTIVES

FILE = Path(__file__).with_name("catalogue.json")


def catalogue() -> dict[str, list[dict[str, str]]]:
    """Everything by kind: name, what it is, its arguments."""
    return {
        "attacks": [_row(name, entry.help, entry.make) for name, entry in ATTACKS.items()],
        "suites": [{"name": name, "what": ", ".join(parts), "arguments": ""} for name, parts in SUITES.items()],
        "data": [
            {"name": name, "what": source.help, "arguments": f"for example {source.example}"}
            for name, source in SOURCES.items()
        ],
        "recipes": [
            {"name": name, "what": recipe.help, "arguments": ", ".join(archive.name for archive in recipe.archives)}
            for name, recipe in RECIPES.items()
        ],
        "models": [_row(name, _first_line(make), make) for name, make in ARCHITECTURES.items()],
        "training": [_row(name, entry.help, entry.make) for name, entry in OBJECTIVES.items()],
        "diagnostics": [
            {
                "name": name,
                "what": entry.question,
                "arguments": "a training trail" if entry.trail else "models or a trail",
            }
            for name, entry in DIAGNOSTICS.items()
        ],
        "corruptions": [
            {"name": name, "what": _first_line(entry.change) + (" (extra)" if entry.extra else ""), "arguments": ""}
            for name, entry in CORRUPTIONS.items()
        ],
        "certifiers": [_row(name, _first_line(make), make) for name, make in CERTIFIERS.items()],
        "defences": [_row(name, entry.help, entry.make) for name, entry in DEFENCES.items()],
    }


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
