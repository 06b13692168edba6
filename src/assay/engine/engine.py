"""The one loop that runs every attack: rows in, steps, measured results out.

It drops a row the moment its sample is decided and gives the slot to the next; it never looks into a state::

    predict all clean images; samples that are wrong or not finite are closed
    for each stage (attack) on the samples that are still open:
        queue each sample with its first variant (restart or target)
        while rows are in flight or queued:
            fill free slots from the queue                    # attack.init
            drop rows that cannot afford another step         # max_forwards
            advance all rows by one step                      # attack.step; a failing batch is halved
            collect claimed hits; once enough, measure them   # the referee, in float32
            rows that are decided or done leave: the sample's next variant is queued, or the sample ends
    what nothing has broken has survived
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from assay.core.attack import Priced, Step
from assay.core.combinators import Stage
from assay.core.oracle import Oracle
from assay.core.outcome import Status
from assay.core.rng import Rng
from assay.core.tree import join, take
from assay.engine.active_rows import Active, Queue, admit, variants_of
from assay.engine.batching import Splitter, error_text
from assay.engine.referee import Record
from assay.engine.row_scheduler import RowScheduler
from assay.util.progress import Progress, ProgressCallback

_SHARE = 4
"""Claims are measured when they fill this part of the slots; free slots are filled at half of it."""


@dataclass(frozen=True)
class Settings:
    """How to run, not what.

    Attributes:
        stop: ``"hit"`` (a sample ends with its first measured adversarial example, if the attack has a budget; one that
            minimises a distance goes on) or ``"never"`` (every step of every variant is run and the best kept).
        slots: most rows in flight.
        seed: of all random draws.
        max_forwards: most forward passes an attack may spend on a sample; None for no limit.
        errors: ``"raise"``, or ``"record"`` to end the samples that an exception is about and go on.
        progress: called after each change.
    """

    stop: str
    slots: int
    seed: int
    max_forwards: int | None
    errors: str
    progress: ProgressCallback | None


class Engine:
    """One run over one record. Results live in the record; the engine itself is thrown away.

    Args:
        oracle: the model.
        record: where results go.
        settings: how to run.
        name: for progress.
    """

    def __init__(self, oracle: Oracle, record: Record, settings: Settings, name: str) -> None:
        self.oracle, self.record, self.settings, self.name = oracle, record, settings, name
        self.rng = Rng(settings.seed)
        self.splitter = Splitter(settings.slots, settings.errors, record.events)
        self.open: Tensor = torch.zeros(len(record.status), dtype=torch.bool)
        self.over: Tensor = torch.zeros(len(record.status), dtype=torch.bool)

    def clean(self) -> Tensor:
        """Predict every clean image; close those that are wrong or not finite.

        Returns:
            Clean logits ``(n, k)`` on the CPU (zeros for samples that raised an error).
        """
        problem, record = self.record.problem, self.record

        def work(part: Tensor) -> Tensor:
            return self.oracle.verify(problem.x[part]).cpu()

        def fail(sample: int, failure: Exception) -> None:
            record.errors[sample] = error_text(failure)

        parts = self.splitter.run(torch.arange(len(problem.x)), work, fail)
        width = parts[0][1].shape[1] if parts else 2
        logits = torch.zeros(len(problem.x), width, dtype=parts[0][1].dtype if parts else torch.float32)
        seen = torch.zeros(len(problem.x), dtype=torch.bool)
        for part, result in parts:
            logits[part], seen[part] = result, True
        self._judge_clean(logits, seen)
        self._report()
        return logits

    def run(self, stages: tuple[Stage, ...]) -> None:
        """Run all stages on the samples that are still open, then close those."""
        for number, stage in enumerate(stages):
            later = stages[number + 1 :]
            self._stage(number, stage, later)
            if not any(s.refines for s in later):
                self.over |= self.record.status == int(Status.BROKEN)
        self.over[:] = True
        self.record.close(self.open)

    def interrupt(self) -> None:
        """Close the record after an interrupt; partially attacked samples are discarded."""
        self.record.close(self.open & self.over)
        self.record.forget(~self.over)

    def _judge_clean(self, logits: Tensor, seen: Tensor) -> None:
        problem, record = self.record.problem, self.record
        finite = logits.isfinite().all(1) & problem.x.flatten(1).isfinite().all(1) if len(logits) else seen
        predicted = torch.where(finite & seen, logits.argmax(1), -1) if len(logits) else record.predicted
        record.predicted_clean, record.predicted = predicted, predicted.clone()
        record.checks += seen.long()
        right = finite & seen & (predicted == problem.y)
        aimless = right & problem.goal.strict & (problem.target == problem.y)
        record.status[seen & finite & ~right] = int(Status.MISCLASSIFIED)
        record.status[seen & ~finite] = int(Status.INVALID)
        record.status[~seen] = int(Status.ERROR)
        right = right & ~aimless
        if bool(aimless.any()):
            record.events.append(f"{int(aimless.sum())} samples were not attacked: their target is their own label")
        self.open = right
        self.over |= ~right

    def _stage(self, number: int, stage: Stage, later: tuple[Stage, ...]) -> None:
        """Run one attack in all its variants on the samples that nothing has broken yet, or that it is to refine."""
        variants = variants_of(stage, self.record.problem.reference.shape[1])
        stop_at_hit = self._stops_at_hit(stage)
        todo = self._todo(number, stage)
        last = {i: 0 for i in todo if i not in self.record.errors}
        queue = Queue()
        queue.waiting.extend((i, variants[0]) for i in last)

        def over(sample: int) -> None:
            """A row of the sample has ended: queue its next variant, or leave it."""
            last[sample] += 1
            if last[sample] < len(variants) and not self._decided(sample, stop_at_hit=stop_at_hit):
                queue.waiting.append((sample, variants[last[sample]]))
            elif self._ends(sample, later):
                self.over[sample] = True

        scheduler = RowScheduler(self.oracle, self.record, self.splitter, stage, number, over, stop_at_hit=stop_at_hit)
        active: Active | None = None
        while True:
            active = self._refill(active, queue, stage)
            idle = active is None
            if active is not None:
                active = self._affordable(active, stage, scheduler)
            if active is not None:
                active = self._advance(active, stage, scheduler, over)
            if idle or scheduler.waiting() >= max(1, self.splitter.slots // _SHARE):
                active = _together(active, scheduler.settle())
            self._report()
            if idle and active is None and not queue.waiting:
                break
        open_still = self.record.status != int(Status.BROKEN)
        self._note_unstarted(
            stage, [i for i in last if open_still[i] and not scheduler.begun[i] and i not in self.record.errors]
        )

    def _todo(self, number: int, stage: Stage) -> list[int]:
        """The samples of a stage: those that are left, or those that the stages it refines have broken."""
        record = self.record
        broken = record.status == int(Status.BROKEN)
        if not stage.refines:
            return (self.open & ~broken).nonzero().squeeze(1).tolist()
        mine = broken & (record.stage >= number - stage.refines)
        record.problem = replace(record.problem, start=record.images.clone())
        record.cost[mine] = torch.inf  # the stage measures in its own units, and claims nothing but improvements
        return mine.nonzero().squeeze(1).tolist()

    def _note_unstarted(self, stage: Stage, samples: list[int]) -> None:
        """Samples on which no row of a stage could begin: they have not survived it."""
        if not samples or stage.refines:
            return
        self.record.unstarted[samples] = True
        self.record.events.append(
            f"{stage.attack.describe()}: {len(samples)} samples were not attacked, because no adversarial image to "
            "start from was found (give start=) or max_forwards does not pay for a first step"
        )

    def _ends(self, sample: int, later: tuple[Stage, ...]) -> bool:
        """Whether nothing more can happen to a sample whose rows in a stage have ended."""
        broken = int(self.record.status[sample]) == int(Status.BROKEN) and not any(stage.refines for stage in later)
        return not later or broken or sample in self.record.errors

    def _stops_at_hit(self, stage: Stage) -> bool:
        """Whether the first hit decides a sample: not where the attack is after the least distance."""
        return self.settings.stop == "hit" and stage.attack.geometry is not None and not stage.refines

    def _decided(self, sample: int, *, stop_at_hit: bool) -> bool:
        """Whether no further variant of the sample is to be run."""
        record, limit = self.record, self.settings.max_forwards
        broken = stop_at_hit and int(record.status[sample]) == int(Status.BROKEN)
        return broken or sample in record.errors or (limit is not None and int(record.forwards[sample]) >= limit)

    def _refill(self, active: Active | None, queue: Queue, stage: Stage) -> Active | None:
        free = self.splitter.slots - (0 if active is None else len(active.sample))
        if not queue.waiting or free < max(1, self.splitter.slots // (2 * _SHARE)):
            return active
        admitted = admit(
            self.record.problem,
            stage,
            queue.draw(free),
            self.record.forwards,
            self.oracle,
            self.rng,
            keep_sure=not self._stops_at_hit(stage),
        )
        return _together(active, admitted)

    def _affordable(self, active: Active, stage: Stage, scheduler: RowScheduler) -> Active | None:
        """Those rows that max_forwards leaves a first step for; later steps are priced as they end."""
        if self.settings.max_forwards is None:
            return active
        first = torch.full_like(active.spent, stage.attack.traits.price)
        if isinstance(stage.attack, Priced):
            first = stage.attack.price(active.state)
        poor = (active.steps == 0) & (active.spent + first * self.oracle.draws > self.settings.max_forwards)
        if not bool(poor.any()):
            return active
        unpaid = take(active, poor.nonzero().squeeze(1))
        scheduler.retire(unpaid._replace(unstarted=unpaid.spent == 0))
        left = (~poor).nonzero().squeeze(1)
        return take(active, left) if len(left) else None

    def _advance(
        self, active: Active, stage: Stage, scheduler: RowScheduler, over: Callable[[int], None]
    ) -> Active | None:
        """One step of all rows; returns those that go on."""

        def fail(row: int, failure: Exception) -> None:
            sample = int(active.sample[row])
            self.record.errors[sample] = error_text(failure)
            over(sample)

        index = torch.arange(len(active.sample), device=active.sample.device)
        whole = len(index) <= self.splitter.slots
        parts = self.splitter.run(
            index, lambda at: self._step(active if whole and len(at) == len(index) else take(active, at), stage), fail
        )
        if not parts:
            return None
        before, step = parts[0][1]
        if len(parts) > 1:
            before, step = join(*(result[0] for _, result in parts)), join(*(result[1] for _, result in parts))
        after = scheduler.judge(before, step)
        return after if len(after.sample) else None

    def _step(self, active: Active, stage: Stage) -> tuple[Active, Step[Any]]:
        oracle = self.oracle
        oracle.bind(active.forwards, active.backwards, active.nonfinite)
        step = stage.attack.step(active.rows, active.state, oracle, self.rng)
        counted = active._replace(
            state=step.state,
            steps=active.steps + 1,
            forwards=oracle.forwards,
            backwards=oracle.backwards,
            nonfinite=oracle.nonfinite,
        )
        if self.settings.max_forwards is not None:
            attack = stage.attack
            cost = oracle.forwards - active.forwards
            if isinstance(attack, Priced):
                cost = attack.price(step.state) * oracle.draws
            short = counted.spent + counted.forwards + cost > self.settings.max_forwards
            step = replace(step, done=step.done | short, pending=None if bool(short.any()) else step.pending)
        return counted, step

    def _report(self) -> None:
        if self.settings.progress is not None:
            record = self.record
            broken = int((record.status == int(Status.BROKEN)).sum())
            passes = int(record.forwards.sum() + record.backwards.sum())
            self.settings.progress(Progress(self.name, int(self.over.sum()), len(record.status), broken, passes))


def _together(active: Active | None, more: Active | None) -> Active | None:
    if active is None or more is None:
        return more if active is None else active
    return join(active, more)
