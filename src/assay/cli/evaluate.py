"""``assay evaluate``: measure robust accuracy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.attacks.plan import Planned
from assay.attacks.registry import SUITES
from assay.certify.registry import certifiers
from assay.cli.attack_options import AttackOptions, CurveOptions
from assay.cli.data import load_data
from assay.cli.models import parse_model, require_deterministic
from assay.cli.output import same_command
from assay.cli.results import accuracy_exit_code, grade_exit_code, print_results
from assay.core.combinators import unfold
from assay.data.dataset import Dataset
from assay.masks.sources import FOREGROUNDS, with_foreground
from assay.models.fits import check_fit
from assay.runs.evaluate import Question
from assay.runs.evaluate import evaluate as run_evaluation
from assay.runs.executors import Local
from assay.runs.settings import Settings
from assay.runs.starts import check_start
from assay.store.lock import require_own_folder
from assay.store.model_source import ModelSource
from assay.trust.grading import GRADES
from assay.util.console import console_reporter, print_note
from assay.util.output_folder import out_folder
from assay.util.validate import described, nearest, number, one_of, reject, whole


def evaluate(
    *,
    model: list[str],
    data: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("runs/evaluation"),
    attacks: Annotated[AttackOptions, Parameter(name="*")] = AttackOptions(),
    curves: Annotated[CurveOptions, Parameter(name="*")] = CurveOptions(),
    foreground: str = "auto",
    defence: str | None = None,
    certify: str | None = None,
    limit: int | None = None,
    arch: str | None = None,
    settings: Annotated[Settings, Parameter(name="*")] = Settings(),
    title: str | None = None,
    require: str | None = None,
    fail_under: float | None = None,
    workers: int = 0,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Measure robust accuracy: attack classifiers and write a report.

    Without --suite and --attack it runs the suite quick. The same command resumes an evaluation that was interrupted.

    Parameters
    ----------
    model
        A weights file (.safetensors, .pt, .pth, .pth.tar, .ckpt, .bin), package.module:factory, timm:NAME,
        torchvision:NAME or hf:ORG/NAME; NAME=SPEC gives it a name. Repeat for several models.
    data
        Where images come from, such as digits, scenes, npz:FILE or folder:PATH (see: assay ls data).
    out
        The run's folder.
    foreground
        Where masks come from for dual attacks: data, saliency, intensity, a folder of mask images
        (folder:PATH, files named by the sample's number in the test part, from 0), or auto (data, else saliency).
    defence
        A defence around every model, such as jpeg:quality=50 or smoothing:sigma=0.25 (see: assay ls defences). It is
        attacked in the way that it declares, and the report says how.
    certify
        Certifiers that bound every model from below at the attacks' budgets, one after another on what those before
        them left open: ibp,crown or branch-and-bound:seconds=10 (see: assay ls certifiers).
    require
        Exit with 3 if a model's grade is below this: weak, standard, strong or closed.
    fail_under
        Exit with 3 if a model's robust accuracy is below so many per cent, such as 40.
    workers
        Processes that attack; 0 for this one.
    limit
        At most so many images, classes as even as they can be.
    arch
        Architecture of a weights file that does not say it: a name (see: assay ls models), with :normalize=NAME behind
        it for weights of other programs (resnet18:normalize=imagenet), or package.module:Class of your own.
    title
        Heading of the report.
    json
        Print the summary as JSON.
    quiet
        No progress.
    """
    command = same_command(evaluate, locals())
    _check_choices(require, foreground, workers)
    if fail_under is not None:
        number("fail_under", fail_under, least=0, most=100)
    if certify is not None:
        certifiers(certify)
    settings = settings.on_this_machine()
    require_own_folder(out_folder(out))
    plans, curve_plans = attacks.plan(*SUITES["quick"]), curves.plan(attacks)
    dataset = _load_images(data, foreground, limit, settings.seed, [*plans, *curve_plans])
    check_start(settings.start, dataset)
    sources = _sources_of(model, arch, defence, dataset)
    models = {name: source.load() for name, source in sources.items()}
    warnings = [check_fit(name, model, dataset, settings.device) for name, model in models.items()]
    for name, network in models.items():
        require_deterministic(sources[name], network)
    print_note(f"data: {dataset.name or data}, {len(dataset)} images are attacked")
    for sentence in filter(None, (_single_class_note(dataset), *warnings)):
        print_note(sentence)
    question = Question(
        title=title or f"{', '.join(models)} on {dataset.name or data}",
        data=dataset,
        plans=plans,
        curve=curve_plans,
        command=command,
        certify=certify or (),
    )
    with console_reporter(quiet=quiet or json) as reporter:
        result = run_evaluation(
            models,
            question,
            out,
            settings=settings,
            reporter=reporter,
            sources=sources,
            executor=Local(workers) if workers else None,
        )
    code = print_results(result, json=json)
    return code or max(grade_exit_code(result.grades, require), accuracy_exit_code(result, fail_under))


def _load_images(data: str, foreground: str, limit: int | None, seed: int, plans: Sequence[Planned]) -> Dataset:
    """The test images, with foreground masks if an attack needs them."""
    numbered = foreground.startswith("folder:")  # masks are named by a sample's number, before the limit
    dataset = load_data(data, split="test", limit=None if numbered else limit, seed=seed)
    if any("mask" in stage.attack.needs for planned in plans for stage in unfold(planned.attack)):
        dataset = with_foreground(dataset, foreground)
    return dataset.head(limit, seed)


def _sources_of(specs: Sequence[str], arch: str | None, defence: str | None, data: Dataset) -> dict[str, ModelSource]:
    """Where the models come from, by name."""
    recipe = {"arch": arch, "channels": data.x.shape[1], "classes": len(data.classes), "size": data.x.shape[2]}
    sources: dict[str, ModelSource] = {}
    for spec in specs:
        name, path = parse_model(spec)
        if name in sources:
            reject("model", "a name for each model, all different (NAME=SPEC)", name)
        sources[name] = ModelSource(path, tuple(recipe.items()) if arch else (), defence)
    return sources


def _check_choices(require: str | None, foreground: str, workers: int) -> None:
    """Validate options early that are otherwise checked late, or only by some attacks."""
    if require is not None:
        one_of("require", require, GRADES)
    if foreground not in FOREGROUNDS and not foreground.startswith("folder:"):
        reject(
            "foreground",
            ", ".join(FOREGROUNDS) + " or folder:PATH",
            described(repr(foreground) + nearest(foreground, FOREGROUNDS)),
        )
    folder = foreground.removeprefix("folder:")
    if folder != foreground and (not folder.strip() or not Path(folder).is_dir()):
        reject("folder", "a folder of mask images", folder)
    whole("workers", workers)


def _single_class_note(data: Dataset) -> str:
    """A sentence where all images are of one class: untargeted attacks are easy to misread there."""
    there = data.y.unique()
    return "" if len(there) > 1 else f"data: all images are of one class, {data.classes[int(there[0])]!r}"
