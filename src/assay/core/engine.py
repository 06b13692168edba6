"""The one loop that runs every attack: rows in, steps, measured results out.

It drops a row the moment its sample is decided and gives the slot to the next; it never looks into a state.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from assay.core.attack import Step
from assay.core.combinators import Stage
from assay.core.memory import attempt, is_out_of_memory
from assay.core.oracle import Oracle
from assay.core.outcome import Status
from assay.core.progress import Callback, Progress
from assay.core.referee import Measured, Record, better, measure, unmeasured
from assay.core.rng import Rng
from assay.core.slots import Active, Queue, admit, variants_of
from assay.core.tree import choose, join, spread, take
from assay.core.types import Flag, Labels


@dataclass(frozen=True)
class Settings:
    """How to run, not what.

    Attributes:
        stop: ``"hit"`` (a sample ends with its first measured adversarial example) or ``"never"`` (every step of
            every variant is run and the best kept).
        slots: most rows in flight.
        seed: of all random draws.
        budget: most forward passes an attack may spend on a sample; None for no limit.
        errors: ``"raise"``, or ``"record"`` to end the samples that an exception is about and go on.
        progress: called after each change.
    """

    stop: str
    slots: int
    seed: int
    budget: int | None
    errors: str
    progress: Callback | None


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
        self.slots = settings.slots
        self.open: Tensor = torch.zeros(len(record.status), dtype=torch.bool)
        self.ended = 0

    def clean(self) -> Tensor:
        """Predict every clean image; close those that are wrong or not finite.

        Returns:
            Clean logits ``(n, k)`` on the CPU (zeros for samples that raised an error).
        """
        problem, record = self.record.problem, self.record
        parts: dict[int, Tensor] = {}
        chunks = list(torch.arange(len(problem.x)).split(self.slots)) if len(problem.x) else []
        while chunks:
            index = chunks.pop(0)
            logits, failure = attempt(partial(self.oracle.verify, problem.x[index]), self._tolerable)
            if logits is None:
                fail = partial(record.errors.__setitem__, int(index[0]))
                chunks = self._split(index, failure, partial(_tell, fail, failure)) + chunks
                continue
            logits = logits.cpu()
            parts |= dict(zip(index.tolist(), logits, strict=True))
            self._report()
        width = next(iter(parts.values())).shape[0] if parts else 2
        logits = torch.stack([parts.get(i, torch.zeros(width)) for i in range(len(problem.x))]) if parts else (
            torch.zeros(len(problem.x), width))  # fmt: skip
        self._judge_clean(logits, torch.tensor([i in parts for i in range(len(problem.x))], dtype=torch.bool))
        return logits

    def run(self, stages: tuple[Stage, ...]) -> None:
        """Run all stages on the samples that are still open, then close those."""
        for number, stage in enumerate(stages):
            self._stage(number, stage, final=number == len(stages) - 1)
        self.record.close(self.open.nonzero().squeeze(1))
        self.open[:] = False

    def _judge_clean(self, logits: Tensor, seen: Tensor) -> None:
        problem, record = self.record.problem, self.record
        finite = logits.isfinite().all(1) & problem.x.flatten(1).isfinite().all(1).cpu() if len(logits) else seen
        predicted = torch.where(finite & seen, logits.argmax(1), -1)
        record.predicted_clean, record.predicted = predicted, predicted.clone()
        record.checks += seen.long()
        right = finite & seen & (predicted == problem.y.cpu())
        record.status[seen & finite & ~right] = int(Status.MISCLASSIFIED)
        record.status[seen & ~finite] = int(Status.INVALID)
        record.status[~seen] = int(Status.ERROR)
        self.open = right
        self.ended = int((~right).sum())

    def _stage(self, number: int, stage: Stage, *, final: bool) -> None:
        record, classes = self.record, self.record.problem.reference.shape[1]
        variants = variants_of(stage, classes)
        todo = (self.open & (record.status != int(Status.BROKEN))).nonzero().squeeze(1).tolist()
        last = {i: 0 for i in todo if i not in record.errors}
        queue = Queue()
        queue.waiting.extend((i, variants[0]) for i in last)

        def over(sample: int) -> None:
            """A row of the sample has ended: queue its next variant, or leave it."""
            broken = record.status[sample] == int(Status.BROKEN)
            last[sample] += 1
            spent = self.settings.budget is not None and record.forwards[sample] >= self.settings.budget
            stop = sample in record.errors or spent or (broken and self.settings.stop == "hit")
            if not stop and last[sample] < len(variants):
                queue.waiting.append((sample, variants[last[sample]]))
            elif final or broken or sample in record.errors:
                self.ended += 1

        active: Active | None = None
        while True:
            active = self._refill(active, queue, stage)
            if active is None:
                return
            active = self._advance(active, number, stage, over)
            self._report()

    def _refill(self, active: Active | None, queue: Queue, stage: Stage) -> Active | None:
        count = 0 if active is None else len(active.sample)
        free = self.slots - count
        if not queue.waiting or free < max(1, self.slots // 8):
            return active if count else None if not queue.waiting else self._admit(active, queue, stage, free)
        return self._admit(active, queue, stage, free)

    def _admit(self, active: Active | None, queue: Queue, stage: Stage, free: int) -> Active:
        pairs = queue.draw(max(free, 1))
        new = admit(self.record.problem, stage, pairs, self.record.forwards, self.oracle, self.rng,
                    keep_sure=self.settings.stop == "never")  # fmt: skip
        return new if active is None or len(active.sample) == 0 else join(active, new)

    def _advance(self, active: Active, number: int, stage: Stage, over: Callable[[int], None]) -> Active:
        """One step of all rows; returns those that go on."""
        pieces = self._step(active, stage, over)
        if not pieces:
            return take(active, torch.zeros(0, dtype=torch.int64, device=active.sample.device))
        before = join(*(p[0] for p in pieces)) if len(pieces) > 1 else pieces[0][0]
        step = join(*(p[1] for p in pieces)) if len(pieces) > 1 else pieces[0][1]
        return self._judge(before, step, number, stage, over)

    def _step(self, active: Active, stage: Stage, over: Callable[[int], None]) -> list[tuple[Active, Step[Any]]]:
        """Step all rows, in halves where memory runs out (or, when errors are recorded, where one is raised)."""
        work, finished = [active], []
        while work:
            part = work.pop(0)
            result, failure = attempt(partial(self._one, part, stage), self._tolerable)
            if failure is None and result is not None:
                finished.append(result)
                continue

            def fail(row: int, part: Active = part, failure: Exception | None = failure) -> None:
                sample = int(part.sample[row])
                self.record.errors[sample] = _text(failure)
                over(sample)

            index = torch.arange(len(part.sample), device=part.sample.device)
            work = [take(part, half) for half in self._split(index, failure, fail)] + work
        return finished

    def _one(self, active: Active, stage: Stage) -> tuple[Active, Step[Any]]:
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
        if self.settings.budget is not None:
            cost = oracle.forwards - active.forwards
            short = counted.spent + counted.forwards + cost > self.settings.budget
            step = replace(step, done=step.done | short, pending=None if bool(short.any()) else step.pending)
        return counted, step

    def _split(self, index: Tensor, failure: Exception | None, fail: Callable[[int], None]) -> list[Tensor]:
        """The two halves of a failed batch; a single row that still fails is recorded or raised."""
        if failure is None:
            return []
        memory = is_out_of_memory(failure)
        if len(index) == 1:
            if self.settings.errors == "raise":
                raise failure
            fail(int(index[0]))
            return []
        half = (len(index) + 1) // 2
        if memory and self.slots > half:
            self.slots = half
            self.record.events.append(f"out of memory with {len(index)} rows at once; went on with {half}")
        return [index[:half], index[half:]]

    def _judge(self, active: Active, step: Step[Any], number: int, stage: Stage, over: Callable[[int], None]) -> Active:
        """Measure claims, keep the best, and take out the rows that have come to their end."""
        stop_at_hit = self.settings.stop == "hit"
        claim = step.hit if stop_at_hit else step.hit & ~active.found
        ends = step.done | active.nonfinite
        codes = (claim.long() + 2 * ends.long()).cpu()  # the one synchronisation of a step
        claimed, ending = (codes & 1).bool(), codes >= 2
        device = active.sample.device
        hit = step.hit
        if bool(claimed.any()):
            at = claimed.nonzero().squeeze(1).to(device)
            found = self._measure(stage, take(active, at), step.candidate[at])
            hit = hit.index_put((at,), found.hit)
            active = active._replace(checks=active.checks.index_add(0, at, torch.ones_like(at)))
            if stop_at_hit:
                self._write(take(active, at), found, step.cost[at], number, stage, only=found.hit)
                ending = ending.index_put((at.cpu(),), ending[at.cpu()] | found.hit.cpu())
            elif active.sure is not None:
                sure = active.sure.index_put((at,), torch.where(
                    spread(found.hit, found.image), found.image, active.sure[at]))  # fmt: skip
                active = active._replace(sure=sure, found=active.found.index_put((at,), found.hit))
        track = not stop_at_hit or step.pending is None  # else the image is measured at the hit or at the end
        active = _keep_best(active, step, hit, image=track)
        if not bool(ending.any()):
            return active
        self._retire(active, step, ending.nonzero().squeeze(1).to(device), number, stage, over)
        return take(active, (~ending).nonzero().squeeze(1).to(device))

    def _retire(
        self, active: Active, step: Step[Any], at: Labels, number: int, stage: Stage, over: Callable[[int], None]
    ) -> None:
        rows = take(active, at)
        open_rows = at
        if self.settings.stop == "hit":
            broken = torch.tensor([self.record.status[i] == int(Status.BROKEN) for i in rows.sample.tolist()])
            open_rows = at[~broken.to(at.device)]
        if len(open_rows):
            left = take(active, open_rows)
            found, checks = self._last_look(left, step, open_rows, stage)
            left = left._replace(checks=left.checks + checks)
            self._write(left, found, left.cost, number, stage, only=None)
            active = active._replace(checks=active.checks.index_add(0, open_rows, torch.full_like(open_rows, checks)))
            rows = take(active, at)
        samples = rows.sample.cpu()
        self.record.spend(samples, rows.steps, rows.forwards, rows.backwards, rows.checks)
        bad = rows.nonfinite.cpu()
        self.record.invalid[samples[bad]] = True
        for sample in samples.tolist():
            over(sample)

    def _last_look(self, rows: Active, step: Step[Any], at: Labels, stage: Stage) -> tuple[Measured, int]:
        """Measure what a row ends with: the image not evaluated yet, the best seen, the sure one."""
        candidates = []
        if self.settings.stop == "never" or step.pending is None:
            candidates.append(rows.image)
        if step.pending is not None:
            pending = step.pending[at]
            candidates.append(torch.where(spread(rows.nonfinite, pending), rows.image, pending))
        found = self._measure(stage, rows, candidates[0])
        for image in candidates[1:]:
            found = better(found, self._measure(stage, rows, image))
        if rows.sure is not None and bool((rows.found & ~found.hit).any()):
            candidates.append(rows.sure)
            sure = self._measure(stage, rows, rows.sure)
            found = choose(rows.found & ~found.hit, sure, found)
        return found, len(candidates)

    def _measure(self, stage: Stage, rows: Active, image: Tensor) -> Measured:
        work, parts = [torch.arange(len(image), device=image.device)], []
        while work:
            part = work.pop(0)
            problem = take(rows.rows, part)
            found, failure = attempt(partial(measure, self.oracle, stage.attack, problem, image[part]), self._tolerable)
            if found is None:

                def fail(row: int, failure: Exception | None = failure) -> None:
                    self.record.errors[int(rows.sample[row])] = _text(failure)

                halves = self._split(part, failure, fail)
                if not halves:
                    parts.append(unmeasured(problem, image[part]))
                work = halves + work
            else:
                parts.append(found)
        found = join(*parts)
        self.record.invalid[rows.sample[found.margin.isnan()].cpu()] = True  # logits that are not finite
        cheats = int(found.broke_rules.sum())
        if cheats:
            self.record.events.append(
                f"{stage.attack.describe()}: {cheats} images that reached the goal outside the threat model discarded"
            )
        return found

    def _write(
        self, rows: Active, found: Measured, cost: Tensor, number: int, stage: Stage, *, only: Flag | None
    ) -> None:
        if only is not None:
            at = only.nonzero().squeeze(1)
            rows, found, cost = take(rows, at), take(found, at), cost[at]
        restart = torch.tensor([stage.variants[v].restart for v in rows.variant.tolist()], dtype=torch.int64)
        self.record.write(rows.sample, found, cost, restart, number)

    def _tolerable(self, error: Exception) -> bool:
        return is_out_of_memory(error) or self.settings.errors == "record"

    def _report(self) -> None:
        if self.settings.progress is not None:
            record = self.record
            broken = int((record.status == int(Status.BROKEN)).sum())
            passes = int(record.forwards.sum() + record.backwards.sum())
            self.settings.progress(Progress(self.name, self.ended, len(record.status), broken, passes))


def _keep_best(active: Active, step: Step[Any], hit: Flag, *, image: bool) -> Active:
    """The better of the best so far and this candidate: hits before misses, then the lower cost."""
    closer = step.cost < active.cost
    wins = (hit & ~active.hit) | ((hit == active.hit) & closer)
    kept = torch.where(spread(wins, active.image), step.candidate, active.image) if image else active.image
    return active._replace(
        image=kept,
        cost=torch.where(wins, step.cost, active.cost),
        hit=active.hit | hit,
    )


def _tell(store: Callable[[str], None], failure: Exception | None, _: int) -> None:
    store(_text(failure))


def _text(failure: Exception | None) -> str:
    return f"{type(failure).__name__}: {failure}"
