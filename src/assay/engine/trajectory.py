"""What an attack does on its way: loss, distance and image of every few steps."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from assay.core.call_context import in_neutral_context
from assay.core.combinators import AnyAttack, check_attack, unfold
from assay.core.memory_format import channels_last
from assay.core.model_calls import Classifier
from assay.core.model_state import model_device, preserve_state, seeded
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.types import Images, Labels, Mask
from assay.engine.active_rows import make_rows
from assay.engine.inputs import make_problem
from assay.util.validate import described, reject, whole


@dataclass(frozen=True, repr=False)
class Trajectory:
    """Samples along the steps of an attack.

    Attributes:
        attack: what ran.
        steps: the recorded steps, ``(t,)``, from 0.
        value: minus the cost of each candidate, ``(t, n)``: the objective that is climbed, or minus a distance where
            the attack minimises one (minus infinity where there is none yet).
        hit: whether the candidate is adversarial, ``(t, n)``.
        linf: distance from the clean image, ``(t, n)``.
        l2: likewise.
        passes: forward and backward passes so far, ``(t, n)``.
        images: the candidates, ``(t, n, c, h, w)``; None where they were not kept.
    """

    attack: str
    steps: Int[Tensor, "t"]
    value: Float[Tensor, "t n"]
    hit: Bool[Tensor, "t n"]
    linf: Float[Tensor, "t n"]
    l2: Float[Tensor, "t n"]
    passes: Int[Tensor, "t n"]
    images: Tensor | None

    def __repr__(self) -> str:
        """One line."""
        return f"Trajectory({self.attack!r}: {len(self.steps)} steps of {self.value.shape[1]} samples)"

    def frame(self) -> list[dict[str, Any]]:
        """One record a step and sample; ``pandas.DataFrame(trajectory.frame())`` makes a table of it."""
        names = ("value", "hit", "linf", "l2", "passes")
        return [
            {"step": int(step), "sample": i} | {name: getattr(self, name)[t, i].item() for name in names}
            for t, step in enumerate(self.steps)
            for i in range(self.value.shape[1])
        ]


@in_neutral_context
def trajectory(
    model: Classifier,
    x: Images,
    y: Labels,
    attack: AnyAttack,
    *,
    target: Labels | None = None,
    mask: Mask | None = None,
    start: Images | None = None,
    every: int = 1,
    images: bool = True,
    most: int = 10_000,
    seed: int = 0,
) -> Trajectory:
    """Run every step of one single attack on all samples at once, and record every few of them.

    Nothing is refereed and no sample ends early, so this is for looking at attacks, not for robust accuracies.

    Args:
        model: as in `attack`.
        x: images, ``(n, c, h, w)``.
        y: labels, ``(n,)``.
        attack: one attack without restarts, targets and stages.
        target: classes to reach, ``(n,)``.
        mask: foreground, ``(n, 1, h, w)``.
        start: images to start from, where the attack needs them.
        every: record each so-manieth step; the last is recorded in any case.
        images: keep the images, too.
        most: steps after which it ends, for attacks that do not say how many they take.
        seed: of all random draws.

    Returns:
        What was recorded, on the CPU.

    Raises:
        TypeError, ValueError: a wrong argument, or an attack of several parts.

    Example:
        >>> from assay import PGD
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
        >>> x = torch.full((2, 1, 2, 2), 0.5)
        >>> way = trajectory(model, x, torch.tensor([0, 1]), PGD(0.1, steps=6), every=2)
        >>> way.steps.tolist(), way.value.shape
        ([0, 2, 4, 5], torch.Size([4, 2]))
    """
    stages = unfold(check_attack(attack))
    if len(stages) != 1 or len(stages[0].variants) != 1:
        reject("attack", "one attack without restarts, targets and stages", described(attack.describe()))
    (stage,), every = stages, whole("every", every, least=1)
    problem = make_problem(model, x, y, stages, target=target, mask=mask, start=start, test=None, ids=None)
    oracle, part = Oracle(model, device=model_device(model, problem.x.device), seed=seed), stage.attack
    kept: list[tuple[int, tuple[Tensor, ...], Tensor | None]] = []
    with preserve_state(model), seeded(seed, {oracle.device}), channels_last(model) as oracle.layout:
        rows = make_rows(
            problem, torch.arange(len(problem.x)), [stage.variants[0]] * len(problem.x), part, oracle.device
        )
        oracle.start(len(problem.x))
        state, rng = part.init(rows, Rng(seed)), Rng(seed)
        over = torch.zeros(len(problem.x), dtype=torch.bool)
        for number in range(whole("most", most, least=1)):
            step = part.step(rows, state, oracle, rng)
            state, over = step.state, over | step.done.cpu()
            if number % every == 0 or bool(over.all()):
                delta = (step.candidate - rows.x).flatten(1)
                values = (-step.costs(), step.hit, delta.abs().amax(1), delta.norm(dim=1))
                passes = oracle.forwards + oracle.backwards
                taken = step.candidate.detach().cpu() if images else None
                kept.append((number, (*(value.detach().cpu() for value in values), passes), taken))
            if bool(over.all()):
                break
    value, hit, linf, l2, passes = (torch.stack(column) for column in zip(*(row[1] for row in kept), strict=True))
    pictures = torch.stack([row[2] for row in kept if row[2] is not None]) if images else None
    numbers = torch.tensor([row[0] for row in kept])
    return Trajectory(attack.describe(), numbers, value, hit, linf, l2, passes, pictures)
