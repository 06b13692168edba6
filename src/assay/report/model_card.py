"""Export a run as model cards or to MLflow."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from assay.store.ledger import Ledger
from assay.store.lock import hold_run
from assay.store.manifest import MANIFEST
from assay.util.files import atomic_write, file_name, sha256
from assay.util.text import plain
from assay.util.validate import described, nearest, reject


def write_cards(folder: str | Path, summaries: Sequence[Mapping[str, Any]], model: str | None = None) -> list[Path]:
    """Write a model card for each model of a run: Markdown with the metadata that model hubs read.

    Args:
        folder: the run's.
        summaries: as in ``summary.json``, one a data set.
        model: only this one.

    Returns:
        The files, ``cards/<model>.md``.

    Raises:
        ValueError: no such model, or a card file that this run did not write.
    """
    folder = Path(folder)
    names = list(dict.fromkeys(entry["model"] for summary in summaries for entry in summary["models"]))
    if model is not None and model not in names:
        reject("model", "one of " + ", ".join(names), described(f"{model!r}{nearest(model, names)}"))
    with hold_run(folder), Ledger(folder, write=True) as ledger:
        digests: dict[str, dict[str, None]] = {}  # more than one where a model is trained for each data set
        for entry, cell_names in ledger.plan():
            digests.setdefault(cell_names.model, {})[entry.fields["model"]] = None
        chosen = [model] if model is not None else names
        return _write_all(folder, ledger, names, chosen, summaries, digests)


def _write_all(
    folder: Path,
    ledger: Ledger,
    names: Sequence[str],
    chosen: Sequence[str],
    summaries: Sequence[Mapping[str, Any]],
    digests: Mapping[str, Mapping[str, None]],
) -> list[Path]:
    manifest = sha256(folder / MANIFEST) if (folder / MANIFEST).is_file() else "none: the run is not finished"
    digests_by_card, paths = dict(ledger.meta("cards") or {}), []
    for name in chosen:
        text = _card(name, summaries, ", ".join(digests.get(name, {})), manifest)
        alone = sum(file_name(other).lower() == file_name(name).lower() for other in names) == 1
        own = file_name(name) if alone else f"{file_name(name)}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        path = folder / "cards" / f"{own}.md"
        place = path.relative_to(folder).as_posix()
        if path.exists() and sha256(path) not in digests_by_card.get(place, ()):
            reject("run", f"no other file of the name of a card, {place} (move it)", described("one"))
        digest = hashlib.sha256(text.encode()).hexdigest()
        digests_by_card[place] = [
            *digests_by_card.get(place, [])[-1:],
            digest,
        ]  # after a kill the one before may be there
        ledger.set_meta(cards=digests_by_card)
        paths.append(atomic_write(path, text))
    return paths


def to_mlflow(folder: str | Path, summaries: Sequence[Mapping[str, Any]], experiment: str) -> int:
    """Log each model of a run to MLflow: metrics, parameters, and the run's tables and report as artefacts.

    Args:
        folder: the run's.
        summaries: as in ``summary.json``, one a data set.
        experiment: of MLflow.

    Returns:
        How many runs were logged.

    Raises:
        ImportError: MLflow is not installed.
    """
    try:
        mlflow = import_module("mlflow")
    except ImportError:
        raise ImportError("export: expected MLflow for --to mlflow: pip install mlflow") from None
    mlflow.set_experiment(experiment)
    count = 0
    for summary in summaries:
        for entry in summary["models"]:
            with mlflow.start_run(run_name=f"{entry['model']} on {summary['dataset']}"):
                mlflow.log_params(
                    {
                        "model": entry["model"],
                        "data": summary["dataset"],
                        "n": entry["n"],
                        "grade": (entry.get("grade") or {}).get("grade", "none"),
                        "attacks": "; ".join(entry["attacks"])[:500],
                        "command": summary["command"][:500],
                    }
                )
                metrics = {
                    "clean_accuracy": entry["clean_accuracy"],
                    "robust_accuracy": entry["robust_accuracy"],
                    "passes_per_sample": entry["passes"],
                }
                metrics |= {
                    re.sub(r"[^\w\-./ ]", "", f"certified_accuracy {row['budget']}"): row["certified_accuracy"]
                    for row in _certified(summary, entry)
                }
                mlflow.log_metrics({name: value for name, value in metrics.items() if value is not None})
                for name in ("samples.csv", "summary.json", "report.html", MANIFEST):
                    if (Path(folder) / name).is_file():
                        mlflow.log_artifact(str(Path(folder) / name))
            count += 1
    return count


def _card(model: str, summaries: Sequence[Mapping[str, Any]], digest: str, manifest: str) -> str:
    index, rows = [], []
    for summary in summaries:
        for entry in summary["models"]:
            if entry["model"] != model or entry["robust_accuracy"] is None:
                continue
            low, high = entry["interval"]
            grade = (entry.get("grade") or {}).get("grade", "–")
            index.append(_metadata(summary, entry))
            rows.append(
                f"| {_cell(summary['dataset'])} | {_cell('; '.join(summary['headline']))} | "
                f"{_percent(entry['clean_accuracy'])} | "
                f"≤ {_percent(entry['robust_accuracy'])}{_unknown(entry)} | "
                f"{_percent(low)} – {_percent(high)} | {entry['n']} | {grade} | "
                f"{_cell(', '.join(entry['attacks']))} |"
            )
    certified = [
        f"| {_cell(summary['dataset'])} | {_cell(row['budget'])} | ≥ {_percent(row['certified_accuracy'])} | "
        f"≤ {_percent(row['possible_accuracy'])} | {row['n']} | {_cell(' then '.join(row['certifiers']))} |"
        for summary in summaries
        for entry in summary["models"]
        if entry["model"] == model
        for row in _certified(summary, entry)
    ]
    front_matter = yaml.safe_dump(
        {"tags": ["robustness", "adversarial"], "model-index": [{"name": model, "results": index}]},
        sort_keys=False,
        allow_unicode=True,
    )
    summary = summaries[0]
    facts = "\n".join(f"- {_cell(name)}: {_cell(value)}" for name, value in summary["facts"].items())
    head_row = "| data | budget | clean | robust | 95 % interval | n | evidence | attacks |"
    table = "\n".join((head_row, "|" + " --- |" * 8, *rows))
    return (
        "\n\n".join(
            (
                f"---\n{front_matter}---",
                f"# Robustness of {_cell(model)}",
                "An upper bound on robust accuracy: a sample counts only if it was right before and survived every "
                "attack; a stronger attack can only lower it.",
                table,
                *_both_ends(certified),
                f"Weights SHA-256 over structure and bytes: `{digest}`. Manifest of the run: `{manifest}`.",
                "Made by:",
                f"```\n{summary['command'].replace('```', '')}\n```",
                facts,
            )
        )
        + "\n"
    )


def _certified(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Both ends of a model's robust accuracy at each budget that was certified."""
    rows = summary.get("certificates") or ()
    return [row for row in rows if row["model"] == entry["model"] and row["certified_accuracy"] is not None]


def _both_ends(rows: Sequence[str]) -> tuple[str, ...]:
    """A table of what is certified, with a sentence; nothing of no rows."""
    if not rows:
        return ()
    head = "| data | budget | certified | robust | n | by |"
    return (
        "A lower bound where there are certificates: these samples are right on every image within the budget.",
        "\n".join((head, "|" + " --- |" * 6, *rows)),
    )


def _metadata(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task": {"type": "image-classification"},
        "dataset": {"name": plain(summary["dataset"]), "type": plain(summary["dataset"])},
        "metrics": [
            {"type": "accuracy", "name": "clean accuracy", "value": entry["clean_accuracy"]},
            *(
                {
                    "type": "robust_accuracy",
                    "value": budget["robust_accuracy"],
                    "name": f"robust accuracy at {plain(budget['budget'])}, upper bound, n = {budget['n']}",
                }
                for budget in entry["budgets"]
                if budget["robust_accuracy"] is not None
            ),
            *(
                {
                    "type": "certified_accuracy",
                    "value": row["certified_accuracy"],
                    "name": f"certified accuracy at {plain(row['budget'])}, lower bound, n = {row['n']}",
                }
                for row in _certified(summary, entry)
            ),
        ],
    }


def _unknown(entry: Mapping[str, Any]) -> str:
    """What else the number could be, where samples came out invalid or raised an error."""
    least, most = entry.get("readings") or (None, None)
    return "" if most is None or most == least else f" ({_percent(most)} if undecided samples are robust)"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _cell(text: object) -> str:
    """Text that stays within a cell of a Markdown table."""
    escaped = plain(text, 600)
    for mark in "\\`*_[]<>|#":
        escaped = escaped.replace(mark, "\\" + mark)
    return escaped
