"""An attack under test, a small network that it breaks in part, and a record of every step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from assay.core.attack import Attack
from assay.core.model_state import preserve_state
from assay.core.oracle import Oracle
from assay.core.rng import Rng, content_keys
from assay.core.rows import Goal, Rows, targeted, untargeted
from assay.core.tree import take
from assay.core.types import Count, Flag, Images, Labels
from assay.util.validate import reject

SIZE, CHANNELS, CLASSES, COUNT = 6, 2, 4, 24


class ConformanceError(Exception):
    """An attack does not have a property; the message says which, and what was seen."""


def fail(seen: str) -> NoReturn:
    """Say what was seen of an attack that does not have a property.

    Raises:
        ConformanceError: always.
    """
    raise ConformanceError(seen)


@dataclass(frozen=True)
class Taken:
    """One step of all rows.

    Attributes:
        candidate: the image that was evaluated.
        left: the image that a row leaves behind where it ends; None where the attack does not say.
        hit: what the attack claims.
        done: rows that end.
        forwards: passes of each row so far.
        backwards: likewise.
    """

    candidate: Images
    left: Images | None
    hit: Flag
    done: Flag
    forwards: Count
    backwards: Count


@dataclass(frozen=True, eq=False)
class AttackCase:
    """One attack under test.

    Args:
        make: makes the attack from its budget.
        norm: of the budget, ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"``; None for an attack whose budget is of another
            kind, which is then not measured.
        eps: a budget at which the network of this case breaks for some images and not for others.
    """

    make: Callable[[float], Attack[Any]]
    norm: str | None = "linf"
    eps: float = 0.03

    @cached_property
    def attack(self) -> Attack[Any]:
        """The attack at the budget."""
        made = self.make(self.eps)
        if not isinstance(made, Attack):
            reject("make", "a function that makes one single attack", made, error=TypeError)
        return made

    @cached_property
    def model(self) -> nn.Module:
        """A network with weights that depend on nothing."""
        draw = torch.Generator().manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIZE**2, 32), nn.ReLU(), nn.Linear(32, CLASSES))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / max(parameter.shape[-1], 1) ** 0.5)
        return model.eval().requires_grad_(False)

    @cached_property
    def x(self) -> Images:
        """Images, some values at exactly 0 and 1."""
        draw = torch.Generator().manual_seed(1)
        x = torch.rand(COUNT, CHANNELS, SIZE, SIZE, generator=draw)
        return torch.where(x < 0.05, 0.0, torch.where(x > 0.95, 1.0, x))

    @cached_property
    def y(self) -> Labels:
        """The model's own predictions."""
        with torch.no_grad():
            labels: Labels = self.model(self.x).argmax(1)
        return labels

    @cached_property
    def mask(self) -> Tensor:
        """A foreground: the left half."""
        mask = torch.zeros(COUNT, 1, SIZE, SIZE)
        mask[..., : SIZE // 2] = 1
        return mask

    def rows(self, index: Tensor | None = None, *, target: Labels | None = None, needs: Sequence[str] = ()) -> Rows:
        """Rows as the engine makes them, with no more than an attack says that it needs."""
        goal: Goal = untargeted(self.y) if target is None else targeted(self.y, target)
        with torch.no_grad():
            reference = self.model(self.x)
        rows = Rows(
            self.x.clone(),
            goal,
            content_keys(self.x, self.y),
            mask=self.mask if "mask" in needs else None,
            start=self.x.roll(1, 0) if "start" in needs else None,
            reference=reference if "reference" in needs else None,
        )
        return rows if index is None else take(rows, index)

    def steps(
        self,
        attack: Attack[Any] | None = None,
        *,
        index: Tensor | None = None,
        keys: Labels | None = None,
        target: Labels | None = None,
        seed: int = 0,
        model: nn.Module | None = None,
        most: int = 400,
    ) -> list[Taken]:
        """Every step of an attack, until all rows are done.

        Raises:
            ConformanceError: it does not end, or changes a state that it was given.
        """
        attack, model = attack or self.attack, model or self.model
        rows, rng = self.rows(index, target=target, needs=attack.needs), Rng(seed)
        rows = rows if keys is None else replace(rows, key=keys)
        oracle, taken = Oracle(model), list[Taken]()
        oracle.start(len(rows))
        over = torch.zeros(len(rows), dtype=torch.bool)
        with preserve_state(model):
            state = attack.init(rows, rng)
            while not bool(over.all()):
                if len(taken) >= most:
                    fail(f"it does not end within {most} steps")
                before = _digest(state)
                step = attack.step(rows, state, oracle, rng)
                if _digest(state) != before:
                    fail("a step changes the state that it was given; the engine may use that state again")
                state, over = step.state, over | step.done.cpu()
                left = step.left() if bool(step.done.any()) else None
                taken.append(Taken(step.candidate, left, step.hit, over, oracle.forwards, oracle.backwards))
        return taken

    def varied(self, **changes: Any) -> Attack[Any] | None:
        """The attack with another effort, step size, budget or loss; None if it has no such thing."""
        return self.attack.vary(**changes)

    def at(self, eps: float) -> "AttackCase":
        """The same attack with another budget."""
        return replace(self, eps=eps)


def _digest(state: Any) -> str:
    """What the tensors of a state hold."""
    if isinstance(state, Tensor):
        return str(hash(state.detach().cpu().contiguous().numpy().tobytes()))
    if isinstance(state, dict):
        return _digest(tuple(state.values()))
    if isinstance(state, tuple | list):
        return ",".join(map(_digest, state))
    return _digest(tuple(vars(state).values())) if hasattr(state, "__dict__") else repr(state)
