"""Print evaluation results and choose the exit code."""

import math
from collections.abc import Mapping
from typing import Any

from assay.cli.output import print_json, print_line, print_table
from assay.core.outcome import Status
from assay.runs.evaluate import Evaluation
from assay.trust.grading import GRADES
from assay.util.console import print_note


def print_results(result: Evaluation, *, json: bool) -> int:
    """Print a result; the exit code."""
    if json:
        print_json(result.summary)
    else:
        print_cells(result)
        print_brackets(result.summary)
    if not result.complete and result.signal:
        print_note("interrupted; run the same command to resume")
        return 128 + result.signal
    if not json and result.report is not None:
        print_line(f"report: {result.report}")
    return print_errors(result.errors, result.first_error) or print_missing(result)


def print_errors(errors: int, first: str) -> int:
    """Say on how many samples a model raised an exception; 1 where it did on any, else 0."""
    if not errors:
        return 0
    samples = "1 sample has" if errors == 1 else f"{errors} samples have"
    print_note(f"{samples} no result, as the model raised an error ({first}); run the same command to try them again")
    return 1


def print_missing(result: Evaluation) -> int:
    """Say how many samples were not run; 1 where there are any, else 0."""
    outcomes = [cell.outcome for cell in result.study.cells]
    not_attacked = sum(int(((o.status == int(Status.NOT_RUN)) & (o.predicted_clean >= 0)).sum()) for o in outcomes)
    missing = sum(outcome.count(Status.NOT_RUN) for outcome in outcomes) - not_attacked
    if not_attacked:
        print_note(
            f"{not_attacked} samples were not attacked and have no result: no adversarial image to start from was "
            "found (try --start data), or --max-forwards is too small for a first step"
        )
    if missing or not result.complete:
        print_note(f"{missing} samples were not run; run the same command to resume")
    return 1 if not_attacked or missing or not result.complete else 0


def grade_exit_code(grades: Mapping[str, str], require: str | None) -> int:
    """The exit code: 3 if a grade is below the required one, else 0."""
    if require is None:
        return 0
    below = [name for name, grade in grades.items() if grade not in GRADES[GRADES.index(require) :]]
    for name in below:
        print_note(f"{name}: evidence {grades[name]}, required {require}")
    if not grades:
        print_note(f"no model has a grade, required {require}: checks were skipped")
    return 3 if below or not grades else 0


def accuracy_exit_code(result: Evaluation, least: float | None) -> int:
    """The exit code: 3 if the robust accuracy of a model is below so many per cent, or unknown, else 0."""
    if least is None:
        return 0
    shares = {name: verdict.robust.value for name, verdict in result.verdicts.items()}
    below = [name for name, share in shares.items() if share is None or 100 * share < least - 1e-9]
    for name in below:
        share = shares[name]
        said = "no robust accuracy" if share is None else f"robust accuracy {100 * share:.1f} %"
        print_note(f"{name}: {said}, required {least:g} %")
    return 3 if below or not shares else 0


def print_brackets(summary: Mapping[str, Any]) -> None:
    """Print both ends of each model's robust accuracy, where any was certified; of one study as in ``summary.json``."""
    rows = []
    for own in summary.get("certificates") or ():
        low, high, n = own["certified_accuracy"], own["possible_accuracy"], own["n"]
        if low is None or high is None:
            print_note(f"{own['model']}, {own['budget']}: not certified: {own['fault'] or 'no images'}")
            continue
        rows.append(
            [
                own["model"],
                own["budget"],
                f"{100 * low:.1f} %",
                f"{100 * high:.1f} %",
                f"{100 * (high - low):.1f} %",
                str(n),
                f"{own['seconds'] / n:.3g}",
                " then ".join(own["certifiers"]),
            ]
        )
    if rows:
        print_table(rows, ("model", "budget", "certified", "attacked", "open", "n", "s/sample", "by"))


def print_cells(result: Evaluation) -> None:
    """Print one line for each model and attack."""
    rows = []
    for cell in result.study.cells:
        low, high = cell.outcome.interval()
        passes = (cell.outcome.forwards + cell.outcome.backwards).float().mean() if len(cell.outcome) else 0.0
        checked = result.study.grades.get(cell.model)
        known = len(cell.outcome) - cell.outcome.unknown - cell.outcome.count(Status.NOT_RUN)
        numbers = [f"{100 * cell.outcome.robust_accuracy:.1f} %", f"{100 * low:.1f}–{100 * high:.1f}"]
        clean = cell.outcome.clean_accuracy
        rows.append(
            [
                cell.model,
                cell.attack,
                "–" if math.isnan(clean) else f"{100 * clean:.1f} %",
                *(numbers if known else ("–", "–")),
                str(len(cell.outcome)),
                f"{float(passes):.1f}",
                "–" if checked is None or cell.curve is not None else checked.grade,
            ]
        )
    print_table(rows, ("model", "attack", "clean", "robust", "95 % interval", "n", "passes/sample", "evidence"))
