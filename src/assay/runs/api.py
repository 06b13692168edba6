"""One call from Python that ends in a report."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from assay.attacks.plan import Planned, describe_plan, plan
from assay.attacks.plan import curve as curve_of
from assay.attacks.registry import SUITES
from assay.core.combinators import AnyAttack, unfold
from assay.core.types import Eps
from assay.data.convert import as_dataset
from assay.data.dataset import Dataset
from assay.masks.sources import with_foreground
from assay.models.fits import check_fit
from assay.models.load import load as load_model
from assay.runs.evaluate import Evaluation, Question
from assay.runs.evaluate import evaluate as evaluate_question
from assay.runs.settings import Settings
from assay.store.model_source import ModelSource
from assay.util.console import console_reporter
from assay.util.validate import radius, reject

Model = nn.Module | Callable[[Tensor], Any] | str
"""A classifier: a module, a callable such as `assay.QueryModel`, or a spec such as ``"model.safetensors"``."""


def evaluate(
    model: Model | Mapping[str, Model],
    data: Any,
    *,
    eps: Eps = "8/255",
    norm: str = "linf",
    attacks: str | AnyAttack | Sequence[str | AnyAttack] = "quick",
    out: str | Path = "runs/evaluation",
    curve: Sequence[Eps] = (),
    certify: str | Sequence[str] = (),
    mask: Tensor | None = None,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    title: str | None = None,
    settings: Settings | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Attack a classifier on labelled images, grade the result, and write a report.

    The same call resumes an evaluation that was interrupted, and reuses what is finished.

    Args:
        model: maps images ``(b, c, h, w)`` in [0, 1] to logits ``(b, k)``, and owns its normalisation
            (`assay.models.Normalize`); or several by name. A text is loaded as by `assay.models.load`.
        data: images and labels, in any form that `assay.data.as_dataset` takes: ``(x, y)`` of tensors or NumPy arrays,
            a ``DataLoader``, a spec such as ``"folder:photos"``.
        eps: budget in input units, such as ``8/255`` or ``"8/255"``.
        norm: of the budget: ``"linf"``, ``"l2"`` or ``"l1"``.
        attacks: a suite (``"quick"``, ``"fast"``, ``"standard"``, …), an attack as the command line writes it
            (``"pgd:steps=100"``), an attack (``assay.PGD(8 / 255)``), or several of them.
        out: the run's folder, new, empty or its own; ``report.html`` is written there.
        curve: further budgets for an accuracy–budget curve.
        certify: certifiers that bound the model from below, such as ``"ibp, crown"``.
        mask: foreground ``(n, 1, h, w)``, for attacks that need one; by default the data's, else a saliency map.
        classes: class names in the order of the labels.
        limit: at most so many images, classes as even as they can be.
        title: heading of the report.
        settings: how to run: device, seed, checks, ….
        quiet: no progress and notes on standard error.

    Returns:
        The evaluation: ``print`` shows the table, ``.robust_accuracy`` is the worst case over all attacks of the one
        model, ``.grades`` how far each can be believed, ``.report`` the HTML file, ``.outcomes`` the images.

    Raises:
        TypeError, ValueError: a wrong argument, by name; a model that does not take the images.

    Example:
        >>> import tempfile
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> settings = Settings(checks="none")
        >>> result = evaluate(model, "digits", attacks="fgsm", limit=20, out=tempfile.mkdtemp(), settings=settings)
        >>> result.report.name
        'report.html'
    """
    budget, dataset = radius("eps", eps), as_dataset(data, masks=mask, classes=classes).head(limit)
    plans = _plans(attacks, budget, norm)
    curves = curve_of([*(radius("curve", e) for e in curve), budget], "eps", eps=budget, norm=norm) if curve else []
    if any("mask" in stage.attack.needs for planned in plans for stage in unfold(planned.attack)):
        dataset = with_foreground(dataset, "auto")
    settings = (settings or Settings()).on_this_machine()
    models, sources = _models(model)
    question = Question(title or _title(models, dataset), dataset, plans, curves, certify=certify)
    with console_reporter(quiet=quiet, notes=not quiet) as reporter:
        for name, network in models.items():
            if isinstance(network, nn.Module):
                odd = check_fit(name, network, dataset, settings.device)
                if odd:
                    reporter.note(odd)
        return evaluate_question(models, question, out, settings=settings, reporter=reporter, sources=sources)


def _plans(attacks: str | AnyAttack | Sequence[str | AnyAttack], eps: float, norm: str) -> list[Planned]:
    """The attacks with their words; a suite stands for its own."""
    wanted: Sequence[Any] = attacks if isinstance(attacks, list | tuple) else [attacks]
    if not wanted:
        reject("attacks", "at least one attack or suite", attacks)
    plans: list[Planned] = []
    for each in wanted:
        if not isinstance(each, str):
            plans.append(describe_plan(each))
            continue
        plans += [plan(spec, eps=eps, norm=norm) for spec in SUITES.get(each, (each,))]
    return plans


def _models(
    model: Model | Mapping[str, Model],
) -> tuple[dict[str, nn.Module | Callable[[Tensor], Any]], dict[str, ModelSource]]:
    """Classifiers by name, and where other processes get those that were named by a spec."""
    if isinstance(model, Mapping):
        named = dict(model)
    else:
        named = {Path(model).stem or model if isinstance(model, str) else "model": model}
    if not named:
        reject("model", "at least one classifier", model)
    sources = {name: ModelSource(each) for name, each in named.items() if isinstance(each, str)}
    loaded = {name: load_model(each) if isinstance(each, str) else each for name, each in named.items()}
    return loaded, sources


def _title(models: Mapping[str, object], data: Dataset) -> str:
    return f"{', '.join(models)} on {data.name or 'data'}"
