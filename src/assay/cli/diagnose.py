"""``assay diagnose``: why a model breaks."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.cli.data import load_data
from assay.cli.models import parse_model
from assay.cli.output import print_line, same_command
from assay.diagnostics.context import DiagnosticContext
from assay.diagnostics.registry import select_diagnostics
from assay.diagnostics.trail import Trail, load_trail
from assay.models.fits import check_fit
from assay.models.load import load as load_model
from assay.runs.diagnose import COMMAND, is_diagnosis
from assay.runs.diagnose import diagnose as run_diagnostics
from assay.util.console import console_reporter, print_note
from assay.util.fields import Budget
from assay.util.output_folder import check_claim, out_folder
from assay.util.validate import number, reject, whole


def diagnose(
    model: list[str],
    /,
    *,
    data: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("runs/diagnosis"),
    which: str | None = None,
    eps: Budget = 4 / 255,
    epochs: int = 8,
    limit: int = 256,
    train_limit: int = 2000,
    seed: int = 0,
    quiet: bool = False,
) -> int:
    """Diagnose why a model breaks, or what training does to it.

    Answers are stored as they arrive; after an interrupt, run the same command to resume.

    Parameters
    ----------
    model
        The folder of a training run with a trail (assay train --trail all), or several models as in assay evaluate.
    data
        Where images come from (see: assay ls data); both parts are used.
    out
        The folder: a JSON file each answer, and diagnosis.html.
    which
        Such as learning,stability (see: assay ls diagnostics); by default all that apply.
    eps
        linf budget of the attacks, such as 4/255; universal perturbations have 2.5 times as much.
    epochs
        At most so many epochs of the trail, the first and the last among them.
    limit
        Test images that are attacked.
    train_limit
        Training images for detectors, universal perturbations and as other inputs.
    seed
        Random seed.
    quiet
        No progress.
    """
    command = same_command(diagnose, locals())
    number("eps", eps, least=0)
    whole("epochs", epochs, least=1)
    check_claim(out_folder(out), COMMAND, (), is_diagnosis)
    trail: Trail | None = None
    models = {}
    if len(model) == 1 and Path(model[0]).is_dir():
        trail = load_trail(model[0]).thinned(epochs)
    else:
        models = {name: load_model(path) for name, path in map(parse_model, model)}
        if len(models) < len(model):
            reject("model", "a name for each model, all different (NAME=SPEC)", model)
    select_diagnostics(which, trail=trail is not None)  # reject wrong names before images are read
    test = load_data(data, split="test", limit=limit, seed=seed)
    names = select_diagnostics(which, trail=trail is not None, masks=test.masks is not None)
    for name, network in models.items():
        check_fit(name, network, test)
    train = load_data(data, split="train", limit=train_limit, seed=seed)
    label = Path(model[0]).name if trail is not None else ", ".join(models)
    with console_reporter(quiet=quiet, notes=not quiet) as reporter:
        context = DiagnosticContext(trail, models, train=train, test=test, eps=eps, seed=seed, progress=reporter.work)
        result = run_diagnostics(context, names, out, title=f"Diagnosis of {label}", command=command, reporter=reporter)
    print_line(f"diagnosis: {result.page}")
    for name in result.failed:
        print_note(f"failed: {name} (its section of the page says why); run the same command to try it again")
    return 1 if result.failed else 0
