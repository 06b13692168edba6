"""``assay demo``: train three small models on two data sets, break them, write one report."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from torch import nn

from assay.cli.evaluate import planned
from assay.cli.output import emit, note, say
from assay.cli.results import show_cells
from assay.cli.train import tell
from assay.core.numbers import parse_number
from assay.core.progress import watched
from assay.data import Dataset
from assay.data import load as load_data
from assay.report import summary, write_report
from assay.runs import Question, Settings
from assay.runs import evaluate as run_evaluation
from assay.runs.foreground import with_foreground
from assay.training import Recipe
from assay.training import train as run_training

MODELS = ("clean", "PGD-AT", "AT-Dual")


def demo(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("runs/demo"),
    small: bool = False,
    seed: int = 0,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Train clean, PGD-AT and AT-Dual models on scenes and digits, attack them all, write one report.

    About four minutes on two cores. After an interrupt the same command goes on.

    Parameters
    ----------
    out
        The run's folder.
    small
        A few seconds' worth, to see that everything works.
    seed
        Of everything random.
    json
        Print the summary as JSON.
    quiet
        No progress.
    """
    began = time.monotonic()
    found = []
    for chapter in CHAPTERS:
        data, models = _trained(chapter, out, small=small, seed=seed, quiet=quiet or json)
        plans, curve = planned(
            None, list(ATTACKS_SHOWN), chapter.eps, chapter.eps_background, "linf", eps_curve=chapter.curve,
            background_curve=chapter.background_curve,
        )  # fmt: skip
        if small:
            curve = curve[:2]
        question = Question(
            title=chapter.title,
            data=data,
            plans=plans,
            curve=curve,
            command=f"assay demo --out {out} --seed {seed}" + (" --small" if small else ""),
        )
        settings = Settings(seed=seed, checked=24, checks="fast" if small else "full")
        with watched(quiet=quiet or json) as progress:
            result = run_evaluation(
                models, question, out / chapter.name, settings=settings, progress=progress, notice=_silent
            )
        if not json:
            show_cells(result)
        if not result.complete:
            note("interrupted; the same command goes on")
            return 128 + result.signal
        found.append(result.study)
    report = write_report(found, out / "report.html", title="Six classifiers under attack")
    if json:
        emit(summary(found))
    else:
        say(f"\nreport: {report}  ({time.monotonic() - began:.0f} s)")
    return 0


@dataclass(frozen=True)
class Chapter:
    """One data set of the demo.

    Attributes:
        name: folder.
        title: heading.
        train: data spec of the training images.
        limit: training images at most.
        test: test images at most.
        eps: budget, the foreground's for dual attacks.
        eps_background: background budget.
        curve: further budgets.
        background_curve: further background budgets.
        foreground: where masks come from.
        recipe: how to train; objective and budgets are filled in.
    """

    name: str
    title: str
    train: str
    limit: int
    test: int
    eps: str
    eps_background: str
    curve: str
    background_curve: str
    foreground: str
    recipe: Recipe


ATTACKS_SHOWN = ("fgsm", "pgd:steps=40", "apgd:steps=50", "dual:steps=40", "dual-apgd:steps=50")
CHAPTERS = (
    Chapter(
        name="scenes",
        title="Scenes: an object before a background",
        train="scenes:size=32,count=2400",
        limit=2400,
        test=400,
        eps="4/255",
        eps_background="20/255",
        curve="1/255,2/255,8/255,16/255",
        background_curve="4/255,8/255,12/255,32/255",
        foreground="data",
        recipe=Recipe(epochs=12, batch=64, rate=2e-3, milestones=(9,), attack_steps=5),
    ),
    Chapter(
        name="digits",
        title="Digits: ink and paper",
        train="digits",
        limit=1500,
        test=300,
        eps="0.1",
        eps_background="0.3",
        curve="0.05,0.15,0.2,0.3",
        background_curve="0.1,0.2,0.4,0.5",
        foreground="intensity",
        recipe=Recipe(epochs=15, batch=64, rate=2e-3, milestones=(11,), attack_steps=5),
    ),
)


def _trained(
    chapter: Chapter, out: Path, *, small: bool, seed: int, quiet: bool
) -> tuple[Dataset, dict[str, nn.Module]]:
    """The chapter's test images and its three models, trained or taken from the folder."""
    data = with_foreground(load_data(chapter.train, split="train", limit=chapter.limit), chapter.foreground)
    test = with_foreground(load_data(chapter.train, split="test", limit=chapter.test), chapter.foreground)
    if small:
        data, test = data.head(256), test.head(32)
    models: dict[str, nn.Module] = {}
    for name in MODELS:
        recipe = _recipe(chapter, name, small=small, seed=seed)
        note(f"{chapter.name}: training {name}")
        trained = run_training(data, recipe, out / chapter.name / name.lower(), progress=None if quiet else tell)
        models[name] = trained.model
    return test, models


def _recipe(chapter: Chapter, name: str, *, small: bool, seed: int) -> Recipe:
    objective = {"clean": "clean", "PGD-AT": "pgd-at", "AT-Dual": "at-dual"}[name]
    recipe = replace(chapter.recipe, seed=seed)
    if small:
        recipe = replace(recipe, epochs=2, milestones=())
    if objective == "clean":
        return recipe
    eps, background = parse_number(chapter.eps), parse_number(chapter.eps_background)
    return replace(recipe, objective=objective, eps=eps, eps_background=background)


def _silent(_: str) -> None:
    """The demo prints its own table."""
