"""``assay corruptions``: accuracy under noise, blur, weather and digital corruptions."""

import csv
from functools import partial
from io import StringIO
from json import loads as json_of
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import Parameter

from assay.cli.data import load_data
from assay.cli.models import parse_model
from assay.cli.output import print_json, print_line, print_table
from assay.corruptions.registry import CORRUPTIONS, TABLES
from assay.corruptions.score import ALEXNET, Damage, corruption_errors, measure
from assay.models.fits import check_fit
from assay.models.load import load as load_model
from assay.util.console import print_note
from assay.util.files import atomic_write, file_name
from assay.util.output_folder import check_claim, claim, foreign_files, locked, out_folder
from assay.util.validate import one_of, reject

COMMAND, TABLE = "corruptions", "corruptions.csv"


def corruptions(
    *,
    model: list[str],
    data: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("runs/corruptions"),
    only: list[str] | None = None,
    parameters: str = "auto",
    baseline: str | None = None,
    limit: int | None = None,
    arch: str | None = None,
    seed: int = 0,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Measure accuracy under noise, blur, weather and digital corruptions.

    15 + 4 corruptions at 5 severities, and the mean corruption error.

    Results are stored as they arrive; after an interrupt, run the same command to resume.

    Parameters
    ----------
    model
        As in assay evaluate; repeat for several.
    data
        Where images come from, such as digits or folder:PATH (see: assay ls data); its test part is used.
    out
        The run's folder: one JSON file a model, and corruptions.csv.
    only
        One corruption, such as fog (see: assay ls corruptions). Repeat for several.
    parameters
        imagenet (meant for 224 pixels), cifar (for 32), or auto: the first from 64 pixels on.
    baseline
        Baseline of the mean corruption error: a name of --model, or alexnet (ImageNet only).
    limit
        At most so many images, classes as even as they can be.
    arch
        Architecture of a weights file that does not say it.
    seed
        Random seed, also for the choice of images.
    json
        Print the result as JSON.
    quiet
        No progress.
    """
    for name in only or ():
        CORRUPTIONS.find(name, argument="only")
    one_of("parameters", parameters, TABLES)
    specs = dict(parse_model(spec) for spec in model)
    if len(specs) < len(model):
        reject("model", "a name for each model, all different (NAME=SPEC)", model)
    if baseline is not None and baseline != "alexnet" and baseline not in specs:
        reject("baseline", f"alexnet or one of the models ({', '.join(specs)})", baseline)
    if len({file_name(name).lower() for name in specs}) < len(specs):
        reject("model", "names that differ as names of files, too (letters, digits, - and .)", list(specs))
    files = (TABLE, *(f"{file_name(name)}.json" for name in specs))
    check_claim(out_folder(out), COMMAND, files, is_corruptions)
    dataset = load_data(data, split="test", limit=limit, seed=seed)
    recipe = {"arch": arch, "channels": dataset.x.shape[1], "classes": len(dataset.classes), "size": dataset.x.shape[2]}
    networks = {name: load_model(path, recipe=recipe if arch else None) for name, path in specs.items()}
    for name, network in networks.items():
        check_fit(name, network, dataset)
    results: dict[str, Damage] = {}
    with locked(out):
        claim(out, COMMAND, files, is_corruptions, remade=(TABLE,))
        for name, network in networks.items():
            network.to("cuda" if torch.cuda.is_available() else "cpu")
            progress = None if quiet or json else partial(print_progress, name)
            result_file = out / f"{file_name(name)}.json"
            results[name] = measure(
                network, dataset, names=only, table=parameters, seed=seed, out=result_file, progress=progress
            )
        scores = {name: _scores(damage, results, baseline) for name, damage in results.items()}
        _write(out / TABLE, results)
    if json:
        print_json({name: _result(damage, scores[name]) for name, damage in results.items()})
        return 0
    names = list(next(iter(results.values())).accuracy)
    rows = [["clean", *(f"{100 * d.clean:.1f} %" for d in results.values())]]
    rows += [[kind, *(f"{100 * (1 - d.errors[kind]):.1f} %" for d in results.values())] for kind in names]
    rows.append(["mean over corruptions", *(f"{100 * d.mean_accuracy:.1f} %" for d in results.values())])
    if baseline is not None:
        rows.append([f"mCE (of {baseline})", *(f"{100 * s['mCE']:.1f} %" for s in scores.values())])
    print_table(rows, ("accuracy, mean over severities", *results))
    print_line(f"results: {out / TABLE}")
    return 0


def is_corruptions(folder: Path) -> bool:
    """Whether a folder without a record is one of this command, from a version that kept none."""
    result_files = [name for name in foreign_files(folder) if name != TABLE]
    return bool(result_files) and all(name.endswith(".json") and _is_result(folder / name) for name in result_files)


def _is_result(path: Path) -> bool:
    try:
        return {"identity", "accuracy"} <= set(json_of(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return False


def print_progress(model: str, name: str, severity: int, accuracy: float) -> None:
    """A line for each corruption, when its five severities are there."""
    if severity in (0, 5):
        print_note(f"{model}: {name}{f' up to severity {severity}' if severity else ''}: {100 * accuracy:.1f} %")


def _result(damage: Damage, scores: dict[str, float]) -> dict[str, object]:
    record = {"clean": damage.clean, "accuracy": dict(damage.accuracy), "mean_accuracy": damage.mean_accuracy}
    return {**record, "relative": scores} if scores else record


def _scores(damage: Damage, results: dict[str, Damage], baseline: str | None) -> dict[str, float]:
    if baseline is None:
        return {}
    if baseline == "alexnet":
        return corruption_errors(damage, ALEXNET)
    other = results[baseline]
    return corruption_errors(damage, other.errors, clean=1 - other.clean)


def _write(path: Path, results: dict[str, Damage]) -> None:
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("model", "corruption", "severity", "accuracy", "n"))
    for name, damage in results.items():
        writer.writerow((name, "clean", 0, damage.clean, damage.n))
        for kind, values in damage.accuracy.items():
            writer.writerows((name, kind, at + 1, value, damage.n) for at, value in enumerate(values))
    atomic_write(path, buffer.getvalue())
