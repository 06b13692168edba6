"""``assay ls``: what there is."""

import inspect

from assay.attacks.registry import ATTACKS, SUITES
from assay.cli.output import emit, say, table
from assay.core.arguments import one_of
from assay.corruptions import CORRUPTIONS
from assay.data import SOURCES
from assay.defences import DEFENCES
from assay.diagnostics.registry import DIAGNOSTICS
from assay.models import ARCHITECTURES
from assay.training import OBJECTIVES

KINDS = ("attacks", "suites", "data", "models", "training", "defences", "corruptions", "diagnostics")


def ls(kind: str = "all", *, json: bool = False, markdown: bool = False) -> int:
    """List attacks, suites, data sources, architectures, training objectives, defences, corruptions and diagnostics.

    Parameters
    ----------
    kind
        attacks, suites, data, models, training, defences, corruptions, diagnostics or all.
    json
        As JSON.
    markdown
        As Markdown tables.
    """
    one_of("kind", kind, (*KINDS, "all"))
    everything = catalogue()
    chosen = {name: rows for name, rows in everything.items() if kind in (name, "all")}
    if json:
        emit(chosen)
        return 0
    for name, rows in chosen.items():
        if markdown:
            say(f"## {name}\n\n| name | what | arguments |\n| --- | --- | --- |")
            for row in rows:
                say(f"| `{row['name']}` | {row['what']} | {row['arguments']} |")
            say("")
            continue
        say(name)
        table([[row["name"], row["what"]] for row in rows], ("", ""))
    return 0


def catalogue() -> dict[str, list[dict[str, str]]]:
    """Everything by kind: name, what it is, its arguments."""
    return {
        "attacks": [_row(name, entry.help, entry.make) for name, entry in ATTACKS.items()],
        "suites": [{"name": name, "what": ", ".join(parts), "arguments": ""} for name, parts in SUITES.items()],
        "data": [
            {"name": name, "what": source.help, "arguments": f"for example {source.example}"}
            for name, source in SOURCES.items()
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
        "defences": [_row(name, entry.help, entry.make) for name, entry in DEFENCES.items()],
    }


def _row(name: str, what: str, make: object) -> dict[str, str]:
    hidden = ("salience", "model")
    known = inspect.signature(make).parameters  # type: ignore[arg-type]
    return {"name": name, "what": what, "arguments": ", ".join(k for k in known if k not in hidden)}


def _first_line(make: object) -> str:
    return (inspect.getdoc(make) or "").partition("\n")[0]
