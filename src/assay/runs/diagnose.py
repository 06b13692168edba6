"""Run diagnostics, store each answer, and write the page."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from assay.core.call_context import in_neutral_context
from assay.diagnostics.context import DiagnosticContext
from assay.diagnostics.registry import DIAGNOSTICS
from assay.models.load import digest
from assay.report.diagnosis_page import figure_to_svg, write_diagnosis
from assay.store.study_extras import DiagnosticResult, finite_rows
from assay.util.code_digest import code_digest
from assay.util.environment import facts
from assay.util.files import atomic_write, is_as_written
from assay.util.output_folder import check_claim, claim, foreign_files, locked, out_folder
from assay.util.progress import SILENT, NoteCallback, Reporter

PAGE, COMMAND = "diagnosis.html", "diagnose"


@dataclass(frozen=True)
class DiagnosisResult:
    """The page of a diagnosis and the diagnostics that failed.

    Attributes:
        page: the HTML file.
        failed: diagnostics that raised an unexpected exception; the same call tries them again.
    """

    page: Path
    failed: tuple[str, ...] = ()


@in_neutral_context
def diagnose(
    context: DiagnosticContext,
    names: Sequence[str],
    out: str | Path,
    *,
    title: str,
    command: str = "",
    reporter: Reporter = SILENT,
) -> DiagnosisResult:
    """Run each diagnostic, or reuse its answer from an earlier call with the same inputs.

    Args:
        context: models and data.
        names: of `assay.diagnostics.registry.DIAGNOSTICS`.
        out: the folder: ``<name>.json`` each, and ``diagnosis.html``.
        title: heading of the page.
        command: the command that makes it again.
        reporter: receives each answer.

    Returns:
        The page and the failed diagnostics. A diagnostic that cannot run (no image is broken, an
        optional library is missing) says so on the page, unless it is the only one.

    Raises:
        ImportError, ValueError: the only question cannot be answered.
    """
    folder = out_folder(out)
    files = (PAGE, *(f"{name}.json" for name in names))
    check_claim(folder, COMMAND, files, is_diagnosis)
    with locked(folder):
        claim(folder, COMMAND, files, is_diagnosis, remade=files)
        return _run_diagnostics(context, names, folder, title, command, reporter.note)


def is_diagnosis(folder: Path) -> bool:
    """Whether a folder without a record was written by ``assay diagnose`` of an earlier version."""
    known = {PAGE, *(f"{name}.json" for name in DIAGNOSTICS)}
    return (folder / PAGE).is_file() and set(foreign_files(folder)) <= known


def _run_diagnostics(
    context: DiagnosticContext,
    names: Sequence[str],
    folder: Path,
    title: str,
    command: str,
    note: NoteCallback,
) -> DiagnosisResult:
    identity, diagnostics, failed = context_digest(context), [], list[str]()
    for name in names:
        diagnostic, path = DIAGNOSTICS[name], folder / f"{name}.json"
        try:
            answer, suffix = _load_or_run(name, context, path, identity)
        except Exception as error:
            expected = isinstance(error, ImportError | ValueError)
            if len(names) == 1 and expected:
                raise
            kind = "" if expected else f"{type(error).__name__}: "
            answer, suffix = {"verdict": f"Could not run: {kind}{error}", "figures": (), "frame": ()}, ""
            failed += [] if expected else [name]
        note(f"{name}: {answer['verdict']}{suffix}")
        diagnostics.append(
            DiagnosticResult(
                name,
                diagnostic.title,
                diagnostic.question,
                answer["verdict"],
                tuple(answer["figures"]),
                tuple(answer["frame"]),
            )
        )
    epochs = () if context.trail is None else (f"epochs {', '.join(map(str, context.trail.epochs))}",)
    notes = (context.test.name or "data", f"{len(context.test)} images attacked", *epochs, *context.models)
    page = write_diagnosis(diagnostics, folder / PAGE, title=title, notes=notes, command=command, facts=facts())
    return DiagnosisResult(page, tuple(failed))


def _load_or_run(name: str, context: DiagnosticContext, path: Path, identity: str) -> tuple[dict[str, Any], str]:
    """The answer of an earlier call with the same context, or a new one, which is kept."""
    stored = _read_stored(path, identity)
    if stored is not None:
        return stored, " (stored result)"
    result = run_diagnostic(name, context)
    atomic_write(path, json.dumps({"identity": identity, **result}, indent=1, allow_nan=False))
    return result, ""


def run_diagnostic(name: str, context: DiagnosticContext) -> dict[str, Any]:
    """The answer of a diagnostic: verdict, frame and figures, as JSON can hold them."""
    diagnostic = DIAGNOSTICS[name]
    answer = diagnostic.ask(context)
    figures = [answer.figure()] + ([diagnostic.more(answer)] if diagnostic.more else [])
    svgs = [
        figure_to_svg(figure, f"{name}-{i}", f"{diagnostic.title}: {diagnostic.question}")
        for i, figure in enumerate(figures)
    ]
    return {"verdict": answer.verdict(), "frame": finite_rows(answer), "figures": svgs}


_CODE = ("assay.diagnostics.*", "assay.corruptions.*", "assay.models", "assay.report.diagnosis_page")
"""The modules that decide an answer and its figures."""


_HELD = {"trail", "models", "train", "test", "attacks", "saliency", "progress"}
"""Fields of a context whose contents are digested; of progress nothing is."""


def context_digest(context: DiagnosticContext) -> str:
    """SHA-256 of everything that the answers depend on."""
    models = {**context.models, **({} if context.trail is None else {str(e): m for e, m in context.trail})}
    lines = [f"{name} {digest(model)}" for name, model in models.items()]
    lines += [context.train.digest, context.test.digest, "" if context.saliency is None else digest(context.saliency)]
    lines += [f"{field.name} {getattr(context, field.name)!r}" for field in fields(context) if field.name not in _HELD]
    lines += [f"{name} {attack!r}" for name, attack in context.attacks.items()]
    lines += [
        code_digest(*_CODE, alone=(__name__,)),
        torch.__version__,
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _read_stored(path: Path, identity: str) -> dict[str, Any] | None:
    try:
        stored: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if not is_as_written(path):
        return None
    return stored if stored.get("identity") == identity else None
