"""The referee: measures candidates itself, and keeps the record. No attack grades its own work."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from assay.core.attack import Attack
from assay.core.geometry import Geometry
from assay.core.oracle import Oracle
from assay.core.outcome import TOLERANCE, Outcome, Status
from assay.core.rows import Rows
from assay.core.tree import choose
from assay.core.types import Flag, Images, Labels, PerRow
from assay.engine.inputs import Problem


class Measurement(NamedTuple):
    """The referee's own measurement of images, one a row."""

    image: Images
    hit: Flag
    margin: PerRow
    predicted: Labels
    size: PerRow
    inside: Flag
    broke_rules: Flag


def measure(
    oracle: Oracle, attack: Attack[object], rows: Rows, image: Images, within: tuple[Geometry, ...] = ()
) -> Measurement:
    """Prediction, goal, budget, box and finiteness of images, from scratch.

    Args:
        oracle: asked through `Oracle.verify`.
        attack: whose geometry is the threat model.
        rows: the rows.
        image: one image a row.
        within: further sets that the image must be in.

    Returns:
        A hit only where the goal is reached by a finite image in [0, 1] and inside the budget.
    """
    logits = oracle.verify(image)
    size = torch.full((len(rows),), torch.nan, dtype=torch.float64, device=image.device)
    for geometry in (attack.geometry, *within):
        if geometry is not None:  # the largest of the sizes; NaN where nothing is measured
            size = torch.fmax(size, geometry.size(image.double() - rows.x.double(), rows).double())
    flat = image.flatten(1)
    box = (flat >= 0).all(1) & (flat <= 1).all(1)  # false for NaN
    allowed = box & ~(size > 1 + TOLERANCE)
    finite = logits.isfinite().all(1)
    reached = rows.goal.reached(logits, image) & finite
    return Measurement(
        image=image,
        hit=reached & allowed,
        margin=torch.where(finite, rows.goal.margin(logits), torch.nan).float(),
        predicted=torch.where(finite, logits.argmax(1), -1),
        size=size.float(),
        inside=allowed,
        broke_rules=reached & ~allowed,
    )


def unmeasured(rows: Rows, image: Images) -> Measurement:
    """What stands for images on which the model raised an exception: never a hit, nothing known."""
    nothing = torch.full((len(rows),), torch.nan, device=image.device)
    no = torch.zeros(len(rows), dtype=torch.bool, device=image.device)
    return Measurement(image, no, nothing, torch.full_like(rows.y, -1), nothing, no, no)


def better(first: Measurement, second: Measurement) -> Measurement:
    """Row by row the one that is a hit, else the one with the larger margin; the first where they are equal."""
    margins = second.margin.nan_to_num(-torch.inf) > first.margin.nan_to_num(-torch.inf)
    which = (second.hit & ~first.hit) | ((second.hit == first.hit) & margins)
    return choose(which, second, first)


@dataclass
class Record:
    """What is known of each sample so far; all tensors ``(n,)`` on the CPU.

    ``images`` are the problem's own, not a copy, until one is written (``written``): a batch of large images less.
    """

    problem: Problem
    images: Images
    written: bool
    status: Tensor
    predicted_clean: Tensor
    predicted: Tensor
    margin: Tensor
    size: Tensor
    cost: Tensor
    steps: Tensor
    forwards: Tensor
    backwards: Tensor
    checks: Tensor
    restart: Tensor
    stage: Tensor
    invalid: Tensor
    unstarted: Tensor
    errors: dict[int, str]
    events: list[str]

    @classmethod
    def empty(cls, problem: Problem) -> "Record":
        """Nothing run yet."""
        n = len(problem.x)

        def counts(fill: int = 0) -> Tensor:
            return torch.full((n,), fill, dtype=torch.int64)

        return cls(
            problem=problem,
            images=problem.x.detach().cpu(),
            written=problem.x.device.type != "cpu",
            status=counts(int(Status.NOT_RUN)),
            predicted_clean=counts(-1),
            predicted=counts(-1),
            margin=torch.full((n,), torch.nan),
            size=torch.full((n,), torch.nan),
            cost=torch.full((n,), torch.inf, dtype=torch.float64),
            steps=counts(),
            forwards=counts(),
            backwards=counts(),
            checks=counts(),
            restart=counts(-1),
            stage=counts(-1),
            invalid=torch.zeros(n, dtype=torch.bool),
            unstarted=torch.zeros(n, dtype=torch.bool),
            errors={},
            events=[],
        )

    def spend(self, sample: Labels, steps: Tensor, forwards: Tensor, backwards: Tensor, checks: Tensor) -> None:
        """Add what rows have cost to their samples."""
        at = sample.cpu()
        for total, more in (
            (self.steps, steps),
            (self.forwards, forwards),
            (self.backwards, backwards),
            (self.checks, checks),
        ):
            total.index_add_(0, at, more.cpu())

    def write(self, sample: Labels, measurement: Measurement, cost: PerRow, restart: Tensor, stage: int) -> None:
        """Take over results that are better than what is known: hits before misses, then by cost or margin.

        A miss outside the threat model is not taken over: the clean image stands for it.
        """
        at = sample.cpu()
        measured = Measurement(*(t.detach().cpu() for t in measurement))
        cost = cost.detach().double().cpu()
        broken = self.status[at] == int(Status.BROKEN)
        cheaper = torch.where(measured.hit, cost < self.cost[at], ~(measured.margin <= self.margin[at]))
        wins = (measured.hit & ~broken) | ((measured.hit == broken) & cheaper & measured.inside)
        won, rows = at[wins], wins.nonzero().squeeze(1)
        self._copy_images()
        self.images[won] = measured.image[rows].to(self.images.dtype)
        self.margin[won], self.size[won] = measured.margin[rows], measured.size[rows]
        self.predicted[won] = measured.predicted[rows]
        self.cost[won] = cost[rows]
        hits = at[measured.hit & wins]
        self.status[hits] = int(Status.BROKEN)
        self.stage[hits] = stage
        self.restart[hits] = restart.cpu()[measured.hit & wins]

    def _copy_images(self) -> None:
        if not self.written:
            self.images, self.written = self.images.clone(), True

    def close(self, finished: Flag) -> None:
        """Give samples that have met every attack their final status; what an attack could not begin on is not run."""
        for i in finished.nonzero().squeeze(1).tolist():
            if self.status[i] == int(Status.BROKEN):
                continue
            if i in self.errors:
                self.status[i] = int(Status.ERROR)
            elif self.invalid[i]:
                self.status[i] = int(Status.INVALID)
            elif self.unstarted[i]:
                self.status[i] = int(Status.NOT_RUN)
            else:
                self.status[i] = int(Status.SURVIVED)

    def forget(self, sample: Flag) -> None:
        """Take back all that is known of samples, for a run that was stopped in the midst of them."""
        blank = Record.empty(self.problem)
        self._copy_images()
        for field in fields(self):
            known = getattr(self, field.name)
            if isinstance(known, Tensor):
                known[sample] = getattr(blank, field.name)[sample]
        for i in sample.nonzero().squeeze(1).tolist():
            self.errors.pop(i, None)

    def outcome(self, *, stages: tuple[str, ...], name: str, seconds: float) -> Outcome:
        """The public record."""
        self._copy_images()
        return Outcome(
            clean=self.problem.x.detach().cpu(),
            images=self.images,
            y=self.problem.y.cpu(),
            target=self.problem.target.cpu(),
            status=self.status,
            predicted_clean=self.predicted_clean,
            predicted=self.predicted,
            margin=self.margin,
            size=self.size,
            steps=self.steps,
            forwards=self.forwards,
            backwards=self.backwards,
            checks=self.checks,
            restart=self.restart,
            stage=self.stage,
            stages=stages,
            name=name,
            seconds=seconds,
            events=tuple(self.events),
            errors=self.errors,
        )
