"""RowScheduler: verifies the hits of one stage's rows, keeps the best image of each, and ends finished rows."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from assay.core.attack import Step
from assay.core.combinators import Stage
from assay.core.oracle import Oracle
from assay.core.tree import choose, expand_rows, join, take
from assay.core.types import Flag, Images
from assay.engine.active_rows import Active
from assay.engine.batching import Splitter, error_text
from assay.engine.referee import Measurement, Record, better, measure, unmeasured


class Claims(NamedTuple):
    """Rows that say they have reached their goal, put aside until enough are there to measure; a tree."""

    rows: Active
    done: Flag
    pending: Images


class RowScheduler:
    """Decides which rows go on.

    Where a sample ends with its first hit, claims are measured together, a quarter of the slots at a time: a
    measurement of one image costs almost as much as one of many. A row whose claim does not stand goes on from where
    it was; its state has not moved.

    Args:
        oracle: the model.
        record: where results go.
        stop_at_hit: whether the first measured hit ends a sample.
        splitter: runs the measurements.
        stage: the attack and its variants.
        number: of the stage.
        over: called with each sample whose row has ended.

    Attributes:
        begun: samples of which a row has ended that could begin, ``(n,)``.
    """

    def __init__(
        self,
        oracle: Oracle,
        record: Record,
        splitter: Splitter,
        stage: Stage,
        number: int,
        over: Callable[[int], None],
        *,
        stop_at_hit: bool,
    ) -> None:
        self.oracle, self.record, self.splitter, self.stage, self.number = oracle, record, splitter, stage, number
        self.over, self.stop_at_hit = over, stop_at_hit
        self.claims: list[Claims] = []
        self.begun: Tensor = torch.zeros(len(record.status), dtype=torch.bool)

    def judge(self, active: Active, step: Step[Any]) -> Active:
        """After a step: those rows that go on now."""
        claim = step.hit if self.stop_at_hit else step.hit & ~active.has_hit
        ends = step.done | active.nonfinite
        codes = (claim.long() + 2 * ends.long()).cpu()  # the one synchronisation of a step
        claimed, ending = (codes & 1).bool(), codes >= 2
        device = active.sample.device
        hit = step.hit
        if step.unstarted is not None:
            active = active._replace(unstarted=step.unstarted)
        if bool(claimed.any()):
            at = claimed.nonzero().squeeze(1).to(device)
            if self.stop_at_hit:
                self._put_aside(active, step, at, ends[at])
                ending = ending & ~claimed
            else:
                active, hit = self._first_hits(active, step, at)
        track = not self.stop_at_hit or step.pending is None  # else the image is measured at the hit or at the end
        active = _keep_best(active, step, hit, image=track)
        at = ending.nonzero().squeeze(1).to(device)
        if len(at):
            self._retire(take(active, at), None if step.pending is None else step.pending[at])
        gone = ending | claimed if self.stop_at_hit else ending
        return take(active, (~gone).nonzero().squeeze(1).to(device)) if bool(gone.any()) else active

    def retire(self, rows: Active) -> None:
        """End rows as they are."""
        self._retire(rows, None)

    def waiting(self) -> int:
        """How many claims have not been measured."""
        return sum(len(c.done) for c in self.claims)

    def settle(self) -> Active | None:
        """Measure all claims; the rows whose claim does not stand and that have steps left."""
        if not self.claims:
            return None
        claims = join(*self.claims) if len(self.claims) > 1 else self.claims[0]
        self.claims = []
        rows = claims.rows._replace(checks=claims.rows.checks + 1)
        measurement = self._measure(rows, rows.image)
        self._write(rows, measurement, only=measurement.hit)
        failed = torch.tensor([i in self.record.errors for i in rows.sample.tolist()], device=measurement.hit.device)
        self._finish(take(rows, (measurement.hit | failed).nonzero().squeeze(1)))
        left = rows._replace(hit=torch.zeros_like(rows.hit))
        at = (~measurement.hit & ~failed & claims.done).nonzero().squeeze(1)
        if len(at):
            self._retire(take(left, at), claims.pending[at])
        at = (~measurement.hit & ~failed & ~claims.done).nonzero().squeeze(1)
        return take(left, at) if len(at) else None

    def _put_aside(self, active: Active, step: Step[Any], at: Tensor, done: Flag) -> None:
        rows = take(active, at)._replace(image=step.candidate[at], cost=step.cost[at])
        pending = step.candidate if step.pending is None else step.pending
        self.claims.append(Claims(rows, done, pending[at]))

    def _first_hits(self, active: Active, step: Step[Any], at: Tensor) -> tuple[Active, Flag]:
        """Verify the first hit of rows that go on after it, and store it."""
        measurement = self._measure(take(active, at), step.candidate[at])
        checks = active.checks.index_add(0, at, torch.ones_like(at))
        hit = step.hit.index_put((at,), measurement.hit)
        active = active._replace(checks=checks, has_hit=active.has_hit.index_put((at,), measurement.hit))
        if active.sure is not None:
            kept = torch.where(expand_rows(measurement.hit, measurement.image), measurement.image, active.sure[at])
            active = active._replace(sure=active.sure.index_put((at,), kept))
        return active, hit

    def _retire(self, rows: Active, pending: Images | None) -> None:
        """Measure what rows end with, and write it down."""
        measurement, checks = self._last_look(rows, pending)
        rows = rows._replace(checks=rows.checks + checks)
        self._write(rows, measurement, only=None)
        self._finish(rows)

    def _finish(self, rows: Active) -> None:
        samples = rows.sample.cpu()
        self.record.spend(samples, rows.steps, rows.forwards, rows.backwards, rows.checks)
        self.record.invalid[samples[rows.nonfinite.cpu()]] = True
        self.begun[samples[~rows.unstarted.cpu()]] = True
        for sample in samples.tolist():
            self.over(sample)

    def _last_look(self, rows: Active, pending: Images | None) -> tuple[Measurement, int]:
        """Measure the image that was not evaluated yet, the best seen, the sure one; return the best of them."""
        candidates = [] if self.stop_at_hit and pending is not None else [rows.image]
        if pending is not None:
            candidates.append(torch.where(expand_rows(rows.nonfinite, pending), rows.image, pending))
        best = self._measure(rows, candidates[0])
        for image in candidates[1:]:
            best = better(best, self._measure(rows, image))
        if rows.sure is not None and bool((rows.has_hit & ~best.hit).any()):
            candidates.append(rows.sure)
            best = choose(rows.has_hit & ~best.hit, self._measure(rows, rows.sure), best)
        return best, len(candidates)

    def _measure(self, rows: Active, image: Tensor) -> Measurement:
        """The referee's measurement; a row on which the model raises is written down as an error."""

        def work(part: Tensor) -> Measurement:
            return measure(self.oracle, self.stage.attack, take(rows.rows, part), image[part], self.stage.within)

        def fail(row: int, failure: Exception) -> Measurement:
            self.record.errors[int(rows.sample[row])] = error_text(failure)
            only = torch.tensor([row], device=image.device)
            return unmeasured(take(rows.rows, only), image[only])

        parts = self.splitter.run(torch.arange(len(image), device=image.device), work, fail)
        measurement = join(*(result for _, result in parts)) if len(parts) > 1 else parts[0][1]
        self.record.invalid[rows.sample[measurement.margin.isnan()].cpu()] = True  # logits that are not finite
        cheats = int(measurement.broke_rules.sum())
        if cheats:
            name = self.stage.attack.describe()
            self.record.events.append(
                f"{name}: {cheats} images that reached the goal outside the threat model discarded"
            )
        return measurement

    def _write(self, rows: Active, measurement: Measurement, *, only: Flag | None) -> None:
        if only is not None:
            at = only.nonzero().squeeze(1)
            rows, measurement = take(rows, at), take(measurement, at)
        restart = [self.stage.variants[v].restart for v in rows.variant.tolist()]
        self.record.write(rows.sample, measurement, rows.cost, torch.tensor(restart, dtype=torch.int64), self.number)


def _keep_best(active: Active, step: Step[Any], hit: Flag, *, image: bool) -> Active:
    """The better of the best so far and this candidate: hits before misses, then the lower cost."""
    tie = 8 * torch.finfo(step.cost.dtype).eps * active.cost.abs().nan_to_num(0, 0, 0)  # a tie goes to the earlier one
    closer = step.cost < active.cost - tie
    wins = (hit & ~active.hit) | ((hit == active.hit) & closer)
    kept = torch.where(expand_rows(wins, active.image), step.candidate, active.image) if image else active.image
    return active._replace(image=kept, cost=torch.where(wins, step.cost, active.cost), hit=active.hit | hit)
