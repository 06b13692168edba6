"""The one loop that runs every attack: rows in, steps, measured results out.

It drops a row the moment its sample is decided and gives the slot to the next; it never looks into a state::

    predict all clean images; samples that are wrong or not finite are closed
    for each stage (attack) on the samples that are still open:
        queue each sample with its first variant (restart or target)
        while rows are in flight or queued:
            fill free slots, first with rows whose turn it is # attack.init
            drop rows that cannot afford another step         # max_forwards
            advance all rows by one step                      # attack.step; a failing batch is halved
            collect claimed hits; once enough, measure them   # the referee, in float32
            rows that are decided or done leave: the sample's next variant is queued, or the sample ends
            # free slots take later variants too; what counts is the first that hits, as if one came after another
    what nothing has broken has survived
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from assay.core.attack import Step
from assay.core.combinators import Stage
from assay.core.oracle import Oracle
from assay.core.outcome import Status
from assay.core.rng import Rng
from assay.core.tree import join, take
from assay.core.types import Flag, Labels, PerRow
from assay.engine.active_rows import Active, admit, variants_of
from assay.engine.attempts import Attempt, Attempts
from assay.engine.batching import Splitter
from assay.engine.clean_pass import predict_clean
from assay.engine.pricing import cannot_begin, end_where_spent
from assay.engine.referee import Record
from assay.engine.row_scheduler import RowScheduler
from assay.util.progress import Progress, ProgressCallback

_SHARE = 4
"""Claims are measured when they fill this part of the slots; free slots are filled at half of it."""

_SLOTS, _ON_DEVICE = 128, 256
"""Rows in flight on a processor, where larger batches were measured to be slower, and on an accelerator."""


@dataclass(frozen=True)
class Settings:
    """How to run, not what.

    Attributes:
        stop: ``"hit"`` (a sample ends with its first measured adversarial example, if the attack has a budget; one that
            minimises a distance goes on) or ``"never"`` (every step of every variant is run and the best kept).
        slots: most rows in flight; None for what suits the device.
        seed: of all random draws.
        max_forwards: most forward passes an attack may spend on a sample; None for no limit.
        errors: ``"raise"``, or ``"record"`` to end the samples that an exception is about and go on.
        progress: called after each change.
    """

    stop: str
    slots: int | None
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
        slots = settings.slots or (_SLOTS if oracle.device.type == "cpu" else _ON_DEVICE)
        self.splitter = Splitter(slots, settings.errors, record.events)
        self.open: Tensor = torch.zeros(len(record.status), dtype=torch.bool)
        self.over: Tensor = torch.zeros(len(record.status), dtype=torch.bool)

    def clean(self) -> Tensor:
        """Predict every clean image; close those that are wrong or not finite.

        Returns:
            Clean logits ``(n, k)`` on the CPU (zeros for samples that raised an error).
        """
        logits, self.open = predict_clean(self.oracle, self.splitter, self.record)
        self.over |= ~self.open
        self._report()
        return logits

    def run(self, stages: tuple[Stage, ...]) -> None:
        """Run all stages on the samples that are still open, then close those."""
        for number, stage in enumerate(stages):
            later, problem = stages[number + 1 :], self.record.problem
            self._stage(number, stage, later)
            self.record.problem = problem  # a stage that refines begins where the one before it has ended
            if not any(s.refines for s in later):
                self.over |= self.record.status == int(Status.BROKEN)
        self.over[:] = True
        self.record.close(self.open)
        self._report()

    def interrupt(self) -> None:
        """Close the record after an interrupt; partially attacked samples are discarded."""
        self.record.close(self.open & self.over)
        self.record.forget(~self.over)

    def _stage(self, number: int, stage: Stage, later: tuple[Stage, ...]) -> None:
        """Run one attack in all its variants on the samples that nothing has broken yet, or that it is to refine."""
        record, limited = self.record, self.settings.max_forwards is not None
        variants = variants_of(stage, record.problem.reference)
        stop_at_hit = self._stops_at_hit(stage)
        todo = [i for i in self._todo(number, stage) if i not in record.errors]
        begun = torch.zeros(len(record.status), dtype=torch.bool)
        cheats = 0

        def write(attempts: Attempt) -> Flag:
            nonlocal cheats
            cheats += int(attempts.cheats.sum())
            begun[attempts.sample[~attempts.unstarted & ~attempts.failed]] = True
            self._write(attempts, number, stage, scheduler.errors)
            return ~self._decided(attempts.sample, stop_at_hit=stop_at_hit)

        def close(sample: int) -> None:
            if not begun[sample] and not stage.refines:
                record.unstarted[sample] = True  # it has not survived this stage, also after an interrupt
            if self._ends(sample, later):
                self.over[sample] = True

        attempts = Attempts(
            todo,
            len(record.status),
            variants,
            stop_at_hit=stop_at_hit,
            beside=not limited and len(variants) > 1,
            survived=number > 0,
            write=write,
            close=close,
        )
        scheduler = RowScheduler(self.oracle, self.splitter, stage, attempts, stop_at_hit=stop_at_hit, limited=limited)
        self._loop(stage, scheduler, attempts)
        if cheats:
            record.events.append(
                f"{stage.attack.describe()}: {cheats} images that reached the goal outside the threat model discarded"
            )
        open_still = record.status != int(Status.BROKEN)
        self._note_unstarted(stage, [i for i in todo if open_still[i] and not begun[i] and i not in record.errors])

    def _loop(self, stage: Stage, scheduler: RowScheduler, attempts: Attempts) -> None:
        """Until no row is in flight and none can be started."""
        active: Active | None = None
        while True:
            active = self._refill(active, attempts, stage, scheduler)
            idle = active is None
            if active is not None:
                active = self._affordable(active, stage, scheduler)
            if active is not None:
                active = self._advance(active, stage, scheduler)
            if idle or scheduler.waiting() >= max(1, self.splitter.slots // _SHARE) or scheduler.urgent():
                active = _together(active, scheduler.settle())
            self._report()
            if idle and active is None and not attempts.waiting():
                break

    def _write(self, attempts: Attempt, number: int, stage: Stage, errors: dict[tuple[int, int], str]) -> None:
        """Take over what rows have come to, in the order of the variants of each sample."""
        record, at = self.record, attempts.sample
        record.spend(at, attempts.steps, attempts.forwards, attempts.backwards, attempts.checks)
        record.invalid[at[attempts.invalid & ~attempts.failed]] = True
        for row in attempts.failed.nonzero().squeeze(1).tolist():
            sample = int(at[row])
            record.errors[sample] = errors[sample, int(attempts.variant[row])]
        restart = torch.tensor([stage.variants[v].restart for v in attempts.variant.tolist()], dtype=torch.int64)
        record.write(at, attempts.measurement, attempts.cost, restart, number)

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

    def _decided(self, sample: Labels, *, stop_at_hit: bool) -> Flag:
        """Of which samples no further variant is to be run."""
        record, limit = self.record, self.settings.max_forwards
        decided = torch.tensor([i in record.errors for i in sample.tolist()], dtype=torch.bool)
        if stop_at_hit:
            decided = decided | (record.status[sample] == int(Status.BROKEN))
        return decided if limit is None else decided | (record.forwards[sample] >= limit)

    def _refill(
        self, active: Active | None, attempts: Attempts, stage: Stage, scheduler: RowScheduler
    ) -> Active | None:
        free = self.splitter.slots - (0 if active is None else len(active.sample))
        if free < max(1, self.splitter.slots // (2 * _SHARE)) or not attempts.waiting():
            return active
        admitted = admit(
            self.record.problem,
            stage,
            attempts.draw(free),
            self.record.forwards,
            self.oracle,
            self.rng,
            tracks=scheduler.tracks,
            keep_sure=not self._stops_at_hit(stage),
        )
        return _together(active, admitted)

    def _affordable(self, active: Active, stage: Stage, scheduler: RowScheduler) -> Active | None:
        """Those rows that max_forwards leaves a first step for; later steps are priced as they end."""
        if self.settings.max_forwards is None:
            return active
        poor = cannot_begin(active, stage.attack, self.oracle.draws, self.settings.max_forwards)
        if not bool(poor.any()):
            return active
        unpaid = take(active, poor.nonzero().squeeze(1))
        scheduler.retire(unpaid._replace(unstarted=(unpaid.spent == 0).to(unpaid.unstarted.device)))
        left = (~poor).nonzero().squeeze(1)
        return take(active, left) if len(left) else None

    def _advance(self, active: Active, stage: Stage, scheduler: RowScheduler) -> Active | None:
        """One step of all rows; returns those that go on."""

        def fail(row: int, failure: Exception) -> None:
            scheduler.fail(take(active, torch.tensor([row])), failure)

        whole = len(active.sample)

        def work(at: Tensor) -> tuple[Active, Step[Any], PerRow]:
            return self._step(active if len(at) == whole else take(active, at), stage)

        parts = self.splitter.run(torch.arange(whole), work, fail)
        if not parts:
            return None
        before, step, self.oracle.doubt = parts[0][1]
        if len(parts) > 1:
            whole_parts = ((b, replace(s, cost=s.costs(), pending=s.left()), d) for _, (b, s, d) in parts)
            before, step, self.oracle.doubt = join(*whole_parts)
        after = scheduler.judge(before, step)
        return after if len(after.sample) else None

    def _step(self, active: Active, stage: Stage) -> tuple[Active, Step[Any], PerRow]:
        oracle = self.oracle
        oracle.bind(active.forwards, active.backwards)
        step = stage.attack.step(active.rows, active.state, oracle, self.rng)
        counted = active._replace(
            state=step.state, steps=active.steps + 1, forwards=oracle.forwards, backwards=oracle.backwards
        )
        if self.settings.max_forwards is not None:
            cost = oracle.forwards - active.forwards
            step = end_where_spent(step, counted, cost, stage.attack, oracle.draws, self.settings.max_forwards)
        doubt = oracle.doubt
        return counted, step, torch.zeros(len(step.hit), device=step.hit.device) if doubt is None else doubt

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
