"""C15: images made on students of the model, fitted to its answers on the spot, find nothing that was missed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from assay.attacks.pgd import PGD
from assay.core.model_calls import Classifier, call
from assay.core.model_state import model_dtype, preserve_state
from assay.core.types import Images, Labels, Logits
from assay.models.small import tiny_cnn
from assay.parts.balls import Ball, Split
from assay.trust.again import require_finished
from assay.trust.answer import CheckResult, not_applicable, passed, worst_result
from assay.trust.context import CheckContext
from assay.trust.rivals.hits import judge

_ROUNDS, _STEPS, _TRIED, _POOL = 4, 15, 32, 512
_FIRST_FIT, _LATER_FIT, _BATCH = 120, 25, 64
_LAYERS, _ALIKE = 2, 0.9
_SMALLEST, _WIDEST = 8, 2**16


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
        layer: which of its layers, counted from the last one: 1, 2, …
        size: how many values the layer gives an image.
        classes: number of logits.
    """

    def __init__(self, model: nn.Module, layer: int, size: int, classes: int) -> None:
        super().__init__()
        kind = model_dtype(model)
        self.ask, self.layer = lambda x: model(x.to(kind)), layer  # not as a part: its weights are not fitted
        self.head = nn.Sequential(nn.BatchNorm1d(size, affine=False), nn.Linear(size, classes))

    def forward(self, x: Images) -> Logits:
        """Logits, ``(b, k)``."""
        logits: Logits = self.head(self.features(x))
        return logits

    def features(self, x: Images) -> Tensor:
        """What the layer gives, ``(b, d)``."""
        with torch.enable_grad():  # without, some models take another way through their layers
            values = layer_values(self.ask, x if x.requires_grad else x.detach().requires_grad_())
        if len(values) < self.layer:
            raise RuntimeError("the layer was not reached")
        return values[-self.layer].float()


class InnerScores(nn.Module):
    """What a product of features and weights inside a model says, read as logits as it is.

    Args:
        model: the model.
        place: which of its layers with weights, counted from the first.
    """

    def __init__(self, model: nn.Module, place: int) -> None:
        super().__init__()
        kind = model_dtype(model)
        self.ask, self.place = lambda x: model(x.to(kind)), place

    def forward(self, x: Images) -> Logits:
        """Logits, ``(b, k)``."""
        with torch.enable_grad():  # as in `LayerProbe.features`
            values = layer_values(self.ask, x if x.requires_grad else x.detach().requires_grad_())
        return values[self.place].float()


class LayerRecorder(TorchFunctionMode):
    """Keeps what layers with weights give, whether they are modules or mere functions."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call, and keep."""
        output = func(*args, **(kwargs or {}))
        if func in _WEIGHTED and isinstance(output, Tensor) and output.dim() > 1:
            self.outputs.append(output)
        return output


_WEIGHTED = frozenset(
    {F.linear, F.conv2d, torch.conv2d, torch.matmul, torch.mm, torch.addmm, Tensor.matmul, Tensor.__matmul__, Tensor.mm}
)


def layer_values(model: Classifier, x: Images) -> list[Tensor]:
    """What the model's layers with weights give that a gradient reaches, from the first, each ``(b, d)``."""
    recorder = LayerRecorder()
    with recorder:
        call(model, x)
    return [z.flatten(1) for z in recorder.outputs if z.requires_grad and len(z) == len(x) and z[0].numel() <= _WIDEST]


def beats_student(context: CheckContext) -> CheckResult:
    """C15: images made on students of the model find nothing that the attacks have missed.

    The students are a small network, read-outs of up to two layers of the model, and scores of its classes inside it
    that are not its outputs, taken as they are: what is made of them may hide where they cross. Each of the others is
    fitted to the model's classes on the images, on noise about them and on the images it has itself made, attacked by
    PGD, and fitted again: four rounds. The model itself is only asked for classes. Two regions are asked about where no
    ball is claimed: what misleads in one misleads in the other.

    Source: Papernot, McDaniel, Goodfellow et al., "Practical black-box attacks against machine learning", AsiaCCS 2017,
    for a substitute that is fitted to answers and to images made on itself. Read-outs of layers are our own: where the
    outputs are masked, what goes into them seldom is.
    """
    budgets = _budgets(context)
    if not budgets or not len(context.chosen):
        return not_applicable("no attack has a ball, or two regions, as its budget")
    answer = context.memory["C15"] = worst_result(tuple(_within(context, budget) for budget in budgets))
    return answer


def rehearse_students(context: CheckContext) -> None:
    """What C15 attacks, of read-outs that are not fitted: see `Check.rehearse`."""
    for budget in _budgets(context):
        left = context.likeliest(context.survivors(budget=budget), _TRIED)
        for student in _students(context) if len(left) else ():
            for number in range(_ROUNDS):
                _attacked(context, student, left, budget, number)


def _budgets(context: CheckContext) -> list[Ball | Split]:
    balls: list[Ball | Split] = [b for b in context.budgets if isinstance(b, Ball) and b.eps > 0]
    return balls or [b for b in context.budgets if isinstance(b, Split)]


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
    who = f"images made on {' and '.join(kinds) or 'students'}, fitted to the model's answers, break"
    where = f"{len(left)} survivors within {ball.describe()}"
    return judge(context, newly_broken, who, where, "its own gradients and scores mislead")


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
        sizes = _layers(context) if context.differentiable else []
        students += [_probe(context, at, size, classes) for at, size in enumerate(sizes, 1)]
    return students + (_inner_scores(context) if context.differentiable else [])


def _inner_scores(context: CheckContext) -> list[Student]:
    """Products that give the model's classes on nearly all images, and are not its logits; the last of them."""
    with preserve_state(context.model), torch.enable_grad():
        values = layer_values(context.model, context.images.detach().requires_grad_())
    logits, most = context.clean_logits, int(context.y.max()) + 1
    for place, scores in reversed(list(enumerate(values))):
        if most <= scores.shape[1] <= logits.shape[1] and not _are_alike(scores, logits):
            alike = scores.argmax(1) == logits.argmax(1)
            if float(alike.float().mean()) >= _ALIKE:
                network = InnerScores(context.model, place)
                return [Student("scores inside it, as they are", network, nn.Identity(), lambda x: x[:, :0].flatten(1))]
    return []


def _are_alike(scores: Tensor, logits: Logits) -> bool:
    """Whether the differences between classes are the same, but for a factor."""
    if scores.shape != logits.shape:
        return False
    ours, theirs = (z.detach().double() - z.detach().double().mean(1, keepdim=True) for z in (scores, logits))
    cosine = F.cosine_similarity(ours.flatten(), theirs.to(ours).flatten(), dim=0)
    return bool(cosine > 1 - 1e-6)


def _layers(context: CheckContext) -> list[int]:
    """How many values the last layers with weights give an image, as far as a gradient reaches them."""
    with preserve_state(context.model), torch.enable_grad():
        values = layer_values(context.model, context.images[:2].detach().requires_grad_())
    return [z.shape[1] for z in values[-_LAYERS:][::-1]]


def _probe(context: CheckContext, layer: int, size: int, classes: int) -> Student:
    network = LayerProbe(context.model, layer, size, classes).to(context.device)
    place = "its last layer" if layer == 1 else f"its last layer but {layer - 1}"
    return Student(f"a read-out of {place}", network, network.head, network.features)


def _school(context: CheckContext, student: Student, left: Labels, ball: Ball | Split) -> Labels:
    """Fit, attack, ask the model, and learn from what it said; the samples that were broken."""
    generator = torch.Generator().manual_seed(context.seed)
    pool = torch.linspace(0, len(context.x) - 1, min(_POOL, len(context.x))).round().long().unique()
    images = context.at(pool)
    masks = None if context.masks is None else context.masks[pool].to(images)
    noisy = (images + _noise(images, ball, masks, generator)).clamp(0, 1)
    images = torch.cat((images, noisy))
    answers = context.logits(images, _BATCH).argmax(1)
    weights = list(student.head.parameters())
    rule = torch.optim.Adam(weights, lr=3e-3) if weights else None
    newly_broken = torch.zeros(0, dtype=torch.int64)
    with preserve_state(context.model):
        features = _features_of(student, images, context.device)
        for number in range(_ROUNDS):
            if not len(left):
                break
            if rule is not None:
                _fit(student, features, answers, rule, _LATER_FIT if number else _FIRST_FIT, generator)
            adversarial = _attacked(context, student, left, ball, number)
            hits = context.fools(left, adversarial)
            newly_broken = torch.cat((newly_broken, left[hits]))
            features = torch.cat((features, _features_of(student, adversarial, context.device)))
            answers = torch.cat((answers, context.logits(adversarial, _BATCH).argmax(1)))
            left = left[~hits]
    return newly_broken


def _attacked(context: CheckContext, student: Student, left: Labels, ball: Ball | Split, number: int) -> Images:
    """Images that PGD makes on a student in one of the rounds."""
    attack = PGD(ball, steps=_STEPS, loss="margin", random_start=bool(number % 2))
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
