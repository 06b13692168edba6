"""Pages that are made of the code: attacks at a glance, the command line, study files, the Python reference."""

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from assay.attacks.registry import ATTACKS, make
from assay.cli.main import COMMANDS, app
from assay.core.combinators import unfold
from assay.study.schema import Config

_API: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "attack": (
        "Attack and evaluate",
        (
            *("assay.evaluate", "assay.attack", "assay.perturb", "assay.Outcome", "assay.Status", "assay.export_png"),
            *(
                "assay.trajectory",
                "assay.over_targets",
                "assay.inspect",
                "assay.Expectation",
                "assay.QueryModel",
                "runs",
                "trust",
                "testing",
            ),
        ),
    ),
    "attacks": ("Attacks", ("attacks", "attacks.transfer")),
    "parts": (
        "Parts of attacks",
        (
            *("assay.Restarts", "assay.Targets", "assay.Cascade", "assay.Then", "assay.Ball", "assay.Split"),
            *("assay.Support", "assay.Groups", "assay.CrossEntropy", "assay.DLR", "assay.Margin"),
            *("assay.KullbackLeibler", "assay.Estimated"),
        ),
    ),
    "certify": ("Certificates", ("certify",)),
    "data": ("Data and models", ("data", "models", "masks", "corruptions")),
    "training": ("Training and defences", ("training", "defences")),
    "diagnostics": ("Diagnostics, signatures, reports", ("diagnostics", "signatures", "report")),
}
"""Pages of the reference: titles, and names in full or parts of assay whose public names are meant."""


_NEEDED: Mapping[str, str] = {"patch": "patch:side=8"}
"""Attacks that need an argument."""


def attacks_page() -> str:
    """Every attack: paper, norm, access, cost, and what it is for."""
    rows = []
    for name, entry in ATTACKS.entries.items():
        attack = make(_NEEDED.get(name, name), eps=20 if entry.norm in ("l0", "pixels") else 8 / 255)
        part = unfold(attack)[0].attack
        traits, geometry = part.traits, part.geometry
        norm = entry.norm or ("any of its norms" if geometry is None else geometry.describe().partition(" ")[0])
        passes = "" if traits.steps is None else f"{traits.steps * traits.price:,}"
        rows.append((f"`{name}`", entry.help, norm, traits.access, passes, _source(entry.make)))
    head = ("name", "what it does", "norm", "uses", "passes", "source")
    lines = [
        "# Attacks at a glance",
        "",
        "Names for `--attack`, in the order of `assay ls attacks`. *Uses* is what an ",
    ]
    lines[-1] += (
        "attack needs from the model; the passes are the most forward passes of a sample, at default settings. "
    )
    lines[-1] += "Which one to take: [choose an attack](choose.md)."
    return "\n".join([*lines, "", *_table(head, rows), ""])


def command_line_page() -> str:
    """The commands with their options."""
    note = (
        "# Command line\n\nA command exits with 0 when it has done its work; with 1 when it failed, or samples have no "
        "result; with 2 when an argument or a file cannot be used; with 3 when it has done its work and what was "
        "required does not hold (`--require`, `--fail-on-drop`); with 130 or 143 when it was interrupted, and the same "
        "command resumes.\n\n"
    )
    parts = []
    for command in COMMANDS:
        text: str = app(command.name)[command.name].generate_docs(output_format="markdown")
        parts.append(re.sub(r"^#+ .*$", f"## assay {command.name}", text, count=1, flags=re.M))
    return note + "\n\n".join(parts)


def study_files_page() -> str:
    """The fields of a study, from its schema."""
    schema = Config.model_json_schema()
    parts = {"study": schema, **schema.get("$defs", {})}
    lines = [
        "# Study files",
        "",
        "A study is one YAML file ([how to write one](studies.md)). These are its fields.",
        "",
    ]
    for name, part in parts.items():
        fields = part.get("properties")
        if not fields:
            continue
        lines += [f"## {name}", "", part.get("description", "").partition("\n")[0], ""]
        required = set(part.get("required", ()))
        rows = [
            (f"`{field}`", _type(about), "" if field in required else f"`{about.get('default')}`", _text(about))
            for field, about in fields.items()
        ]
        lines += [*_table(("field", "type", "default", "what"), rows), ""]
    return "\n".join(lines)


def api_page(title: str, names: tuple[str, ...]) -> str:
    """A page of the Python reference."""
    every = [own for name in names for own in ((name,) if name.startswith("assay.") else _public(name))]
    return "\n\n".join([f"# {title}", *(f"::: {name}" for name in every), ""])


def _source(made: object) -> str:
    """Authors and year of the first source that a docstring names."""
    text = " ".join((inspect.getdoc(made) or "").split())
    cited = re.search(r"Source: ([^\"“]+?),? [\"“].*?((?:19|20)\d\d)", text)
    return f"{cited.group(1)} {cited.group(2)}" if cited else ""


def _type(about: Mapping[str, Any]) -> str:
    kinds = [about.get("type") or about.get("$ref", "").rpartition("/")[2]]
    for each in about.get("anyOf", ()):
        kinds.append(each.get("type") or each.get("$ref", "").rpartition("/")[2])
    if "enum" in about:
        return ", ".join(map(str, about["enum"]))
    return " or ".join(dict.fromkeys(kind for kind in kinds if kind))


def _text(about: Mapping[str, Any]) -> str:
    return " ".join(str(about.get("description", "")).split())


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    clean = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *(f"| {' | '.join(row)} |" for row in clean)]


def _public(module: str) -> tuple[str, ...]:
    """Names of a part of assay, in full."""
    part = importlib.import_module(f"assay.{module}")
    names = sorted(part.__all__, key=str.lower)
    return tuple(f"assay.{module}.{name}" for name in names if not inspect.ismodule(getattr(part, name)))


PAGES: Mapping[str, Callable[[], str]] = {
    "attacks.md": attacks_page,
    "command-line.md": command_line_page,
    "study-files.md": study_files_page,
    **{f"api/{name}.md": partial(api_page, title, names) for name, (title, names) in _API.items()},
}
