"""The problem: independent rows, each one image with one goal, and the goal itself."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.core.types import Flag, Images, Labels, Logits, Mask, PerRow
from assay.util.validate import described, reject

Test = Callable[[Logits, Images], Flag]


@dataclass(frozen=True)
class Goal:
    """What counts as success, row by row, and in which direction objectives push.

    Make one with `untargeted`, `targeted` or `towards`; add any condition with `also`.

    Attributes:
        label: the right class, ``(b,)``.
        aim: the class to push towards, ``(b,)``; -1 where the push is only away from ``label``.
        strict: whether ``aim`` must be reached, ``(b,)``; elsewhere any class but ``label`` will do.
        tests: further conditions, each ``(logits, images) -> bool (b,)``, all of which must hold
            (such as "the detector stays quiet").
        kind: what all rows have in common, which spares questions to the device: ``"away"`` (no aim), ``"towards"`` (an
            aim, which need not be reached), ``"exact"`` (an aim, which must be), or ``"mixed"`` for nothing.
    """

    label: Labels
    aim: Labels
    strict: Flag
    tests: tuple[Test, ...] = ()
    kind: str = "mixed"

    def __post_init__(self) -> None:
        if self.kind == "mixed" or not isinstance(self.aim, Tensor) or self.aim.device.type != "cpu":
            return  # elsewhere the question would be a wait
        aimed = self.aim >= 0
        right = aimed if self.kind != "away" else ~aimed
        strict = self.strict if self.kind == "exact" else ~self.strict
        if not bool((right & strict).all()):
            wanted = f"aim and strict as in {self.kind!r} goals (make another goal with untargeted or targeted)"
            reject("kind", wanted, described("others"))

    @cached_property
    def focus(self) -> Int[Tensor, "b 1"]:
        """The class that objectives raise or lower, ``(b, 1)``: the aim where there is one, else the label."""
        if self.kind == "away":
            return self.label[:, None]
        return (self.aim if self.kind != "mixed" else torch.where(self.aim >= 0, self.aim, self.label))[:, None]

    def signed(self, values: Tensor) -> Tensor:
        """Values of rows, ``(b, ...)``, which are negated where the push is away from the label."""
        if self.kind == "away":
            return -values
        if self.kind != "mixed":
            return values
        return torch.where((self.aim >= 0).reshape(-1, *(1,) * (values.dim() - 1)), values, -values)

    def reached(self, logits: Logits, x: Images) -> Flag:
        """Whether each row is at its goal. What logits that are not finite reach is for others to refuse.

        Args:
            logits: what the model returned, ``(b, k)``.
            x: the images it was given, ``(b, c, h, w)``.
        """
        predicted = logits.argmax(1)
        if self.kind == "exact":
            done = predicted == self.aim
        elif self.kind == "mixed":
            done = torch.where(self.strict, predicted == self.aim, predicted != self.label)
        else:
            done = predicted != self.label
        for test in self.tests:  # each with copies of its own: it may change what it is given
            done = done & _condition(test(logits.clone(), x.clone()), len(x))
        return done

    def margin(self, logits: Logits) -> PerRow:
        """By how many logits the class condition holds: above 0 iff it does (ties aside)."""
        focus = torch.where(self.strict, self.aim, self.label)
        at, others = split_logit(logits, focus)
        gap = at - others.amax(1)
        return torch.where(self.strict, gap, -gap)

    def also(self, test: Test) -> "Goal":
        """This goal and a further condition."""
        return replace(self, tests=(*self.tests, test))


def _condition(flags: object, count: int) -> Flag:
    if not isinstance(flags, Tensor) or flags.dtype != torch.bool or tuple(flags.shape) != (count,):
        came = f"{flags.dtype} of shape {tuple(flags.shape)}" if isinstance(flags, Tensor) else type(flags).__name__
        reject("test", f"a function that returns a bool tensor of shape ({count},)", described(came), error=TypeError)
    return flags


def untargeted(y: Labels) -> Goal:
    """Any class but ``y``."""
    return Goal(y, torch.full_like(y, -1), torch.zeros_like(y, dtype=torch.bool), kind="away")


def targeted(y: Labels, target: Labels) -> Goal:
    """Exactly the class ``target``.

    Raises:
        ValueError: a target that is the label itself.
    """
    if bool((y == target).any()):
        at = int((y == target).nonzero()[0])
        reject("target", "a class other than the label of its row", described(f"{int(target[at])} for row {at}"))
    return Goal(y, target, torch.ones_like(y, dtype=torch.bool), kind="exact")


def towards(y: Labels, aim: Labels) -> Goal:
    """Any class but ``y``, while targeted objectives push towards ``aim`` (AutoAttack's targeted attacks)."""
    return Goal(y, aim, torch.zeros_like(y, dtype=torch.bool), kind="towards")


@dataclass(frozen=True)
class Rows:
    """The rows that an attack works on.

    Attributes:
        x: clean images, ``(b, c, h, w)`` in [0, 1].
        goal: what each row is after.
        key: int64 ``(b,)``, the address of the row's random draws (from sample and restart).
        mask: foreground, ``(b, 1, h, w)`` of 0 and 1, where the threat model needs one.
        reference: logits of the clean images, ``(b, k)``, where an objective needs them.
        attempt: which restart this is, ``(b,)`` from 0; None stands for the first.
        start: images to start from, ``(b, c, h, w)``, where the attack refines what another has found.
    """

    x: Images
    goal: Goal
    key: Labels
    mask: Mask | None = None
    reference: Logits | None = None
    attempt: Labels | None = None
    start: Images | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def y(self) -> Labels:
        """The right class of each row."""
        return self.goal.label


def split_logit(logits: Logits, at: Labels) -> tuple[PerRow, Float[Tensor, "b k"]]:
    """The logit of one class a row, and all logits with that one at minus infinity."""
    chosen = logits.gather(1, at[:, None])
    return chosen.squeeze(1), logits.scatter(1, at[:, None], -torch.inf)
