"""Commands on existing runs: ``status``, ``verify``, ``compare``, ``export``, ``report``."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from assay.cli.output import print_json, print_line, print_table
from assay.report.junit import to_junit
from assay.report.markdown import to_markdown
from assay.report.model_card import to_mlflow, write_cards
from assay.runs.publish import publish
from assay.store.compare import PairedComparison
from assay.store.compare import compare as compare_runs
from assay.store.integrity.verify import verify as verify_run
from assay.store.ledger import Ledger
from assay.store.load_report import studies_of
from assay.store.lock import hold_run
from assay.store.status import read_status
from assay.store.summary import summarise
from assay.store.summary_schema import schema
from assay.util.console import print_note
from assay.util.progress import Reporter
from assay.util.validate import number, one_of, reject

FORMS = ("card", "mlflow", "junit")


def status(run: Path, /, *, json: bool = False) -> int:
    """Show how far a run is, also while it is running.

    Parameters
    ----------
    run
        Its folder.
    json
        Print it as JSON.
    """
    result = read_status(run)
    if json:
        print_json(
            {
                "title": result.title,
                "command": result.command,
                "held by": result.holder,
                "finished": result.finished,
                "cells": [
                    {**vars(cell.names), "n": cell.n, "done": cell.done, "counts": cell.counts, "seconds": cell.seconds}
                    for cell in result.cells
                ],
                "certificates": [vars(own) for own in result.certificates],
                "events": [{"at": at, "text": text} for at, text in result.events],
            }
        )
        return 0
    rows = []
    for cell in result.cells:
        survived, names = cell.counts.get("survived", 0), cell.names
        robust = f"{100 * survived / cell.done:.1f} %" if cell.done else "–"
        rows.append(
            (
                names.data,
                names.model,
                names.attack,
                str(names.seed),
                f"{cell.done}/{cell.n}",
                robust,
                f"{cell.seconds:.1f}",
            )
        )
    print_table(rows, ("data", "model", "attack", "seed", "done", "robust so far", "seconds"))
    if result.certificates:
        certified = [
            (own.data, own.model, own.budget, f"{own.done}/{own.n}", own.fault or "–") for own in result.certificates
        ]
        print_table(certified, ("data", "model", "certificates for", "done", "not certified because"))
    for at, text in result.events[-5:]:
        print_note(f"{at}: {text}")
    done, total = sum(cell.done for cell in result.cells), sum(cell.n for cell in result.cells)
    state = f"running ({result.holder})" if result.holder else "finished" if result.finished else "not finished"
    print_line(f"{result.title or run.resolve().name}: {state}, {done} of {total} records")
    if not result.finished and not result.holder and result.command:
        print_line(f"to resume: {result.command}")
    return 0


def verify(run: Path, /, *, no_models: bool = False, trust: bool = False, json: bool = False) -> int:
    """Verify a run: its files, its ledger, and every adversarial image against its model.

    Parameters
    ----------
    run
        Its folder.
    no_models
        Load no model: only hashes, sizes and the ledger.
    trust
        Run code and query hubs that the ledger names to get models; without it only weights files are loaded.
    json
        Print what was found as JSON.
    """
    result = verify_run(
        run, models=not no_models, trust=trust, reporter=Reporter(lambda text: print_note(f"checking {text}"))
    )
    if json:
        print_json(
            {
                "faults": list(result.faults),
                "files": result.files,
                "measured": result.measured,
                "flipped": result.flipped,
                "skipped": list(result.skipped),
            }
        )
        return 3 if result.faults else 0
    for text in result.skipped:
        print_note(f"not checked: {text}")
    for text in result.faults:
        print_line(f"wrong: {text}")
    print_line(
        f"{result.files} files as they were written; {result.measured} adversarial images rechecked, "
        f"{result.flipped} of them on the boundary"
    )
    skipped_note = f"; {_things(len(result.skipped))} could not be checked (see above)" if result.skipped else ""
    print_line(
        f"nothing is wrong{' in what was checked' if skipped_note else ''}{skipped_note}"
        if not result.faults
        else f"{_things(len(result.faults))} wrong{skipped_note}"
    )
    return 3 if result.faults else 0


def _things(count: int) -> str:
    return "1 thing" if count == 1 else f"{count} things"


def compare(
    run: Path,
    other: Path | None = None,
    /,
    *,
    model: list[str] | None = None,
    fail_on_drop: float | None = None,
    json: bool = False,
) -> int:
    """Compare two runs, or the models of one, sample by sample.

    Runs on other samples are refused.

    Parameters
    ----------
    run
        A run's folder.
    other
        Another's; without, the models of the one are compared with each other.
    model
        The models to compare; repeat for several.
    fail_on_drop
        Exit with 3 if the second is less robust than the first by more than so many percentage points, such as 2.
    json
        Print the comparisons as JSON.
    """
    if fail_on_drop is not None:
        number("fail_on_drop", fail_on_drop, least=0, most=100)
    result = compare_runs(run, other, model or ())
    if json:
        print_json([{**vars(pair), "difference": pair.difference} for pair in result])
        return _drop_exit_code(result, fail_on_drop)
    rows = [
        (
            pair.a,
            pair.b,
            pair.budget,
            f"{100 * pair.difference:+.1f}",
            f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}",
            str(pair.only_a),
            str(pair.only_b),
            str(pair.n),
            f"{pair.p:.2g}",
            "yes" if pair.same_attacks else "NO",
        )
        for pair in result
    ]
    print_table(
        rows,
        (
            "a",
            "b",
            "budget",
            "robust a − b, points",
            "95 % interval",
            "only a",
            "only b",
            "n",
            "p (McNemar)",
            "same attacks",
        ),
    )
    return _drop_exit_code(result, fail_on_drop)


def _drop_exit_code(pairs: Sequence[PairedComparison], most: float | None) -> int:
    """3 if a second side is less robust than the first by more than so many points, else 0."""
    if most is None:
        return 0
    dropped = [pair for pair in pairs if 100 * pair.difference > most + 1e-9]
    for pair in dropped:
        print_note(
            f"{pair.b} is {100 * pair.difference:.1f} points less robust than {pair.a}, at most {most:g} allowed"
        )
    if not pairs:
        print_note("nothing was compared, so that no drop can be ruled out")
    return 3 if dropped or not pairs else 0


def export(run: Path, /, *, to: str = "card", model: str | None = None, experiment: str = "assay") -> int:
    """Export results as a model card, as JUnit XML, or to MLflow.

    Parameters
    ----------
    run
        Its folder.
    to
        card (cards/MODEL.md in the folder), junit (printed: models and checks as test cases), or mlflow (to where
        MLFLOW_TRACKING_URI says).
    model
        Only this model's card.
    experiment
        Name of the MLflow experiment.
    """
    one_of("to", to, FORMS)
    with Ledger(run) as ledger:
        studies = studies_of(run, ledger)
        summaries = [summarise(study) for study in studies]
    if to == "junit":
        sys.stdout.write(to_junit(studies, summaries))
        return 0
    if to == "mlflow":
        print_line(f"logged to MLflow: {to_mlflow(run, summaries, experiment)} runs")
        return 0
    for path in write_cards(run, summaries, model):
        print_line(f"card: {path}")
    return 0


def report(run: Path | None = None, /, *, format: Literal["html", "md"] = "html", json_schema: bool = False) -> int:
    """Rebuild a run's tables and report from its ledger, or print it as Markdown.

    Parameters
    ----------
    run
        Its folder.
    format
        html (tables and report.html in the folder) or md (printed, for a comment on a pull request).
    json_schema
        Print the JSON Schema of summary.json.
    """
    if json_schema:
        sys.stdout.write(schema() + "\n")
        return 0
    if run is None:
        reject("run", "a run's folder (see: assay report --help)", None)
    if format == "md":
        with Ledger(run) as ledger:
            sys.stdout.write(to_markdown([summarise(study) for study in studies_of(run, ledger)]))
        return 0
    with Ledger(run):  # raises if there is no run
        pass
    with hold_run(run), Ledger(run, write=True) as ledger:
        result = publish(run, ledger)
    print_line(f"report: {result.report}")
    return 0
