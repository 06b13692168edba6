"""``assay ls``: list attacks, data, models and more."""

import json as json_
from importlib.resources import files
from typing import Any

from assay.cli.output import print_json, print_line, print_table
from assay.util.plugins import GROUPS, installed
from assay.util.validate import one_of

KINDS = (
    "attacks",
    "suites",
    "data",
    "recipes",
    "models",
    "training",
    "defences",
    "corruptions",
    "diagnostics",
    "certifiers",
)


def ls(kind: str = "all", *, json: bool = False, markdown: bool = False) -> int:
    """List attacks, data sources, models, defences and more by name.

    Parameters
    ----------
    kind
        attacks, suites, data, recipes, models, training, defences, corruptions, diagnostics, certifiers
        or all.
    json
        As JSON.
    markdown
        As Markdown tables.
    """
    one_of("kind", kind, (*KINDS, "all"))
    catalogue = _catalogue()
    chosen = {name: rows for name, rows in catalogue.items() if kind in (name, "all")}
    if json:
        print_json(chosen)
        return 0
    for name, rows in chosen.items():
        if markdown:
            print_line(f"## {name}\n\n| name | what | arguments |\n| --- | --- | --- |")
            for row in rows:
                print_line(f"| `{row['name']}` | {row['what']} | {row['arguments']} |")
            print_line("")
            continue
        print_line(name)
        print_table([[row["name"], row["what"]] for row in rows], ("", ""))
    return 0


def _catalogue() -> dict[str, list[dict[str, str]]]:
    """Everything by kind, as `assay.cli.catalogue` has written it."""
    kinds: dict[str, list[dict[str, Any]]] = json_.loads(
        files("assay.cli").joinpath("catalogue.json").read_text("utf-8")
    )
    if any(installed(f"assay.{kind}") for kind in GROUPS):  # only then is PyTorch imported
        from assay.cli.catalogue import added_rows

        for kind, rows in added_rows().items():
            kinds[kind] += rows
    return kinds
