"""``assay check``: run the trust checks on a few images."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.cli.attack_options import AttackOptions
from assay.cli.data import load_data
from assay.cli.models import parse_model, require_deterministic
from assay.cli.output import print_json, print_line, print_table, same_command
from assay.cli.results import print_errors
from assay.core.combinators import unfold
from assay.masks.sources import with_foreground
from assay.models.fits import check_fit
from assay.runs.evaluate import Question
from assay.runs.evaluate import evaluate as run_evaluation
from assay.runs.settings import Settings
from assay.store.lock import require_own_folder
from assay.store.model_source import ModelSource
from assay.util.console import console_reporter, print_note
from assay.util.output_folder import out_folder
from assay.util.validate import number

_DEFAULT = ("apgd", "square:queries=1000")


def check(
    model: str,
    /,
    *,
    data: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("runs/check"),
    attacks: Annotated[AttackOptions, Parameter(name="*")] = AttackOptions(),
    defence: str | None = None,
    limit: int = 128,
    arch: str | None = None,
    seed: int = 0,
    device: str = "auto",
    accuracy: float | None = None,
    all_: Annotated[bool, Parameter(name="--all")] = False,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Check on a few images whether a robust accuracy can be trusted.

    Attacks the images as the evaluation will, then runs every check of docs/trust.md. Exit code 3 if the grade is
    unusable: a check found that the number would not be about what it claims.

    Parameters
    ----------
    model
        As in assay evaluate.
    data
        Where images come from (see: assay ls data).
    out
        The folder of the run.
    defence
        A defence around the model (see: assay ls defences).
    limit
        Images.
    arch
        Architecture of a weights file without metadata.
    seed
        Random seed.
    device
        Where the model runs: auto, cpu, cuda, cuda:1, mps.
    accuracy
        Clean accuracy that is known of the model, from 0 to 1, to compare with.
    all_
        Also print what passed.
    json
        Print the answers as JSON.
    quiet
        No progress.
    """
    command = same_command(check, locals())
    settings = Settings(seed=seed, device=device).on_this_machine()
    require_own_folder(out_folder(out))
    dataset = load_data(data, split="test", limit=limit, seed=seed)
    plans = attacks.plan(*_DEFAULT)
    if any("mask" in stage.attack.needs for planned in plans for stage in unfold(planned.attack)):
        dataset = with_foreground(dataset, "auto")
    name, path = parse_model(model)
    recipe = {"arch": arch, "channels": dataset.x.shape[1], "classes": len(dataset.classes), "size": dataset.x.shape[2]}
    source = ModelSource(path, tuple(recipe.items()) if arch else (), defence)
    question = Question(f"Check of {name}", dataset, plans, command=command)
    network = source.load()
    check_fit(name, network, dataset, settings.device)
    require_deterministic(source, network)
    with console_reporter(quiet=quiet or json, notes=not (quiet or json)) as reporter:
        result = run_evaluation(
            {name: network},
            question,
            out,
            settings=settings,
            reporter=reporter,
            sources={name: source},
            references={} if accuracy is None else {name: number("accuracy", accuracy, least=0, most=1)},
        )
    if not result.complete and result.signal:
        print_note("interrupted; run the same command to resume")
        return 128 + result.signal
    checked = result.study.grades.get(name)
    if checked is None:
        print_note(f"{name}: could not be checked; run assay doctor, or try the model on one image")
        return 1
    if json:
        print_json({"grade": checked.grade, "why": list(checked.why), "answers": [vars(a) for a in checked.answers]})
    else:
        shown = [a for a in checked.answers if all_ or a.level in ("issue", "warning", "open")]
        if shown:
            print_table(
                [(a.check, a.level, f"{a.title}{' · ' + a.about if a.about else ''}: {a.text}") for a in shown],
                ("check", "level", "answer"),
            )
        counts = {
            level: sum(a.level == level for a in checked.answers) for level in ("open", "passed", "not applicable")
        }
        why = f" ({', '.join(checked.why)})" if checked.why else ""
        print_line(
            f"evidence: {checked.grade}{why}; " + ", ".join(f"{count} {level}" for level, count in counts.items())
        )
        if checked.rests_on:
            print_line(f"it rests on: {checked.rests_on}; what would raise it: {checked.raised_by}")
        print_line(f"report: {result.report}")
    return print_errors(result.errors, result.first_error) or (3 if checked.grade == "unusable" else 0)
