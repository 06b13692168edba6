"""``assay evaluate``: the main job."""

import shlex
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from assay.attacks.plan import Planned, plan
from assay.attacks.plan import curve as curve_of
from assay.attacks.registry import SUITES
from assay.cli.data import load_data
from assay.cli.models import check_fit, named, require_same
from assay.cli.output import note, teller
from assay.cli.results import refused, show
from assay.core.combinators import unfold
from assay.core.types import NORMS
from assay.data import Dataset
from assay.masks.sources import FOREGROUNDS, with_foreground
from assay.runs import Question, Settings
from assay.runs import evaluate as run_evaluation
from assay.runs.executors import Local
from assay.runs.settings import device_of
from assay.runs.starts import check_start
from assay.store.lock import require_own
from assay.store.model_source import Source
from assay.trust.grade import GRADES
from assay.util.output_folder import out_folder
from assay.util.parse import parse_number
from assay.util.progress import watched
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
    budget: int | None = None,
    device: str = "auto",
    title: str | None = None,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Measure robust accuracy: attack classifiers and write a report.

    The same command resumes an evaluation that was interrupted.

    Results are kept as they come: after an interrupt the same command goes on.

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
        Attack the defence as if it were not known; the numbers are labelled so.
    checks
        How much is checked when all is done, for the grade: full, fast (without what attacks anew) or none.
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
        Of all random draws, and of the choice of images.
    slots
        Most rows in flight.
    search
        float32 or bfloat16; hits are re-measured in float32 in either case.
    stop
        hit or never.
    start
        What attacks by labels alone start from: random (images), data (for each sample the nearest image of another
        class), or a data set such as npz:FILE. A sample without a start is not run.
    budget
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
    _check_words(require, foreground, seed, workers)
    settings = Settings(slots=slots, search=search, stop=stop, seed=seed, device=device_of(device), budget=budget,
                        adaptive=not unadapted, checks=checks, start=start)  # fmt: skip
    require_own(out_folder(out))
    # Masks in a folder are named by a sample's number in the whole test part, so they come before the limit.
    numbered = foreground.startswith("folder:")
    loaded = load_data(data, split="test", limit=None if numbered else limit, seed=seed)
    plans, curves = planned(
        suite, attack, eps, eps_background, norm, eps_curve=curve, background_curve=curve_background,
        foreground_curve=curve_foreground,
    )  # fmt: skip
    if any("mask" in stage.attack.needs for part in (*plans, *curves) for stage in unfold(part.attack)):
        loaded = with_foreground(loaded, foreground)
    loaded = loaded.head(limit, seed)
    check_start(start, loaded)
    recipe = {"arch": arch, "channels": loaded.x.shape[1], "classes": len(loaded.classes), "size": loaded.x.shape[2]}
    sources = {}
    for spec in model:
        name, path = named(spec)
        if name in sources:
            reject("model", "a name for each model, all different (NAME=SPEC)", name)
        sources[name] = Source(path, tuple(recipe.items()) if arch else (), defence)
    models = {name: source.make() for name, source in sources.items()}
    odd = [check_fit(name, model, loaded, settings.device) for name, model in models.items()]
    for name, network in models.items():
        require_same(sources[name], network)
    note(f"data: {loaded.name or data}, {len(loaded)} images are attacked")
    for sentence in filter(None, (_said_of_classes(loaded), *odd)):
        note(sentence)
    question = Question(
        title=title or f"{', '.join(models)} on {loaded.name or data}",
        data=loaded,
        plans=plans,
        curve=curves,
        command=_command(_flags(model, data, out, suite, attack, eps, eps_background, norm, curve, foreground,
                                limit, arch, seed, slots, search, stop, curve_background, curve_foreground, budget,
                                defence, True if unadapted else None, None if checks == "full" else checks,
                                None if device == "auto" else device, title, None if start == "random" else start)),
    )  # fmt: skip
    with watched(quiet=quiet or json) as progress:
        found = run_evaluation(
            models, question, out, settings=settings, progress=progress, notice=note, sources=sources,
            executor=Local(workers) if workers else None, told=teller(quiet or json),
        )  # fmt: skip
    return show(found, json=json) or refused(found.grades, require)


def _check_words(require: str | None, foreground: str, seed: int, workers: int) -> None:
    """Refuse words that would otherwise be looked at late, or only by some attacks."""
    if require is not None:
        one_of("require", require, GRADES)
    if foreground not in FOREGROUNDS and not foreground.startswith("folder:"):
        reject("foreground", ", ".join(FOREGROUNDS) + " or folder:PATH",
               described(repr(foreground) + nearest(foreground, FOREGROUNDS)))  # fmt: skip
    folder = foreground.removeprefix("folder:")
    if folder != foreground and (not folder.strip() or not Path(folder).is_dir()):
        reject("folder", "a folder of mask images", folder)
    if whole("seed", seed) >= 2**63:
        reject("seed", "a whole number below 2^63", seed)
    whole("workers", workers)


def _said_of_classes(data: Dataset) -> str:
    """A sentence where all images are of one class: untargeted attacks are easy to misread there."""
    there = data.y.unique()
    return "" if len(there) > 1 else f"data: all images are of one class, {data.classes[int(there[0])]!r}"


def planned(
    suite: str | None,
    attack: list[str] | None,
    eps: str,
    eps_background: str | None,
    norm: str,
    *,
    eps_curve: str | None = None,
    background_curve: str | None = None,
    foreground_curve: str | None = None,
) -> tuple[list[Planned], list[Planned]]:
    """The attacks asked for, and those of the curves."""
    if suite is not None:
        one_of("suite", suite, tuple(SUITES))
    radius = _number("eps", eps)
    background = None if eps_background is None else _number("eps_background", eps_background)
    names = [*(SUITES[suite] if suite else ()), *(attack or ())] or list(SUITES["quick"])
    one_of("norm", norm, NORMS)
    plans = [_plan(name, eps=radius, norm=norm, eps_background=background) for name in names]
    wide = 5 * radius if background is None else background
    points: list[Planned] = []
    for vary, text, own in (
        ("eps", eps_curve, radius),
        ("background", background_curve, wide),
        ("foreground", foreground_curve, radius),
    ):
        budgets = [_number("curve", part) for part in (text or "").split(",") if part.strip()]
        if budgets:
            points += curve_of([*budgets, own], vary, eps=radius, norm=norm, eps_background=background)
    return plans, points


def _plan(spec: str, **common: Any) -> Planned:
    """An attack; what is wrong with a value that all attacks get is told by the flag's name."""
    try:
        return plan(spec, **common)
    except (ValueError, TypeError) as error:
        name, _, options = spec.partition(":")
        for flag in common:
            if str(error).startswith(f"{name}:{flag}: ") and f"{flag}=" not in options:
                raise ValueError(str(error).removeprefix(f"{name}:")) from error
        raise


def _number(name: str, text: str) -> float:
    try:
        value = parse_number(text)
    except ValueError:
        return reject(name, "a number or a fraction such as 8/255", text)
    return value if value >= 0 else reject(name, "a number that is at least 0, or a fraction such as 8/255", text)


def _flags(*values: object) -> dict[str, object]:
    """Pair the flags of the command with their values, in the order of the flags."""
    names = ("model", "data", "out", "suite", "attack", "eps", "eps-background", "norm", "curve", "foreground",
             "limit", "arch", "seed", "slots", "search", "stop", "curve-background", "curve-foreground",
             "budget", "defence", "unadapted", "checks", "device", "title", "start")  # fmt: skip
    return dict(zip(names, values, strict=True))


def _command(values: dict[str, object]) -> str:
    """The command that asks the question again."""
    words = ["assay", "evaluate"]
    for name, value in values.items():
        if value is None:
            continue
        for item in value if isinstance(value, list) else [value]:
            words += [f"--{name}"] if item is True else [f"--{name}", str(item)]
    return shlex.join(words)
