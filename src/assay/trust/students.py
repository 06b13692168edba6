"""C15: images made on students of the model, fitted to its answers on the spot, find nothing that was missed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from assay.attacks.pgd import PGD
from assay.core.model_calls import Classifier, call
from assay.core.model_state import preserve_state
from assay.core.types import Images, Labels, Logits
from assay.models.small import tiny_cnn
from assay.parts.balls import Ball
from assay.trust.again import require_finished
from assay.trust.answer import CheckResult, not_applicable, passed, warning, worst_result
from assay.trust.context import CheckContext
from assay.trust.results import GAIN

_ROUNDS, _STEPS, _TRIED, _POOL = 6, 20, 32, 512
_FIRST_FIT, _LATER_FIT, _BATCH = 120, 25, 64
_LAYERS = 2
_SMALLEST = 8


@dataclass(frozen=True)
class Student:
    """A model that is fitted to another one's answers.

    Attributes:
        kind: what it is, for a sentence.
        network: maps images to logits.
        head: the part that is fitted: all of it, or what follows the model's own layers.
        features: what goes into that part, of images.
    """

    kind: str
    network: nn.Module
    head: nn.Module
    features: Callable[[Images], Tensor]


class LayerProbe(nn.Module):
    """A linear read-out of what one layer of a model gives.

    Args:
        model: the model.
        layer: one of its layers.
        size: how many values the layer gives an image.
        classes: number of logits.
    """

    def __init__(self, model: nn.Module, layer: nn.Module, size: int, classes: int) -> None:
        super().__init__()
        self.ask, self.layer = model.__call__, layer  # not as a part: the model's weights are not fitted
        self.head = nn.Sequential(nn.BatchNorm1d(size, affine=False), nn.Linear(size, classes))

    def forward(self, x: Images) -> Logits:
        """Logits, ``(b, k)``."""
        logits: Logits = self.head(self.features(x))
        return logits

    def features(self, x: Images) -> Tensor:
        """What the layer gives, ``(b, d)``."""
        values = layer_values(self.ask, self.layer, x)
        if values is None:
            raise RuntimeError("the layer was not reached")
        return values.float()


def layer_values(model: Classifier, layer: nn.Module, x: Images) -> Tensor | None:
    """What a layer gives at its first call, ``(b, d)``; None where it is not one tensor with a row an image."""
    captured: list[object] = []
    handle = layer.register_forward_hook(lambda _, __, output: captured.append(output))
    try:
        call(model, x)
    finally:
        handle.remove()
    values = captured[0] if captured else None
    return values.flatten(1) if isinstance(values, Tensor) and values.dim() > 1 and len(values) == len(x) else None


def beats_student(context: CheckContext) -> CheckResult:
    """C15: images made on students of the model find nothing that the attacks have missed.

    The students are a small network and read-outs of up to two layers of the model. Each is fitted to the model's
    classes on the images, on noise about them and on the images it has itself made, attacked by PGD, and fitted again:
    six rounds. The model itself is only asked for classes.

    Source: Papernot, McDaniel, Goodfellow et al., "Practical black-box attacks against machine learning", AsiaCCS 2017,
    for a substitute that is fitted to answers and to images made on itself. Read-outs of layers are our own: where the
    outputs are masked, what goes into them seldom is.
    """
    balls = [b for b in context.budgets if isinstance(b, Ball) and b.eps > 0]
    if not balls or not len(context.chosen):
        return not_applicable("no attack has a ball as its budget")
    answer = context.memory["C15"] = worst_result(tuple(_within(context, ball) for ball in balls))
    return answer


def _within(context: CheckContext, ball: Ball) -> CheckResult:
    left = context.likeliest(context.survivors(budget=ball), _TRIED)
    n = len(context.chosen)
    threshold = max(GAIN, 1.5 / n)
    if not len(left):
        return passed(f"no sample survives within {ball.describe()} that a student could break", 0.0, threshold)
    kinds, newly_broken = list[str](), torch.zeros(0, dtype=torch.int64)
    for student in _students(context):
        hits = _school(context, student, left[~torch.isin(left, newly_broken)], ball)
        if len(hits):
            kinds.append(student.kind)
            newly_broken = torch.cat((newly_broken, hits))
    share = len(newly_broken) / n
    if share > threshold:
        return warning(
            f"images made on {' and '.join(kinds)}, fitted to the model's answers, break {len(newly_broken)} of {n} "
            f"samples within {ball.describe()} that every attack had left: its own gradients and scores mislead",
            share,
            threshold,
            tuple(newly_broken.tolist()),
        )
    return passed(
        f"images made on students of the model break {len(newly_broken)} of {len(left)} survivors "
        f"within {ball.describe()}",
        share,
        threshold,
    )


def _students(context: CheckContext) -> list[Student]:
    """Those that can be made for these images."""
    channels, height, width = context.x.shape[1:]
    classes = max(int(context.y.max()) + 1, context.clean_logits.shape[1])
    students: list[Student] = []
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        if min(height, width) >= _SMALLEST:
            network = nn.Sequential(nn.AdaptiveAvgPool2d(min(height, width, 32)), tiny_cnn(channels, classes, 32))
            network = network.to(context.device)
            students.append(Student("a small network", network, network, lambda x: x))
        students += [_probe(context, *layer, classes) for layer in _layers(context)] if context.differentiable else []
    return students


def _layers(context: CheckContext) -> list[tuple[str, nn.Module, int]]:
    """The last layers with weights whose output is reached by a gradient, with their names and sizes."""
    image = context.images[:2].float().requires_grad_()
    usable: list[tuple[str, nn.Module, int]] = []
    for name, part in list(context.model.named_modules())[::-1]:
        if isinstance(part, nn.Linear | nn.Conv2d) and len(usable) < _LAYERS:
            with preserve_state(context.model), torch.enable_grad():
                values = layer_values(context.model, part, image)
            if values is not None and values.requires_grad and values.shape[1] <= 2**16:
                usable.append((name, part, values.shape[1]))
    return usable


def _probe(context: CheckContext, name: str, layer: nn.Module, size: int, classes: int) -> Student:
    network = LayerProbe(context.model, layer, size, classes).to(context.device)
    return Student(f"a read-out of its layer {name}", network, network.head, network.features)


def _school(context: CheckContext, student: Student, left: Labels, ball: Ball) -> Labels:
    """Fit, attack, ask the model, and learn from what it said; the samples that were broken."""
    generator = torch.Generator().manual_seed(context.seed)
    pool = torch.linspace(0, len(context.x) - 1, min(_POOL, len(context.x))).round().long().unique()
    images = context.at(pool)
    step = Ball(ball.norm, ball.eps)
    noisy = (images + _noise(images, step, generator)).clamp(0, 1)
    images = torch.cat((images, noisy))
    answers = context.logits(images, _BATCH).argmax(1)
    rule = torch.optim.Adam(student.head.parameters(), lr=3e-3)
    newly_broken = torch.zeros(0, dtype=torch.int64)
    with preserve_state(context.model):
        features = _features_of(student, images, context.device)
        for number in range(_ROUNDS):
            if not len(left):
                break
            _fit(student, features, answers, rule, _LATER_FIT if number else _FIRST_FIT, generator)
            attack = PGD(ball.eps, norm=ball.norm, steps=_STEPS, loss="margin", random_start=bool(number % 2))
            x, y, seed = context.at(left), context.y[left], context.seed + number
            options: dict[str, object] = {"preflight": False, "errors": "record", "stop": "never", "seed": seed}
            adversarial = require_finished(context.run(student.network, x, y, attack, **options)).images
            hits = context.fools(left, adversarial)
            newly_broken = torch.cat((newly_broken, left[hits]))
            features = torch.cat((features, _features_of(student, adversarial, context.device)))
            answers = torch.cat((answers, context.logits(adversarial, _BATCH).argmax(1)))
            left = left[~hits]
    return newly_broken


def _noise(images: Images, ball: Ball, generator: torch.Generator) -> Tensor:
    """Noise of about the budget's size."""
    signs = (torch.randint(0, 2, images.shape, generator=generator) * 2 - 1).to(images)
    values = images[0].numel()
    size: float = {"linf": ball.eps, "l2": ball.eps / values**0.5, "l1": ball.eps / values}[ball.norm]
    return signs * size


def _fit(
    student: Student, features: Tensor, answers: Labels, rule: Optimizer, steps: int, generator: Generator
) -> None:
    """Some steps of cross-entropy on what goes into the part that is fitted."""
    student.head.train()
    with torch.enable_grad():
        for _ in range(steps):
            at = torch.randint(0, len(features), (_BATCH,), generator=generator).to(features.device)
            rule.zero_grad()
            F.cross_entropy(student.head(features[at]), answers[at]).backward()
            rule.step()
    student.network.eval()


def _features_of(student: Student, images: Images, device: torch.device) -> Tensor:
    with torch.no_grad():
        return torch.cat([student.features(part.to(device, torch.float32)) for part in images.split(_BATCH)])
