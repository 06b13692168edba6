"""Evaluate classifiers: attack them on labelled images, store every result, write the report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from assay.attacks.plan import Planned, distinct
from assay.certify.registry import certifiers
from assay.core.call_context import in_neutral_context
from assay.core.outcome import Outcome
from assay.data.dataset import Dataset, pixels
from assay.engine.preflight import Finding
from assay.models.callable_model import as_module
from assay.runs.executors import Executor, Inline
from assay.runs.plan import Workload, inspect_model
from assay.runs.publish import mark_running, publish
from assay.runs.session import RunInfo, report_findings, run_session
from assay.runs.settings import Settings
from assay.store.ledger import Ledger
from assay.store.load_report import studies_of
from assay.store.lock import hold_run, require_own_folder
from assay.store.model_source import ModelSource
from assay.store.results import Study
from assay.store.summary import summarise, with_errors
from assay.store.verdict import Verdict, verdicts
from assay.util.html import html_table
from assay.util.output_folder import out_folder
from assay.util.progress import SILENT, NoteCallback, Reporter
from assay.util.validate import described, reject


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        study: the cell results with data and labels.
        report: the HTML file; None if it was interrupted before the end.
        summary: per model and attack, as in ``summary.json``.
        complete: whether every attack ran on every sample, and nothing was interrupted.
        findings: what was odd about each model.
        reused: cells that an earlier call had already finished.
        signal: the signal that interrupted it, 0 for none.
        grades: the grade of each model's evidence, by name.
        errors: samples on which a model raised an exception; the same call tries exactly those again.
        first_error: the text of the first of them; empty for none.
    """

    study: Study
    report: Path | None
    summary: dict[str, Any]
    complete: bool
    findings: Mapping[str, tuple[Finding, ...]]
    reused: int
    signal: int = 0
    grades: Mapping[str, str] = field(default_factory=dict)
    errors: int = 0
    first_error: str = ""

    @property
    def outcomes(self) -> dict[tuple[str, str], Outcome]:
        """What each attack did, sample by sample, with its images, by the names of model and attack."""
        x = pixels(self.study.x)
        return {(cell.model, cell.attack): cell.outcome_with_images(x) for cell in self.study.cells}

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The worst case over all attacks whose budgets are claimed, by model."""
        return {verdict.model: verdict for verdict in verdicts(self.study)}

    @property
    def robust_accuracy(self) -> float:
        """The share of samples that no attack broke, of the one model: an upper bound on the robust accuracy.

        Raises:
            ValueError: there are several models (see `verdicts`).
        """
        every = list(self.verdicts.values())
        if len(every) != 1:
            reject("robust_accuracy", "one model (with several: .verdicts by name)", described(f"{len(every)}"))
        share = every[0].robust.value
        return float("nan") if share is None else share

    def __str__(self) -> str:
        """The table of attacks, the worst case of each model with its grade, and where the report is."""
        lines = [
            str(cell.outcome) if len(self.verdicts) == 1 else f"{cell.model}: {cell.outcome}"
            for cell in self.study.cells
        ]
        lines += [f"{name}: {self._worst(verdict)}" for name, verdict in self.verdicts.items()]
        return "\n".join([*lines, f"report: {self.report}" if self.report else "interrupted; the same call resumes"])

    def __repr__(self) -> str:
        """As text: the fields hold every image."""
        return str(self)

    def _worst(self, verdict: Verdict) -> str:
        if verdict.robust.value is None:
            return "nothing was attacked"
        low, high = verdict.robust.interval
        grade = self.grades.get(verdict.model)
        return (
            f"correct on {100 * verdict.robust.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of n = "
            f"{verdict.robust.n} under all attacks" + (f"; evidence: {grade}" if grade else "")
        )

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        rows = []
        for cell in self.study.cells:
            low, high = cell.outcome.interval()
            shares = [f"{100 * value:.1f} %" for value in (cell.outcome.clean_accuracy, cell.outcome.robust_accuracy)]
            rows.append([cell.model, cell.attack, *shares, f"{100 * low:.1f}–{100 * high:.1f}", str(len(cell.outcome))])
        worst = [f"{name}: {self._worst(verdict)}" for name, verdict in self.verdicts.items()]
        link = [f"report: {self.report}"] if self.report else []
        return html_table(("model", "attack", "clean", "robust", "95 % interval", "n"), rows, [*worst, *link])


@dataclass(frozen=True)
class Question:
    """What to evaluate: data, attacks, and the texts of the report.

    Attributes:
        title: heading of the report.
        data: images, labels and, for dual attacks, masks.
        plans: the attacks whose budgets are claimed; the same attack twice counts as once.
        curve: further budgets, for the accuracy–budget curves only.
        command: the command that repeats the evaluation.
        notes: sentences for the top of the report.
        certify: certifiers that bound each model from below at the claimed budgets, such as ``"ibp, crown"``.
    """

    title: str
    data: Dataset
    plans: Sequence[Planned]
    curve: Sequence[Planned] = ()
    command: str = ""
    notes: tuple[str, ...] = field(default_factory=tuple)
    certify: str | Sequence[str] = ()


@in_neutral_context
def evaluate(
    models: Mapping[str, nn.Module | Callable[[Tensor], Any]],
    question: Question,
    out: str | Path,
    *,
    settings: Settings | None = None,
    reporter: Reporter = SILENT,
    executor: Executor | None = None,
    sources: Mapping[str, ModelSource] | None = None,
    references: Mapping[str, float] | None = None,
) -> Evaluation:
    """Attack each model with each attack; results are kept as they come, and reused by the same call.

    Args:
        models: classifiers by name: modules, or callables such as `assay.QueryModel`.
        question: data and attacks.
        out: the run's folder: ``ledger.sqlite``, ``images/``, ``data/``, and when all is done ``samples.csv`` (and
            ``.parquet``), ``summary.json``, ``report.html`` and ``manifest.json``.
        settings: how to run.
        reporter: receives events and progress.
        executor: runs the tasks; this process by default.
        sources: where other processes get the models from, for an executor that has some.
        references: clean accuracies that are known, as shares, by name of the model.

    Returns:
        The result. After an interrupt ``complete`` is False; finished results are stored, and the same call resumes.

    Raises:
        ValueError: another process is writing to the folder, or an attack does not fit.
    """
    out, settings = out_folder(out), (settings or Settings()).on_this_machine()
    if question.certify:
        certifiers(question.certify)  # refused before anything is attacked
    require_own_folder(out)
    model_sources, references = sources or {}, references or {}
    is_inline = executor is None or isinstance(executor, Inline)
    attacked_models = []
    for name, model in models.items():
        network = as_module(name, model, question.data)
        attacked_model = inspect_model(
            name,
            network,
            question.data,
            adaptive=settings.adaptive,
            device=settings.device,
            reference=references.get(name),
        )
        source = model_sources.get(name)
        attacked_models.append(
            replace(attacked_model, source=source, model=network if is_inline or source is None else source)
        )
    notes = report_findings(attacked_models, reporter.note)
    workload = Workload(
        question.data.name,
        question.data,
        attacked_models,
        distinct(question.plans),
        question.curve,
        (settings.seed,),
        question.title,
        certify=question.certify,
    )
    headline = tuple(dict.fromkeys(planned.budget for planned in question.plans))
    info = RunInfo(question.title, question.command, (*question.notes, *notes), headline)
    with hold_run(out), Ledger(out, write=True) as ledger:
        _note_replaced_report(ledger, info, reporter.note)
        mark_running(out, ledger)
        session = run_session(
            [workload],
            info,
            out,
            settings,
            ledger,
            executor=executor,
            reporter=reporter,
            strict=True,
        )
        if session.failures:
            raise session.failures[0].error
        data = {workload.digest: question.data}
        published = publish(out, ledger, ended=True, known=data) if session.complete else None
        (study,) = studies_of(out, ledger, data) if published is None else published.studies
    findings = {attacked_model.name: attacked_model.findings for attacked_model in attacked_models}
    return Evaluation(
        study,
        None if published is None else published.report,
        with_errors(summarise(study), session.errors, session.first_error) if published is None else published.summary,
        session.complete,
        findings,
        session.reused,
        session.signal,
        {name.removeprefix(f"{workload.name}/"): grade for name, grade in session.grades.items()},
        session.errors,
        session.first_error,
    )


def _note_replaced_report(ledger: Ledger, info: RunInfo, note: NoteCallback) -> None:
    """Tell the user that the folder's report will be replaced; results of earlier evaluations stay and are reused."""
    previous = ledger.meta("told") or {}
    if previous and (previous.get("title"), previous.get("command")) != (info.title, info.command):
        note(
            f"out: the report in {ledger.path.parent} becomes that of this evaluation; the results of the earlier "
            f"one are kept{': ' + previous['command'] if previous.get('command') else ''}"
        )
