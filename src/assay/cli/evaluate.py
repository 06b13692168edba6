"""``assay evaluate``: measure robust accuracy."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.attacks.plan import Planned
from assay.cli.attack_options import plan_attacks
from assay.cli.data import load_data
from assay.cli.models import check_fit, parse_model, require_deterministic
from assay.cli.output import print_note, progress_printer
from assay.cli.results import grade_exit_code, print_results
from assay.core.combinators import unfold
from assay.data import Dataset
from assay.masks.sources import FOREGROUNDS, with_foreground
from assay.runs import Question, Settings
from assay.runs import evaluate as run_evaluation
from assay.runs.executors import Local
from assay.runs.settings import device_of
from assay.runs.starts import check_start
from assay.store.lock import require_own_folder
from assay.store.model_source import ModelSource
from assay.trust.grade import GRADES
from assay.util.output_folder import out_folder
from assay.util.progress import show_progress
from assay.util.validate import described, nearest, one_of, reject, whole


def evaluate(
    *,
    model: list[str],
    data: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("runs/evaluation"),
    suite: str | None = None,
    attack: list[str] | None = None,
    eps: str = "8/255",
    eps_background: str | None = None,
    norm: str = "linf",
    curve: str | None = None,
    curve_background: str | None = None,
    curve_foreground: str | None = None,
    foreground: str = "auto",
    defence: str | None = None,
    unadapted: bool = False,
    checks: str = "full",
    require: str | None = None,
    workers: int = 0,
    limit: int | None = None,
    arch: str | None = None,
    seed: int = 0,
    slots: int = 256,
    search: str = "float32",
    stop: str = "hit",
    start: str = "random",
    max_forwards: Annotated[int | None, Parameter(name=("--max-forwards", "--max-queries"))] = None,
    device: str = "auto",
    title: str | None = None,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Measure robust accuracy: attack classifiers and write a report.

    The same command resumes an evaluation that was interrupted.

    (delete: repeats the sentence before it)

    Parameters
    ----------
    model
        A weights file (.safetensors, .pt, .pth, .pth.tar, .ckpt, .bin), package.module:factory, timm:NAME,
        torchvision:NAME or hf:ORG/NAME; NAME=SPEC gives it a name. Repeat for several models.
    data
        Where images come from, such as digits, scenes, npz:FILE or folder:PATH (see: assay ls data).
    out
        The run's folder.
    suite
        Attacks that belong together: quick, gradient, dual, standard, fast, sparse or randomised (default quick).
    attack
        An attack, such as pgd:steps=100,restarts=5 (see: assay ls attacks). Repeat for several.
    eps
        Budget in input units, such as 8/255; the foreground's for dual attacks, a number of values for sparse ones.
        Attacks in another norm than --norm take a budget of their own (fmn:norm=l2,eps=0.5), or none.
    eps_background
        Background budget of dual attacks (default five times eps).
    norm
        Norm of eps: linf, l2 or l1.
    curve
        Further budgets for a PGD-20 curve, such as 2/255,4/255,16/255. They do not count in the verdict.
    curve_background
        Background budgets for a dual-perturbation curve at the foreground budget eps.
    curve_foreground
        Foreground budgets for one at the background budget.
    foreground
        Where masks come from for dual attacks: data, salience, intensity, a folder of mask images
        (folder:PATH, files named by the sample's number in the test part, from 0), or auto (data, else salience).
    defence
        A defence around every model, such as jpeg:quality=50 or smoothing:sigma=0.25 (see: assay ls defences). It is
        attacked in the way that it declares, and the report says how.
    unadapted
        Attack without knowledge of the defence; the report says so.
    checks
        Trust checks that decide the grade: full, fast (no reruns of attacks) or none.
    require
        Exit with 3 if a model's grade is below this: weak, standard or strong.
    workers
        Processes that attack; 0 for this one.
    limit
        At most so many images, classes as even as they can be.
    arch
        Architecture of a weights file that does not say it: a name (see: assay ls models), with :normalize=NAME behind
        it for weights of other programs (resnet18:normalize=imagenet), or package.module:Class of your own.
    seed
        Random seed, also for the choice of images.
    slots
        Most rows in flight.
    search
        float32 or bfloat16; hits are re-measured in float32 in either case.
    stop
        Stop at the first adversarial example (hit), or never.
    start
        Starting images of label-only attacks: random (images), data (for each sample the nearest image of another
        class), or a data set such as npz:FILE. A sample without a start is not run.
    max_forwards
        Most forward passes (queries) that an attack may spend on a sample; it is never exceeded.
    device
        auto, cpu, cuda, cuda:1, mps.
    title
        Heading of the report.
    json
        Print the summary as JSON.
    quiet
        No progress.
    """
    _check_choices(require, foreground, seed, workers)
    settings = Settings(
        slots=slots,
        search=search,
        stop=stop,
        seed=seed,
        device=device_of(device),
        max_forwards=max_forwards,
        adaptive=not unadapted,
        checks=checks,
        start=start,
    )
    require_own_folder(out_folder(out))
    plans, curves = plan_attacks(
        suite,
        attack,
        eps,
        eps_background,
        norm,
        eps_curve=curve,
        background_curve=curve_background,
        foreground_curve=curve_foreground,
    )
    dataset = _load_images(data, foreground, limit, seed, [*plans, *curves])
    check_start(start, dataset)
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
        curve=curves,
        command=_command(
            _flags(
                model,
                data,
                out,
                suite,
                attack,
                eps,
                eps_background,
                norm,
                curve,
                foreground,
                limit,
                arch,
                seed,
                slots,
                search,
                stop,
                curve_background,
                curve_foreground,
                max_forwards,
                defence,
                True if unadapted else None,
                None if checks == "full" else checks,
                None if device == "auto" else device,
                title,
                None if start == "random" else start,
            )
        ),
    )
    with show_progress(quiet=quiet or json) as progress:
        result = run_evaluation(
            models,
            question,
            out,
            settings=settings,
            progress=progress,
            notice=print_note,
            sources=sources,
            executor=Local(workers) if workers else None,
            check_progress=progress_printer(quiet or json),
        )
    return print_results(result, json=json) or grade_exit_code(result.grades, require)


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


def _check_choices(require: str | None, foreground: str, seed: int, workers: int) -> None:
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
    if whole("seed", seed) >= 2**63:
        reject("seed", "a whole number below 2^63", seed)
    whole("workers", workers)


def _single_class_note(data: Dataset) -> str:
    """A sentence where all images are of one class: untargeted attacks are easy to misread there."""
    there = data.y.unique()
    return "" if len(there) > 1 else f"data: all images are of one class, {data.classes[int(there[0])]!r}"


def _flags(*values: object) -> dict[str, object]:
    """Pair the flags of the command with their values, in the order of the flags."""
    names = (
        "model",
        "data",
        "out",
        "suite",
        "attack",
        "eps",
        "eps-background",
        "norm",
        "curve",
        "foreground",
        "limit",
        "arch",
        "seed",
        "slots",
        "search",
        "stop",
        "curve-background",
        "curve-foreground",
        "max-forwards",
        "defence",
        "unadapted",
        "checks",
        "device",
        "title",
        "start",
    )
    return dict(zip(names, values, strict=True))


def _command(values: dict[str, object]) -> str:
    """The command that repeats the evaluation."""
    arguments = ["assay", "evaluate"]
    for name, value in values.items():
        if value is None:
            continue
        for item in value if isinstance(value, list) else [value]:
            arguments += [f"--{name}"] if item is True else [f"--{name}", str(item)]
    return shlex.join(arguments)
