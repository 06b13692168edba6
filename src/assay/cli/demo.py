"""``assay demo``: train three small models on two data sets, break them, write one report."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.cli.attack_options import AttackOptions, CurveOptions
from assay.cli.output import print_json, print_line, same_command
from assay.cli.results import print_cells
from assay.data.dataset import Dataset
from assay.data.registry import load as load_data
from assay.masks.sources import with_foreground
from assay.report.page import write_report
from assay.runs.evaluate import Question
from assay.runs.evaluate import evaluate as run_evaluation
from assay.runs.executors import Executor, Inline, Local, closing, cpu_count
from assay.runs.interrupts import StopRequest
from assay.runs.retry_queue import QueuedTask, run_queue
from assay.runs.settings import Settings
from assay.store.model_source import ModelSource
from assay.store.summary import summarise
from assay.training.recipe import Recipe
from assay.training.trainer import require_accelerate
from assay.training.trainer import train as run_training
from assay.util.console import console_reporter, print_note
from assay.util.output_folder import claim, out_folder
from assay.util.progress import NoteCallback, ProgressCallback
from assay.util.validate import reject, whole

MODELS = ("clean", "PGD-AT", "AT-Dual")


def demo(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("runs/demo"),
    small: bool = False,
    seed: int = 0,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Train six small models, attack them, and write one report.

    Three to five minutes on two cores, a process each. After an interrupt, run the same command to resume.

    Parameters
    ----------
    out
        The run's folder.
    small
        A run of a few seconds, to check the installation.
    seed
        Random seed.
    json
        Print the summary as JSON.
    quiet
        No progress.
    """
    command, began = same_command(demo, locals()), time.monotonic()
    if whole("seed", seed) >= 2**63:
        reject("seed", "a whole number below 2^63", seed)
    out_folder(out)
    require_accelerate()
    claim(
        out_folder(out),
        "demo",
        ("report.html",),
        adopt=lambda folder: (folder / "scenes").is_dir(),
        remade=("report.html",),
    )
    tasks = {
        (chapter.name, name): TrainingTask(
            images, _recipe(chapter, name, small=small, seed=seed), out / chapter.name / name.lower()
        )
        for chapter in CHAPTERS
        for images in [_images(chapter, "train", small=small)]
        for name in MODELS
    }
    with closing(_executor(small)) as executor:
        train_models(tasks, executor, (lambda _: None) if quiet or json else print_note)
    studies = []
    for chapter in CHAPTERS:
        test = _images(chapter, "test", small=small)
        sources = {name: tasks[chapter.name, name].source for name in MODELS}
        attacks = AttackOptions(None, list(ATTACKS_SHOWN), chapter.eps, chapter.eps_background)
        plans, curve = attacks.plan(), CurveOptions(chapter.curve, chapter.background_curve).plan(attacks)
        if small:
            curve = curve[:2]
        question = Question(
            title=chapter.title,
            data=test,
            plans=plans,
            curve=curve,
            command=command,
        )
        settings = Settings(seed=seed, check_samples=20, checks="fast" if small else "full")
        with console_reporter(quiet=quiet or json, notes=False) as reporter:
            result = run_evaluation(
                {name: source.load() for name, source in sources.items()},
                question,
                out / chapter.name,
                settings=settings,
                reporter=reporter,
                sources=sources,
                executor=_executor(small, reporter.samples),
            )
        if not json:
            print_cells(result)
        if not result.complete:
            print_note("interrupted; run the same command to resume")
            return 128 + result.signal
        studies.append(result.study)
    report = write_report(studies, out / "report.html", title="Six classifiers under attack")
    if json:
        print_json(summarise(studies))
    else:
        print_line(f"\nreport: {report}  ({time.monotonic() - began:.0f} s)")
    return 0


@dataclass(frozen=True)
class DemoDataset:
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
    eps: float
    eps_background: float
    curve: tuple[float, ...]
    background_curve: tuple[float, ...]
    foreground: str
    recipe: Recipe


ATTACKS_SHOWN = (
    "fgsm",
    "pgd:steps=40",
    "apgd:steps=50,loss=dlr",
    "square:queries=150",
    "dual:steps=40",
    "dual-apgd:steps=50",
)
CHAPTERS = (
    DemoDataset(
        name="scenes",
        title="Scenes: an object before a background",
        train="scenes:size=32,count=2400",
        limit=2400,
        test=192,
        eps=4 / 255,
        eps_background=20 / 255,
        curve=(1 / 255, 2 / 255, 8 / 255, 16 / 255),
        background_curve=(4 / 255, 8 / 255, 12 / 255, 32 / 255),
        foreground="data",
        recipe=Recipe(epochs=8, batch=64, rate=2e-3, milestones=(6,), attack_steps=4),
    ),
    DemoDataset(
        name="digits",
        title="Digits: ink and paper",
        train="digits",
        limit=1500,
        test=192,
        eps=0.1,
        eps_background=0.3,
        curve=(0.05, 0.15, 0.2, 0.3),
        background_curve=(0.1, 0.2, 0.4, 0.5),
        foreground="intensity",
        recipe=Recipe(epochs=15, batch=64, rate=2e-3, milestones=(11,), attack_steps=5),
    ),
)


@dataclass(frozen=True)
class TrainingTask:
    """Trains one model; runs on an executor.

    Attributes:
        data: the training images.
        recipe: how.
        folder: where to.
        identity: see `Task`; empty, as the weights do not exist yet.
    """

    data: Dataset
    recipe: Recipe
    folder: Path
    identity: str = ""

    @property
    def passes(self) -> int:
        """Roughly the passes that an image takes, to begin with what takes longest."""
        return self.recipe.epochs * (1 if self.recipe.objective == "clean" else 1 + self.recipe.attack_steps)

    @property
    def source(self) -> ModelSource:
        """Where the model is afterwards."""
        return ModelSource(str(self.folder / "model.safetensors"))

    @property
    def model(self) -> ModelSource:
        """See `Task`: the model to be trained."""
        return self.source

    def run_task(self, progress: ProgressCallback | None = None) -> Path:
        """Train, or resume."""
        run_training(self.data, self.recipe, self.folder)
        return self.folder


def train_models(tasks: Mapping[tuple[str, str], TrainingTask], executor: Executor, note: NoteCallback) -> None:
    """Train the models, as many at once as the executor has room for.

    Raises:
        RuntimeError: a process ended again and again.
    """
    longest_first = sorted(tasks.items(), key=lambda item: -len(item[1].data) * item[1].passes)
    todo = deque(QueuedTask(" ".join(name), task) for name, task in longest_first)
    note(f"training (or reusing) {len(todo)} models: {', '.join(queued.owner for queued in todo)}")
    for queued, result in run_queue(todo, executor, StopRequest()):
        if isinstance(result, Exception):
            raise result
        if result is None and queued.is_exhausted:
            raise RuntimeError(f"{queued.owner}: its worker process died repeatedly (killed, out of memory?)")
        if result is not None:
            note(f"trained: {queued.owner}")


def _executor(small: bool, progress: ProgressCallback | None = None) -> Executor:
    """One worker per processor, at most six; with ``small``, this process."""
    return Inline(progress) if small else Local(min(cpu_count(), len(CHAPTERS) * len(MODELS)))


def _images(chapter: DemoDataset, part: str, *, small: bool) -> Dataset:
    """The chapter's training or test images, with masks."""
    limit = chapter.limit if part == "train" else chapter.test
    images = with_foreground(load_data(chapter.train, split=part, limit=limit), chapter.foreground)
    return images.head({"train": 256, "test": 32}[part]) if small else images


def _recipe(chapter: DemoDataset, name: str, *, small: bool, seed: int) -> Recipe:
    objective = {"clean": "clean", "PGD-AT": "pgd-at", "AT-Dual": "at-dual"}[name]
    recipe = replace(chapter.recipe, seed=seed)
    if small:
        recipe = replace(recipe, epochs=2, milestones=())
    if objective == "clean":
        return recipe
    return replace(recipe, objective=objective, eps=chapter.eps, eps_background=chapter.eps_background)
