"""RowScheduler: verifies the hits of one stage's rows, keeps the best image of each, and ends finished rows."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from assay.core.attack import Step
from assay.core.combinators import Stage
from assay.core.oracle import Oracle
from assay.core.tree import choose, expand_rows, join, take
from assay.core.types import Count, Flag, Images
from assay.engine.active_rows import Active
from assay.engine.attempts import Attempt, Attempts
from assay.engine.batching import Splitter, error_text
from assay.engine.referee import Measurement, better, measure, unmeasured


class Claims(NamedTuple):
    """Rows that say they have reached their goal, put aside until enough are there to measure; a tree."""

    rows: Active
    image: Images
    done: Flag
    last: Images


class Look(NamedTuple):
    """What a step has come to, on the CPU: hits, rows with nothing more to try, rows whose values are all finite."""

    hit: Flag
    done: Flag
    finite: Flag


class RowScheduler:
    """Decides which rows go on.

    Where a sample ends with its first hit, claims are measured together, a quarter of the slots at a time: a
    measurement of one image costs almost as much as one of many. Where further variants of a sample run beside the
    one that claims, they wait for nothing: the claim is measured at once. A row whose claim does not stand goes on
    from where it was; its state has not moved.

    Args:
        oracle: the model.
        splitter: runs the measurements.
        stage: the attack and its variants.
        attempts: takes what rows have come to.
        stop_at_hit: whether the first measured hit ends a sample.
        limited: whether rows may be ended before the attack says so.

    Attributes:
        tracks: whether the best image of a row has to be kept while it runs. Where a hit ends the row, and the attack
            says which image to look at when nothing was hit, it has not.
        errors: what the model raised, by sample and variant.
    """

    def __init__(
        self,
        oracle: Oracle,
        splitter: Splitter,
        stage: Stage,
        attempts: Attempts,
        *,
        stop_at_hit: bool,
        limited: bool,
    ) -> None:
        self.oracle, self.splitter, self.stage, self.attempts = oracle, splitter, stage, attempts
        self.stop_at_hit, self.limited = stop_at_hit, limited
        self.claims: list[Claims] = []
        self.errors: dict[tuple[int, int], str] = {}
        self.tracks = True
        self._minimises = stage.attack.traits.minimises is not None

    def judge(self, active: Active, step: Step[Any]) -> Active:
        """After a step: those rows that go on now."""
        look = _look(step, self.oracle.doubt)
        if self.tracks and self.stop_at_hit and step.pending is not None and not self.limited:
            self.tracks = False
        active = active if self.tracks else active._replace(image=None)
        if step.unstarted is not None:
            active = active._replace(unstarted=step.unstarted)
        claimed = look.hit if self.stop_at_hit else look.hit & ~active.has_hit
        ends = look.done | ~look.finite
        active = active if bool(look.finite.all()) else active._replace(invalid=active.invalid | ~look.finite)
        hit = step.hit
        if bool(claimed.any()):
            at = claimed.nonzero().squeeze(1)
            if self.stop_at_hit:
                self._put_aside(active, step, at, ends[at])
                ends = ends & ~claimed
            else:
                active, hit = self._first_hits(active, step, at)
        active = self._keep_best(active, step, hit) if self.tracks else active
        at = ends.nonzero().squeeze(1)
        if len(at):
            self._retire(take(active, at), _last_image(step, at, look.finite[at]))
        gone = ends | claimed if self.stop_at_hit else ends
        if self.attempts.beside:
            gone = gone | ~self.attempts.alive(active.sample, active.variant)
        return take(active, (~gone).nonzero().squeeze(1)) if bool(gone.any()) else active

    def retire(self, rows: Active) -> None:
        """End rows as they are."""
        self._retire(rows, None)

    def fail(self, row: Active, failure: Exception) -> None:
        """End one row on which the model raised an exception; what it had reached before is kept."""
        text, failed = error_text(failure), torch.ones(1, dtype=torch.bool)
        measurement = unmeasured(row.rows, row.rows.x)
        if bool(row.has_hit) and row.sure is not None:
            measurement, failed = self._measure(row, row.sure)
            row = row._replace(checks=row.checks + 1)
        if bool(failed):
            self.errors[int(row.sample[0]), int(row.variant[0])] = text
        self._finish(row, measurement, failed)

    def waiting(self) -> int:
        """How many claims have not been measured."""
        return sum(len(c.done) for c in self.claims)

    def urgent(self) -> bool:
        """Whether other rows run in vain if claims stand."""
        return self.attempts.beside and not all(self.attempts.alone(c.rows.sample) for c in self.claims)

    def settle(self) -> Active | None:
        """Measure all claims; the rows whose claim does not stand and that have steps left."""
        if not self.claims:
            return None
        claims = join(*self.claims) if len(self.claims) > 1 else self.claims[0]
        self.claims = []
        rows = claims.rows._replace(checks=claims.rows.checks + 1)
        measurement, failed = self._measure(rows, claims.image)
        rows = self._noted(rows, measurement)
        stands = measurement.hit.cpu()
        at = (stands | failed).nonzero().squeeze(1)
        if len(at):
            self._finish(take(rows, at), take(measurement, at), failed[at])
        if len(at) == len(stands):
            return None
        left = rows._replace(hit=torch.zeros_like(rows.hit))
        at = (~stands & ~failed & claims.done).nonzero().squeeze(1)
        if len(at):
            self._retire(take(left, at), take(claims.last, at))
        at = (~stands & ~failed & ~claims.done).nonzero().squeeze(1)
        return take(left, at) if len(at) else None

    def _put_aside(self, active: Active, step: Step[Any], at: Tensor, done: Flag) -> None:
        left = step.left()
        last = step.candidate if left is None else left
        image, cost, last = take((step.candidate, step.costs(), last), at)
        self.claims.append(Claims(take(active, at)._replace(cost=cost), image, done, last))

    def _first_hits(self, active: Active, step: Step[Any], at: Tensor) -> tuple[Active, Flag]:
        """Verify the first hit of rows that go on after it, and store it."""
        there = at.to(step.hit.device)
        rows = take(active, at)
        measurement, _ = self._measure(rows, step.candidate[there])
        stands = measurement.hit
        noted = self._noted(rows, measurement)
        active = active._replace(
            checks=active.checks.index_add(0, at, torch.ones_like(at)),
            has_hit=active.has_hit.index_put((at,), stands.cpu()),
            cheats=active.cheats.index_put((at,), noted.cheats),
            invalid=active.invalid.index_put((at,), noted.invalid),
        )
        if active.sure is not None:
            kept = torch.where(expand_rows(stands, measurement.image), measurement.image, active.sure[there])
            active = active._replace(sure=active.sure.index_put((there,), kept))
        return active, step.hit.index_put((there,), stands)

    def _retire(self, rows: Active, last: Images | None) -> None:
        """Measure what rows end with, and hand it on."""
        candidates = [image for image in (rows.image if self.tracks else None, last) if image is not None]
        if self.stop_at_hit and last is not None:
            candidates = [last]
        best, failed = self._measure(rows, candidates[0])
        rows = self._noted(rows, best)
        for image in candidates[1:]:
            other, more = self._measure(rows, image)
            rows, failed, best = self._noted(rows, other), failed | more, better(best, other)
        checks = torch.full_like(rows.checks, len(candidates))
        if rows.sure is not None:
            lost = rows.has_hit & ~best.hit.cpu()
            if bool(lost.any()):
                other, more = self._measure(rows, rows.sure)
                rows, failed = self._noted(rows, other), failed | more
                best, checks = choose(lost.to(best.hit.device), other, best), checks + lost.long()
        self._finish(rows._replace(checks=rows.checks + checks), best, failed)

    def _finish(self, rows: Active, measurement: Measurement, failed: Flag) -> None:
        self.attempts.end(
            Attempt(
                rows.sample,
                rows.variant,
                Measurement(*(t.detach().cpu() for t in measurement)),
                rows.cost.detach().double().cpu(),
                rows.steps,
                rows.forwards,
                rows.backwards,
                rows.checks,
                rows.cheats,
                rows.invalid,
                rows.unstarted.cpu(),
                failed,
            )
        )

    def _measure(self, rows: Active, image: Tensor) -> tuple[Measurement, Flag]:
        """The referee's measurement, and on which rows the model raised; those are written down as errors."""
        failed = torch.zeros(len(image), dtype=torch.bool)

        def work(part: Tensor) -> Measurement:
            whole = len(part) == len(image)
            problem, shown = (rows.rows, image) if whole else take((rows.rows, image), part)
            return measure(self.oracle, self.stage.attack, problem, shown, self.stage.within)

        def fail(row: int, failure: Exception) -> Measurement:
            failed[row] = True
            self.errors[int(rows.sample[row]), int(rows.variant[row])] = error_text(failure)
            return unmeasured(*take((rows.rows, image), torch.tensor([row])))

        parts = self.splitter.run(torch.arange(len(image)), work, fail)
        return (join(*(result for _, result in parts)) if len(parts) > 1 else parts[0][1]), failed

    def _noted(self, rows: Active, measurement: Measurement) -> Active:
        """The rows with what their measurement says beside the verdict: broken rules, logits that are not finite."""
        cheats: Count = rows.cheats + measurement.broke_rules.cpu()
        return rows._replace(cheats=cheats, invalid=rows.invalid | measurement.margin.isnan().cpu())

    def _keep_best(self, active: Active, step: Step[Any], hit: Flag) -> Active:
        """The better of the best so far and this candidate: hits before misses, then the lower cost."""
        cost = step.costs()
        if self._minimises:  # only hits count
            tie = 1 - 8 * torch.finfo(cost.dtype).eps  # a tie goes to the earlier one
            wins = hit & (cost < active.cost * tie)
        else:
            wins = (hit & ~active.hit) | ((hit == active.hit) & _is_less(cost, active.cost))
            active = active._replace(hit=active.hit | hit)
        kept = step.candidate if active.image is None else active.image
        image = torch.where(expand_rows(wins, kept), step.candidate, kept)
        return active._replace(image=image, cost=torch.where(wins, cost, active.cost))


def _is_less(cost: Tensor, best: Tensor) -> Flag:
    """Whether a cost is less than the best so far, by more than rounding."""
    return cost < best - 8 * torch.finfo(cost.dtype).eps * best.abs().nan_to_num(0, 0, 0)


def _look(step: Step[Any], doubt: Tensor | None) -> Look:
    """Hits, ends and finiteness in one number a row: the one synchronisation of a step."""
    one = step.hit.float() if doubt is None else torch.add(step.hit, doubt, alpha=0)  # NaN where doubt is not finite
    done: Flag | None = step.done
    if step.done.device.type != "cpu":
        one, done = torch.add(one, step.done, alpha=2), None
    one = one.cpu()
    finite = one == one
    if done is None:
        return Look((one == 1) | (one == 3), one >= 2, finite)
    return Look(one == 1, done, finite)


def _last_image(step: Step[Any], at: Tensor, finite: Flag) -> Images | None:
    """The image that the attack leaves to be measured; where something was not finite, the one that was evaluated."""
    left = step.left()
    if left is None:
        return None
    pending, candidate = take((left, step.candidate), at)
    if bool(finite.all()):
        return pending
    return torch.where(expand_rows(finite, pending).to(pending.device), pending, candidate)
