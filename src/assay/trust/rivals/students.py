"""C15: images made on students of the model, fitted to its answers on the spot, find nothing that was missed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.pgd import PGD
from assay.core.model_state import preserve_state
from assay.core.types import Images, Labels
from assay.models.small import tiny_cnn
from assay.parts.balls import Ball, Split
from assay.trust.again import require_finished
from assay.trust.answer import CheckResult, not_applicable, passed, worst_result
from assay.trust.budgets import balls_or_regions
from assay.trust.context import CheckContext
from assay.trust.rivals.hits import judge
from assay.trust.rivals.inner_layers import InnerLayer, inner_scores, layer_values
from assay.trust.rivals.stored_images import forms_of

_ROUNDS, _STEPS, _TRIED, _POOL = 4, 15, 32, 512
_FIRST_FIT, _LATER_FIT, _BATCH = 120, 25, 64
_LAYERS, _SCORES = 2, 2
_SMALLEST = 8


@dataclass(frozen=True)
class Student:
    """What is attacked in a model's place.

    Attributes:
        kind: what it is, for a sentence.
        network: maps images to logits.
        head: the part of it that is fitted to the model's answers, its last; None where it is taken as it is.
        features: maps images to what goes into that part.
    """

    kind: str
    network: nn.Module
    head: nn.Module | None = None
    features: Callable[[Images], Tensor] = lambda x: x


def beats_student(context: CheckContext) -> CheckResult:
    """C15: images made on students of the model find nothing that the attacks have missed.

    The students are a small network, read-outs of up to two layers of the model, and up to two layers inside it that
    give its classes and are not its outputs, taken as they are: what is made of them may hide where they cross. Each of
    the others is fitted to the model's classes on the images, on noise about them and on the images that were made on
    it. All are attacked by PGD four times, and what comes of it is tried as it is and as 8-bit images. The model itself
    is only asked for classes. Two regions are asked about where no ball is claimed: what misleads in one misleads in
    the other.

    Source: Papernot, McDaniel, Goodfellow et al., "Practical black-box attacks against machine learning", AsiaCCS 2017,
    for a substitute that is fitted to answers and to images made on itself. What layers give is our own: where the
    outputs are masked, what goes into them seldom is.
    """
    budgets = balls_or_regions(context.budgets)
    if not budgets or not len(context.chosen):
        return not_applicable("no attack has a ball, or two regions, as its budget")
    answer = context.memory["C15"] = worst_result(tuple(_within(context, budget) for budget in budgets))
    return answer


def rehearse_students(context: CheckContext) -> None:
    """What C15 attacks, of read-outs that are not fitted: see `Check.rehearse`."""
    for budget in balls_or_regions(context.budgets):
        left = context.likeliest(context.survivors(budget=budget), _TRIED)
        for student in _students(context) if len(left) else ():
            for number in range(_ROUNDS):
                _attacked(context, student, left, budget, number)


def _within(context: CheckContext, ball: Ball | Split) -> CheckResult:
    left = context.likeliest(context.survivors(budget=ball), _TRIED)
    if not len(left):
        return passed(f"no sample survives within {ball.describe()} that a student could break")
    kinds, newly_broken = list[str](), torch.zeros(0, dtype=torch.int64)
    for student in _students(context):
        hits = _school(context, student, left[~torch.isin(left, newly_broken)], ball)
        if len(hits):
            kinds.append(student.kind)
            newly_broken = torch.cat((newly_broken, hits))
    who = f"images made on {' and '.join(kinds) or 'students of the model'} break"
    where = f"{len(left)} survivors within {ball.describe()}"
    return judge(context, newly_broken, who, where, "its own gradients and scores mislead")


def _students(context: CheckContext) -> list[Student]:
    """Those that can be had for these images."""
    channels, height, width = context.x.shape[1:]
    labels = int(context.y.max()) + 1
    classes = max(labels, context.clean_logits.shape[1])
    students: list[Student] = []
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        if min(height, width) >= _SMALLEST:
            network = nn.Sequential(nn.AdaptiveAvgPool2d(min(height, width, 32)), tiny_cnn(channels, classes, 32))
            network = network.to(context.device)
            students.append(Student("a small network", network, network))
        if not context.differentiable:
            return students
        with preserve_state(context.model):
            sizes = [z.shape[1] for z in layer_values(context.model, context.images[:2])[-_LAYERS:]]
            inner = inner_scores(context.model, context.images, context.clean_logits, labels, _SCORES)
        students += [_read_out(context, at, size, classes) for at, size in enumerate(reversed(sizes), 1)]
    return students + [Student("scores inside it", layer) for layer in inner]


def _read_out(context: CheckContext, at: int, size: int, classes: int) -> Student:
    """A linear read-out of one of the model's layers, the last of which is 1."""
    layer = InnerLayer(context.model, -at)
    head = nn.Sequential(nn.BatchNorm1d(size, affine=False), nn.Linear(size, classes)).to(context.device)
    place = "its last layer" if at == 1 else f"its last layer but {at - 1}"
    return Student(f"a read-out of {place}", nn.Sequential(layer, head), head, layer)


def _school(context: CheckContext, student: Student, left: Labels, budget: Ball | Split) -> Labels:
    """Attack a student, ask the model, and fit the student to what it says, by turns; the samples that were broken."""
    newly_broken, forms = torch.zeros(0, dtype=torch.int64), forms_of(context)
    with preserve_state(context.model):
        lessons = None if student.head is None else Lessons(context, student, student.head, budget)
        for number in range(_ROUNDS):
            if not len(left):
                break
            if lessons is not None:
                lessons.fit(_LATER_FIT if number else _FIRST_FIT)
            adversarial = _attacked(context, student, left, budget, number)
            hits = context.fools(left, adversarial)
            for form in forms:
                hits |= context.fools(left, form.cut(context.at(left), adversarial))
            newly_broken = torch.cat((newly_broken, left[hits]))
            if lessons is not None:
                lessons.add(adversarial)
            left = left[~hits]
    return newly_broken


class Lessons:
    """What a student is fitted to: features of images, and the model's classes of them.

    Args:
        context: the model and its images, up to 512 of which, and noise of the budget's size about them, are the first.
        student: the student.
        head: its part that is fitted.
        budget: how large the noise is.
    """

    def __init__(self, context: CheckContext, student: Student, head: nn.Module, budget: Ball | Split) -> None:
        self.context, self.student, self.head = context, student, head
        self.generator = torch.Generator().manual_seed(context.seed)
        self.rule = torch.optim.Adam(head.parameters(), lr=3e-3)
        self.features, self.classes = list[Tensor](), list[Tensor]()
        pool = torch.linspace(0, len(context.x) - 1, min(_POOL, len(context.x))).round().long().unique()
        clean = context.at(pool)
        masks = None if context.masks is None else context.masks[pool].to(clean)
        self.add(torch.cat((clean, (clean + _noise(clean, budget, masks, self.generator)).clamp(0, 1))))

    def add(self, images: Images) -> None:
        """Ask the model for the classes of more images, ``(b, c, h, w)``."""
        parts = [part.to(self.context.device, torch.float32) for part in images.split(_BATCH)]
        with torch.no_grad():
            self.features += [self.student.features(part).detach() for part in parts]
        self.classes.append(self.context.logits(images, _BATCH).argmax(1))

    def fit(self, steps: int) -> None:
        """Some steps of cross-entropy."""
        features, classes = torch.cat(self.features), torch.cat(self.classes)
        self.head.train()
        with torch.enable_grad():
            for _ in range(steps):
                at = torch.randint(0, len(features), (_BATCH,), generator=self.generator).to(features.device)
                self.rule.zero_grad()
                F.cross_entropy(self.head(features[at]), classes[at]).backward()
                self.rule.step()
        self.student.network.eval()


def _attacked(context: CheckContext, student: Student, left: Labels, budget: Ball | Split, number: int) -> Images:
    """Images that PGD makes on a student in one of the rounds, from other starts where it is the same student again."""
    again = number > 0 if student.head is None else bool(number % 2)
    attack = PGD(budget, steps=_STEPS, loss="margin", random_start=again)
    x, y, seed = context.at(left), context.y[left], context.seed + number
    options: dict[str, object] = {"preflight": False, "errors": "record", "stop": "never", "seed": seed}
    options["mask"] = None if context.masks is None else context.masks[left]
    return require_finished(context.run(student.network, x, y, attack, **options)).images


def _noise(images: Images, ball: Ball | Split, masks: Tensor | None, generator: torch.Generator) -> Tensor:
    """Noise of about the budget's size."""
    if isinstance(ball, Split):
        front = torch.zeros_like(images[:, :1]) if masks is None else masks
        inside = _noise(images, ball.foreground, None, generator)
        return inside * front + _noise(images, ball.background, None, generator) * (1 - front)
    signs = (torch.randint(0, 2, images.shape, generator=generator) * 2 - 1).to(images)
    values = images[0].numel()
    size: float = {"linf": ball.eps, "l2": ball.eps / values**0.5, "l1": ball.eps / values}[ball.norm]
    return signs * size
