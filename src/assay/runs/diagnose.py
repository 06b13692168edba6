"""Ask the diagnostics, keep each answer as it comes, and write the page."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from assay.core.call_context import in_neutral_context
from assay.diagnostics.context import Case
from assay.diagnostics.registry import DIAGNOSTICS
from assay.models import digest
from assay.report.diagnosis_page import embedded, write_diagnosis
from assay.store.environment import facts
from assay.store.findings import DiagnosticResult, finite_rows
from assay.util.code_digest import code_digest
from assay.util.files import atomic_write, is_as_written
from assay.util.output_folder import check_claim, claim, foreign, locked, out_folder

PAGE, COMMAND = "diagnosis.html", "diagnose"


@dataclass(frozen=True)
class DiagnosisResult:
    """What came of diagnostics.

    Attributes:
        page: the HTML file.
        failed: names of those that raised an exception which is no answer; the same call tries them again.
    """

    page: Path
    failed: tuple[str, ...] = ()


@in_neutral_context
def diagnose(
    case: Case,
    names: Sequence[str],
    out: str | Path,
    *,
    title: str,
    command: str = "",
    notice: Callable[[str], None] = lambda _: None,
) -> DiagnosisResult:
    """Ask each diagnostic, or take its answer from an earlier call with the same case.

    Args:
        case: models and data.
        names: of `assay.diagnostics.registry.DIAGNOSTICS`.
        out: the folder: ``<name>.json`` each, and ``diagnosis.html``.
        title: heading of the page.
        command: the command that makes it again.
        notice: called with a line for each answer.

    Returns:
        The page, and what raised an exception. A question that cannot be answered (none of its images is turned, an
        optional library is missing) says so on the page, unless it is the only one.

    Raises:
        ImportError, ValueError: the only question cannot be answered.
    """
    folder = out_folder(out)
    files = (PAGE, *(f"{name}.json" for name in names))
    check_claim(folder, COMMAND, files, is_diagnosis)
    with locked(folder):
        claim(folder, COMMAND, files, is_diagnosis, remade=files)
        return _diagnosed(case, names, folder, title, command, notice)


def is_diagnosis(folder: Path) -> bool:
    """Whether a folder without a record is one of diagnostics, from a version that kept none."""
    known = {PAGE, *(f"{name}.json" for name in DIAGNOSTICS)}
    return (folder / PAGE).is_file() and set(foreign(folder)) <= known


def _diagnosed(
    case: Case, names: Sequence[str], folder: Path, title: str, command: str, notice: Callable[[str], None]
) -> DiagnosisResult:
    told_by, findings, failed = case_digest(case), [], list[str]()
    for name in names:
        entry, path = DIAGNOSTICS[name], folder / f"{name}.json"
        try:
            answer, text = _answer(name, case, path, told_by)
        except Exception as error:
            expected = isinstance(error, ImportError | ValueError)
            if len(names) == 1 and expected:
                raise
            kind = "" if expected else f"{type(error).__name__}: "
            answer, text = {"verdict": f"Not answered: {kind}{error}", "figures": (), "frame": ()}, ""
            failed += [] if expected else [name]
        notice(f"{name}: {answer['verdict']}{text}")
        findings.append(
            DiagnosticResult(
                name, entry.title, entry.question, answer["verdict"], tuple(answer["figures"]), tuple(answer["frame"])
            )
        )
    epochs = () if case.trail is None else (f"epochs {', '.join(map(str, case.trail.epochs))}",)
    notes = (case.test.name or "data", f"{len(case.test)} images attacked", *epochs, *case.models)
    page = write_diagnosis(findings, folder / PAGE, title=title, notes=notes, command=command, facts=facts())
    return DiagnosisResult(page, tuple(failed))


def _answer(name: str, case: Case, path: Path, told_by: str) -> tuple[dict[str, Any], str]:
    """The answer of an earlier call with the same case, or a new one, which is kept."""
    kept = _kept(path, told_by)
    if kept is not None:
        return kept, " (kept from before)"
    result = run_diagnostic(name, case)
    atomic_write(path, json.dumps({"identity": told_by, **result}, indent=1, allow_nan=False))
    return result, ""


def run_diagnostic(name: str, case: Case) -> dict[str, Any]:
    """The answer of a diagnostic: verdict, frame and figures, as JSON can hold them."""
    entry = DIAGNOSTICS[name]
    answer = entry.ask(case)
    figures = [answer.figure()] + ([entry.more(answer)] if entry.more else [])
    drawn = [embedded(figure, f"{name}-{i}", f"{entry.title}: {entry.question}") for i, figure in enumerate(figures)]
    return {"verdict": answer.verdict(), "frame": finite_rows(answer), "figures": drawn}


_CODE = ("assay.diagnostics.*", "assay.corruptions.*", "assay.models", "assay.report.diagnosis_page")
"""The modules that decide an answer and its figures."""


def case_digest(case: Case) -> str:
    """SHA-256 over all that decides the answers of a case."""
    models = {**case.models, **({} if case.trail is None else {str(e): m for e, m in case.trail})}
    lines = [f"{name} {digest(model)}" for name, model in models.items()]
    lines += [case.train.digest, case.test.digest, repr(case.eps), repr(case.seed), repr(case.updates)]
    lines.append(repr(case.search_steps))
    lines += [
        code_digest(*_CODE, alone=(__name__,)),
        torch.__version__,
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _kept(path: Path, case_digest: str) -> dict[str, Any] | None:
    try:
        results: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if not is_as_written(path):
        return None
    return results if results.get("identity") == case_digest else None
