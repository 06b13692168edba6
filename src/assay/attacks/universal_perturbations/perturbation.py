"""Universal perturbations: one δ for all images. They couple rows on purpose, so they have a loop of their own."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from assay.core.call_context import in_neutral_context
from assay.core.model_calls import Classifier, classify
from assay.core.model_state import model_device, preserve_state
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rows import Rows, targeted, untargeted
from assay.core.types import Images, Labels
from assay.parts.balls import Ball
from assay.parts.losses import objective
from assay.parts.perturbation import Shared
from assay.util.hints import with_hints
from assay.util.parse import format_budget
from assay.util.validate import described, one_of, radius, reject, whole

Batch = tuple[Images, Labels]


@runtime_checkable
class Streamed(Protocol):
    """Something that yields random batches without end, such as an `assay.data.Dataset`."""

    def batches(self) -> Iterator[Batch]:
        """The batches."""
        ...


class Point(NamedTuple):
    """One point of the curve, over the images that an update looked at, before that update.

    Attributes:
        update: number of updates so far.
        fooled: share of the images whose predicted class is not that of the clean image.
        accuracy: share of the images that are classified as labelled (or as the target, for a targeted one).
    """

    update: int
    fooled: float
    accuracy: float


@with_hints
@dataclass(frozen=True)
class Universal:
    """A universal perturbation and how it came about.

    Attributes:
        delta: the perturbation, ``(1, c, h, w)``, on the CPU.
        curve: fooling rate and accuracy while it was made.
        attack: what made it.
        geometry: the set it is in.
        finished: False where Ctrl-C ended it early.
    """

    delta: Tensor
    curve: tuple[Point, ...]
    attack: str
    geometry: Ball
    finished: bool

    def apply(self, x: Images) -> Images:
        """``x + δ``, clipped to the box."""
        return (x + self.delta.to(x)).clamp(0, 1)

    def fooling_rate(self, model: Classifier, x: Images) -> float:
        """Share of images whose predicted class is another one with the perturbation than without."""
        with preserve_state(model), torch.no_grad():
            changed = torch.cat(
                [
                    classify(model, part).argmax(1) != classify(model, self.apply(part)).argmax(1)
                    for part in x.split(256)
                ]
            )
        return changed.float().mean().item() if len(changed) else float("nan")

    def __str__(self) -> str:
        """One line: what made it, and the curve's ends."""
        ends = (
            "" if not self.curve else f", fooled {100 * self.curve[0].fooled:.1f} → {100 * self.curve[-1].fooled:.1f} %"
        )
        return f"{self.attack}: δ of shape {tuple(self.delta.shape)}{ends} of the images of an update"


@runtime_checkable
class UniversalAttack(Protocol):
    """A way to make one δ for all images."""

    @property
    def geometry(self) -> Ball:
        """The set of δ."""
        ...

    @property
    def updates(self) -> int:
        """How many updates it makes."""
        ...

    def update(self, model: Classifier, delta: Tensor, batches: Iterator[Batch], seed: int) -> tuple[Tensor, "Tally"]:
        """The next δ, and what was seen on the way."""
        ...

    def describe(self) -> str:
        """One line for tables."""
        ...


class Tally(NamedTuple):
    """Counts over the images of an update."""

    fooled: int
    right: int
    seen: int


@in_neutral_context
def universal(
    model: Classifier,
    batches: Iterable[Batch] | Callable[[], Iterable[Batch]] | Streamed,
    attack: UniversalAttack,
    *,
    start: Tensor | None = None,
    seed: int = 0,
    progress: Callable[[Point], None] | None = None,
) -> Universal:
    """Make one perturbation that changes the prediction of as many images as possible.

    Args:
        model: maps images in [0, 1] to logits.
        batches: pairs ``(images, labels)``: a list, a data loader, a function that returns a fresh iterable, or an
            `assay.data.Dataset`. It is gone through again and again, so that data of any size can be streamed.
        attack: such as `UniversalSign` or `UniversalDeepFool`.
        start: δ to go on from, ``(1, c, h, w)``.
        seed: of all random draws.
        progress: called with each `Point` of the curve.

    Returns:
        The `Universal`; what there is so far after an interrupt (Ctrl-C).

    Raises:
        TypeError, ValueError: a wrong argument, by name.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
        >>> x, y = torch.rand(8, 1, 2, 2), torch.zeros(8, dtype=torch.long)
        >>> made = universal(model, [(x, y)], UniversalSign(0.1, updates=2))
        >>> bool(made.delta.abs().max() <= 0.1 + 1e-6)
        True
    """
    if not isinstance(attack, UniversalAttack):
        reject("attack", "a universal attack, such as assay.UniversalSign(eps=10/255)", attack, error=TypeError)
    stream = batches.batches() if isinstance(batches, Streamed) else _endless(batches)
    first, stream = _peek(stream)
    device = model_device(model, first[0].device)
    delta = torch.zeros(1, *first[0].shape[1:], device=device) if start is None else start.to(device).clone()
    if delta.shape != (1, *first[0].shape[1:]):
        reject("start", f"a tensor of shape {(1, *first[0].shape[1:])}", described(f"shape {tuple(delta.shape)}"))
    curve: list[Point] = []
    finished = False
    with preserve_state(model):
        try:
            for update in range(attack.updates):
                delta, tally = attack.update(model, delta, stream, seed + update)
                curve.append(Point(update, tally.fooled / max(tally.seen, 1), tally.right / max(tally.seen, 1)))
                if progress is not None:
                    progress(curve[-1])
            finished = True
        except KeyboardInterrupt:
            pass
    return Universal(delta.cpu(), tuple(curve), attack.describe(), attack.geometry, finished)


@with_hints
@dataclass(frozen=True)
class UniversalSign:
    """Mean over K batches of the sign of the batch's mean gradient, step by step.

    With a detector for a model (two logits, label 0 for clean images) it makes the pattern that looks most adversarial
    to the detector (Metzen, 2018, section 3.4).

    Args:
        eps: radius in input units.
        norm: ``"linf"`` or ``"l2"`` (the direction is then the normalised mean gradient).
        step_size: length of an update in input units; a quarter of ``eps`` by default.
        updates: number of updates.
        batches: batches an update (K).
        loss: objective or its name.
        target: a class to push all images towards; None to push them away from their labels.

    Example:
        >>> UniversalSign(10/255).describe()
        'universal sign-200 linf 10/255'

    Source: Metzen, "Universality, robustness, and detectability of adversarial perturbations under
    adversarial training", 2018, appendix D. Deviation: images with the perturbation are clipped to [0, 1].
    """

    eps: float
    norm: str = "linf"
    step_size: float | None = None
    updates: int = 200
    batches: int = 10
    loss: str | Objective = "ce"
    target: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", radius("eps", self.eps))
        one_of("norm", self.norm, ("linf", "l2"))
        if self.step_size is not None:
            object.__setattr__(self, "step_size", radius("step_size", self.step_size, above=True))
        whole("updates", self.updates)
        whole("batches", self.batches, least=1)
        object.__setattr__(self, "loss", objective(self.loss))

    @property
    def geometry(self) -> Ball:
        """The ball."""
        return Ball(self.norm, self.eps)

    def update(self, model: Classifier, delta: Tensor, batches: Iterator[Batch], seed: int) -> tuple[Tensor, Tally]:
        """One update of K batches."""
        total = torch.zeros_like(delta)
        fooled = right = seen = 0
        for _ in range(self.batches):
            oracle, rows = rows_of(model, next(batches), self.target)
            image = (rows.x + delta).clamp(0, 1)
            clean = oracle.logits(rows.x, rows).argmax(1)
            result = oracle.evaluate(objective(self.loss), image, rows)
            grad = result.grad.mean(0, keepdim=True)
            total += grad.sign() if self.norm == "linf" else grad / grad.norm().clamp_min(1e-30)
            now = result.logits.argmax(1)
            fooled += int((now != clean).sum())
            right += int((now == (rows.y if self.target is None else rows.goal.aim)).sum())
            seen += len(rows)
        step = self.eps / 4 if self.step_size is None else self.step_size
        moved = delta + step / self.batches * total
        return project(moved, self.geometry), Tally(fooled, right, seen)

    def describe(self) -> str:
        """Name, updates and budget."""
        towards = "" if self.target is None else f" →{self.target}"
        return f"universal sign-{self.updates}{towards} {self.norm} {format_budget(self.eps)}"


def project(delta: Tensor, geometry: Ball) -> Tensor:
    """The nearest δ in the ball, without regard to a box, which no single δ can keep for all images."""
    zero = torch.zeros(1, dtype=torch.int64, device=delta.device)
    return Shared().project(Rows(torch.full_like(delta, 0.5), untargeted(zero), zero), delta, geometry)


def rows_of(model: Classifier, batch: Batch, target: int | None) -> tuple[Oracle, Rows]:
    """A batch as rows, and an oracle that counts for them; images of the target class itself are left out."""
    x, y = batch
    oracle = Oracle(model, device=model_device(model, x.device))
    x, y = x.to(oracle.device), y.to(oracle.device).long()
    if target is not None:
        away = (y != target).nonzero().squeeze(1)
        x, y = x[away], y[away]
    goal = untargeted(y) if target is None else targeted(y, torch.full_like(y, target))
    oracle.start(len(x))
    return oracle, Rows(x, goal, torch.arange(len(x), device=oracle.device))


def _endless(batches: Iterable[Batch] | Callable[[], Iterable[Batch]]) -> Iterator[Batch]:
    """Go through the batches again and again."""
    while True:
        count = 0
        for batch in batches() if callable(batches) else batches:
            count += 1
            yield batch
        if not count:
            reject(
                "batches",
                "at least one pair (images, labels) each time it is gone through",
                described("none (a generator can be used once only: give a list, or a function)"),
            )


def _peek(stream: Iterator[Batch]) -> tuple[Batch, Iterator[Batch]]:
    first = next(stream)
    if not (isinstance(first, tuple | list) and len(first) == 2 and all(isinstance(t, Tensor) for t in first)):
        reject("batches", "pairs (images, labels) of tensors", type(first), error=TypeError)

    def again() -> Iterator[Batch]:
        yield (first[0], first[1])
        yield from stream

    return (first[0], first[1]), again()
