"""The input of reports: Study, CellResult, GradeReport, CheckAnswer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from assay.core.outcome import Outcome
from assay.store.certified import CertifiedBudget
from assay.util.text import distinct, plain
from assay.util.validate import described, number, reject

_NAME, _SENTENCE, _PAGE = 120, 600, 4000
ADAPTIVE, NOT_ADAPTIVE = " (adaptive)", " (not adaptive)"
"""What a table adds to the name of an attack on a defence, in the way that it declares or not."""


@dataclass(frozen=True)
class CellResult:
    """One attack on one model.

    Attributes:
        model: name of the model.
        attack: what ran, for a table: ``"PGD-40 linf 8/255"``.
        family: the attack without its budget: ``"PGD linf"``.
        budget: the budget in words: ``"8/255"``, ``"F 4/255, B 20/255"``.
        outcome: what it did to each sample.
        eps: the budget as a number in input units, where it is one.
        curve: cells of one model with the same name here and different ``eps`` form one accuracy–budget curve.
        read_image: the image of a sample, where the outcome does not hold them; None for one that was not kept.
    """

    model: str
    attack: str
    family: str
    budget: str
    outcome: Outcome
    eps: float | None = None
    curve: str | None = None
    read_image: Callable[[int], Tensor | None] | None = None

    def __post_init__(self) -> None:
        if self.eps is not None:
            number("eps", self.eps, least=0)

    @property
    def plain_family(self) -> str:
        """The family without what a table adds for defences."""
        return self.family.removesuffix(ADAPTIVE).removesuffix(NOT_ADAPTIVE)

    def image(self, sample: int) -> Tensor | None:
        """The image after the attack, ``(c, h, w)``; None if it was not kept."""
        result = self.outcome.images[sample] if self.read_image is None else self.read_image(sample)
        return None if result is None else result.detach().cpu().float()

    def outcome_with_images(self, x: Tensor) -> Outcome:
        """The outcome with its images, from where they are kept; a sample whose image was not kept has its clean one.

        Args:
            x: clean images in [0, 1], ``(n, c, h, w)``.
        """
        if self.read_image is None:
            return self.outcome
        images = x.clone()
        for sample in range(len(images)):
            image = self.read_image(sample)
            if image is not None:
                images[sample] = image
        return replace(self.outcome, clean=x, images=images)


@dataclass(frozen=True)
class CheckAnswer:
    """The result of one check, as a report shows it.

    Attributes:
        check: its name, such as ``A6``.
        title: in a few words.
        level: ``issue``, ``warning``, ``open``, ``passed`` or ``not applicable``.
        text: the answer.
        about: the attack that it is about; empty for the model.
    """

    check: str
    title: str
    level: str
    text: str
    about: str = ""


@dataclass(frozen=True)
class GradeReport:
    """The grade of a model's evidence, with reasons and check results.

    Attributes:
        grade: ``unusable``, ``weak``, ``standard`` or ``strong``.
        why: the checks that keep it from the next better one.
        answers: of every check.
        rests_on: what the grade rests on, a sentence; empty in ledgers of before.
        raised_by: what would raise it, a sentence.
    """

    grade: str
    why: tuple[str, ...]
    answers: tuple[CheckAnswer, ...] = ()
    rests_on: str = ""
    raised_by: str = ""


@dataclass(frozen=True)
class Study:
    """Everything that a report shows.

    Attributes:
        title: heading of the report.
        dataset: where the images come from.
        classes: names of the classes; labels beyond them are shown as ``class 7``.
        x: clean images, ``(n, c, h, w)`` in [0, 1], or uint8.
        y: true labels, ``(n,)``.
        masks: foreground masks, ``(n, 1, h, w)``, above 0.5 is foreground; None without.
        saliency: non-negative saliency maps, ``(n, 1, h, w)``, or a function from images ``(b, c, h, w)`` to theirs;
            None without.
        cells: the attacks, each over the same ``n`` samples.
        command: the command that makes the study again.
        facts: versions, hardware, hashes, date.
        warnings: findings about a model, each a sentence.
        headline: the budgets whose cells make the verdict; empty for all of them. Curves reach budgets that nobody
            claims robustness to: list the claimed budgets here.
        grades: what the checks have said of each model, by name.
        certificates: what certifiers have said of each model and budget.

    Raises:
        ValueError: shapes that do not agree, or a cell over other samples.
    """

    title: str
    dataset: str
    classes: tuple[str, ...]
    x: Tensor
    y: Tensor
    masks: Tensor | None
    saliency: Tensor | Callable[[Tensor], Tensor] | None
    cells: tuple[CellResult, ...]
    command: str
    facts: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    headline: tuple[str, ...] = ()
    grades: Mapping[str, GradeReport] = field(default_factory=dict)
    certificates: tuple[CertifiedBudget, ...] = ()

    def __post_init__(self) -> None:
        if self.x.ndim != 4:
            reject("x", "images of shape (n, c, h, w)", described(f"shape {tuple(self.x.shape)}"))
        n, _, h, w = self.x.shape
        _check_shape("y", self.y, (n,))
        for name, extra in (("masks", self.masks), ("saliency", self.saliency)):
            if isinstance(extra, Tensor):
                _check_shape(name, extra, (n, 1, h, w))
        for i, cell in enumerate(self.cells):
            same = cell.outcome.clean.shape == self.x.shape and torch.equal(cell.outcome.y.cpu(), self.y.cpu())
            if not same:
                reject(
                    f"cells[{i}].outcome",
                    f"the same {n} samples as `x` and `y`",
                    described(f"{len(cell.outcome)} of shape {tuple(cell.outcome.clean.shape[1:])} or other labels"),
                )
        budgets = {cell.budget for cell in self.cells}
        for budget in self.headline:
            if budget not in budgets:
                reject("headline", f"budgets of cells ({', '.join(sorted(budgets)) or 'there are none'})", budget)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the order of the cells."""
        return tuple(dict.fromkeys(cell.model for cell in self.cells))

    def of(self, model: str) -> tuple[CellResult, ...]:
        """The cells of one model."""
        return tuple(cell for cell in self.cells if cell.model == model)

    def image(self, sample: int) -> Tensor:
        """A clean image, ``(c, h, w)`` in [0, 1]."""
        result = self.x[sample].detach().cpu()
        return result.float() / 255 if result.dtype == torch.uint8 else result.float()

    def saliency_map(self, sample: int) -> Tensor | None:
        """The saliency map of a sample, ``(1, h, w)``; None without."""
        if self.saliency is None or isinstance(self.saliency, Tensor):
            return None if self.saliency is None else self.saliency[sample]
        return self.saliency(self.image(sample)[None])[0]

    def class_name(self, label: int) -> str:
        """The name of a class; ``class 7`` beyond the names, ``none`` below zero."""
        if label < 0:
            return "none"
        return self.classes[label] if label < len(self.classes) else f"class {label}"


def as_studies(studies: Study | Sequence[Study]) -> tuple[Study, ...]:
    """One study or several as a tuple.

    Args:
        studies: a study, or at least one in a sequence.

    Returns:
        The studies in their order.

    Raises:
        TypeError: something that is not a study.
        ValueError: an empty sequence.
    """
    if isinstance(studies, Study):
        return (studies,)
    if not isinstance(studies, Sequence):
        reject("studies", "a study or a sequence of them", described(type(studies).__name__), error=TypeError)
    for i, study in enumerate(studies):
        if not isinstance(study, Study):
            reject(f"studies[{i}]", "a study", described(type(study).__name__), error=TypeError)
    if not studies:
        reject("studies", "at least one study", described("none"))
    return tuple(studies)


def sanitise_study(study: Study) -> Study:
    """The study with all texts sanitised; distinct names stay distinct.

    Args:
        study: the study as given; its texts may hold anything.

    Returns:
        A copy with cleaned texts. The tensors are shared.
    """
    models = distinct(study.models)
    attacks = distinct(tuple(cell.attack for cell in study.cells))
    budgets = distinct(tuple(cell.budget for cell in study.cells))
    curves = distinct(tuple(cell.curve for cell in study.cells if cell.curve is not None))
    cells = tuple(
        replace(
            cell,
            model=models[cell.model],
            attack=attacks[cell.attack],
            family=plain(cell.family),
            budget=budgets[cell.budget],
            curve=None if cell.curve is None else curves[cell.curve],
            outcome=replace(
                cell.outcome,
                name=plain(cell.outcome.name),
                stages=tuple(plain(stage) for stage in cell.outcome.stages),
                events=tuple(plain(event, _SENTENCE) for event in cell.outcome.events),
                errors={i: plain(text, _SENTENCE) for i, text in cell.outcome.errors.items()},
            ),
        )
        for cell in study.cells
    )
    return replace(
        study,
        title=plain(study.title, _NAME),
        dataset=plain(study.dataset, _NAME),
        classes=tuple(plain(name, _NAME) for name in study.classes),
        cells=cells,
        command=plain(study.command, _PAGE, lines=True),
        facts={plain(name, _NAME): plain(value, _SENTENCE) for name, value in study.facts.items()},
        warnings=tuple(plain(text, _SENTENCE) for text in study.warnings),
        headline=tuple(budgets[budget] for budget in study.headline),
        grades={models[name]: _sanitise_report(report) for name, report in study.grades.items() if name in models},
    )


def _sanitise_report(report: GradeReport) -> GradeReport:
    answers = tuple(
        replace(a, title=plain(a.title), text=plain(a.text, _SENTENCE), about=plain(a.about) if a.about else "")
        for a in report.answers
    )
    return replace(report, grade=plain(report.grade), answers=answers)


def _check_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape:
        reject(name, f"shape {shape}, to go with `x`", described(f"shape {tuple(value.shape)}"))
