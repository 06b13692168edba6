"""What can be asked of a run: ``status``, ``verify``, ``compare``, ``export``, ``report``."""

from pathlib import Path

from assay.cli.output import emit, note, say, table
from assay.report.model_card import cards, to_mlflow
from assay.runs.publish import finish
from assay.store.compare import compare as compare_runs
from assay.store.ledger import Ledger
from assay.store.load_report import studies_of
from assay.store.lock import held
from assay.store.status import status_of
from assay.store.summary import summarise
from assay.store.verify import verify as verify_run
from assay.util.validate import one_of

FORMS = ("card", "mlflow")


def status(run: Path, /, *, json: bool = False) -> int:
    """Show how far a run is, also while it is running.

    Parameters
    ----------
    run
        Its folder.
    json
        Print it as JSON.
    """
    found = status_of(run)
    if json:
        emit({
            "title": found.title, "command": found.command, "held by": found.holder, "finished": found.finished,
            "cells": [{**vars(cell.words), "n": cell.n, "done": cell.done, "counts": cell.counts,
                       "seconds": cell.seconds} for cell in found.cells],
            "events": [{"at": at, "text": text} for at, text in found.events],
        })  # fmt: skip
        return 0
    rows = []
    for cell in found.cells:
        survived, words = cell.counts.get("survived", 0), cell.words
        robust = f"{100 * survived / cell.done:.1f} %" if cell.done else "–"
        rows.append((words.data, words.model, words.attack, str(words.seed), f"{cell.done}/{cell.n}", robust,
                     f"{cell.seconds:.1f}"))  # fmt: skip
    table(rows, ("data", "model", "attack", "seed", "done", "robust so far", "seconds"))
    for at, text in found.events[-5:]:
        note(f"{at}: {text}")
    done, total = sum(cell.done for cell in found.cells), sum(cell.n for cell in found.cells)
    state = f"running ({found.holder})" if found.holder else "finished" if found.finished else "not finished"
    say(f"{found.title or run.resolve().name}: {state}, {done} of {total} records")
    if not found.finished and not found.holder and found.command:
        say(f"go on with: {found.command}")
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
        Run the code and ask the hubs that the ledger names to get models; without, only weights files are loaded.
    json
        Print what was found as JSON.
    """
    found = verify_run(run, models=not no_models, trust=trust, notice=lambda text: note(f"checking {text}"))
    if json:
        emit({"faults": list(found.faults), "files": found.files, "measured": found.measured,
              "flipped": found.flipped, "skipped": list(found.skipped)})  # fmt: skip
        return 3 if found.faults else 0
    for text in found.skipped:
        note(f"not checked: {text}")
    for text in found.faults:
        say(f"wrong: {text}")
    say(f"{found.files} files as they were written; {found.measured} adversarial images measured anew, "
        f"{found.flipped} of them on the boundary")  # fmt: skip
    left = f"; {_things(len(found.skipped))} could not be checked (told above)" if found.skipped else ""
    say(f"nothing is wrong{' in what was checked' if left else ''}{left}" if not found.faults
        else f"{_things(len(found.faults))} wrong{left}")  # fmt: skip
    return 3 if found.faults else 0


def _things(count: int) -> str:
    return "1 thing" if count == 1 else f"{count} things"


def compare(run: Path, other: Path | None = None, /, *, model: list[str] | None = None, json: bool = False) -> int:
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
    json
        Print the comparisons as JSON.
    """
    found = compare_runs(run, other, model or ())
    if json:
        emit([{**vars(pair), "difference": pair.difference} for pair in found])
        return 0
    rows = [(pair.a, pair.b, pair.budget, f"{100 * pair.difference:+.1f}",
             f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}", str(pair.only_a), str(pair.only_b), str(pair.n),
             f"{pair.p:.2g}", "yes" if pair.same_attacks else "NO") for pair in found]  # fmt: skip
    table(rows, ("a", "b", "budget", "robust a − b, points", "95 % interval", "only a", "only b", "n", "p (McNemar)",
                 "same attacks"))  # fmt: skip
    return 0


def export(run: Path, /, *, to: str = "card", model: str | None = None, experiment: str = "assay") -> int:
    """Export results as a model card, or to MLflow.

    Parameters
    ----------
    run
        Its folder.
    to
        card (cards/<model>.md in the folder) or mlflow (to where MLFLOW_TRACKING_URI says).
    model
        Only this model's card.
    experiment
        Of MLflow.
    """
    one_of("to", to, FORMS)
    with Ledger(run) as ledger:
        told = [summarise(study) for study in studies_of(run, ledger)]
    if to == "mlflow":
        say(f"logged to MLflow: {to_mlflow(run, told, experiment)} runs")
        return 0
    for path in cards(run, told, model):
        say(f"card: {path}")
    return 0


def report(run: Path, /) -> int:
    """Rebuild a run's tables and report from its ledger.

    Parameters
    ----------
    run
        Its folder.
    """
    with Ledger(run):  # it is there
        pass
    with held(run), Ledger(run, write=True) as ledger:
        found = finish(run, ledger)
    say(f"report: {found.report}")
    return 0
