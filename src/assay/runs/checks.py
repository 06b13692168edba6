"""The checks of a run: asked once all attacks are done, each answer kept in the ledger, shown beside the numbers.

What only looks is asked in this process; what attacks anew is work for the executor, like the attacks.
"""

import hashlib
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from assay.runs.check_tasks import Cells, CheckOrder, evidence_of, exam_of, forget
from assay.runs.executors import Executor
from assay.runs.fault_injection import crossing
from assay.runs.interrupts import Asked
from assay.runs.plan import Area, Subject
from assay.runs.retry_queue import ATTEMPTS, Ticket, handed_out
from assay.runs.scheduler import now
from assay.runs.settings import Settings
from assay.store.code_digest import code_digest
from assay.store.ledger import Ledger
from assay.trust import Asking, Found, Level, askings, by_check, grade
from assay.trust.answer import LEFT_OUT, failed
from assay.util.packages import package_version

Told = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class _Case:
    """A model whose results are checked.

    Attributes:
        subject: the model.
        area: data.
        own: attacks on it.
        others: attacks on other models, on the same data.
        settings: how to run.
    """

    subject: Subject
    area: Area
    own: Cells
    others: Cells
    settings: Settings

    @property
    def name(self) -> str:
        """Data and model."""
        return f"{self.area.name}/{self.subject.name}"

    @property
    def fast(self) -> bool:
        """Whether nothing is attacked anew."""
        return self.settings.checks == "fast"

    @property
    def asked(self) -> tuple[Asking, ...]:
        """All that is asked."""
        return askings(sum(cell.words.curve is None for cell, _ in self.own), fast=self.fast)

    def key(self, kind: str, *more: str) -> str:
        """A name for all that an answer depends on (the order of attacks, too), and ``more``."""
        parts = [self.subject.identity, self.area.data.digest, str(self.settings.checked),
                 code_digest("assay.trust", "assay.models"),
                 torch.__version__, *(package_version(name) for name in ("torchattacks", "foolbox")),
                 *(f"{entry.key} {cell.words.curve or ''}" for cell, entry in self.own), *more]  # fmt: skip
        return f"{kind}-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]

    def key_of(self, asking: Asking) -> str:
        """The name of one answer of a check that attacks anew: other models have no part in it."""
        claims = [entry.key for cell, entry in self.own if cell.words.curve is None]
        return self.key("check", asking.check, "" if asking.of is None else claims[asking.of])

    @property
    def surroundings(self) -> tuple[str, ...]:
        """What else decides the answers of those that only look: what is known, and other models' images."""
        return str(self.subject.reference), *(f"{entry.key} {cell.words.curve or ''}" for cell, entry in self.others)


def check(
    areas: Sequence[Area],
    cells: Cells,
    ledger: Ledger,
    out: Path,
    settings: Settings,
    executor: Executor,
    asked: Asked,
    *,
    notice: Callable[[str], None] = lambda _: None,
    told: Told = lambda _what, _done, _of: None,
) -> dict[str, str]:
    """Examine every model of a run; what was asked before of the same results is kept.

    Args:
        areas: data and models.
        cells: what was wanted, and where it is in the ledger.
        ledger: of the run.
        out: its folder.
        settings: how much is checked, on how many samples, and where models run.
        executor: who attacks anew.
        asked: whether an end was asked for.
        notice: called with a line for each model.
        told: progress.

    Returns:
        The grade of each model, by ``data/model``; ``none`` for one that could not be checked.
    """
    cases = list(_cases(areas, cells, settings)) if settings.checks != "none" else []
    keys = {case: case.key("checks", *case.surroundings, settings.checks) for case in cases}
    there = {case: kept for case, key in keys.items() if _whole(kept := ledger.answer(key))}
    for case, kept in there.items():
        _tell(case, kept, notice)
    looked = _looked([case for case in cases if case not in there], ledger, out, asked, notice, told)
    try:
        for case, answers in _completed(looked, ledger, executor, asked, told):
            there[case] = _judged({asking: answers[asking] for asking in case.asked}, fast=case.fast)
            ledger.add_answer(keys[case], "checks", there[case])
            _tell(case, there[case], notice)
    finally:
        forget()
    known = [case for case in cases if case in there]
    ledger.keep(checks={case.name: keys[case] for case in known})
    return {case.name: there[case]["grade"] if case in there else "none" for case in cases}


def _cases(areas: Sequence[Area], cells: Cells, settings: Settings) -> Iterator[_Case]:
    for area in areas:
        mine = [(cell, entry) for cell, entry in cells if cell.words.data == area.name]
        for subject in area.subjects:
            own = [(cell, entry) for cell, entry in mine if cell.words.model == subject.name]
            others = [(cell, entry) for cell, entry in mine if cell.words.model != subject.name]
            if own:
                yield _Case(subject, area, own, others, settings)


def _looked(
    cases: Sequence[_Case], ledger: Ledger, out: Path, asked: Asked, notice: Callable[[str], None], told: Told
) -> dict[_Case, dict[Asking, Found]]:
    """Answers of what attacks nothing, by case; a model that cannot be looked at is told, and left out."""
    found: dict[_Case, dict[Asking, Found]] = {}
    for number, case in enumerate(cases):
        if asked.signal:
            break
        told(f"looking at {case.name}", number, len(cases))
        key, quick = case.key("looked", *case.surroundings), [asking for asking in case.asked if not asking.slow]
        kept = ledger.answer(key)
        if kept is None:
            try:
                exam = exam_of(case.subject, case.area.data, case.own, case.others, ledger, out, case.settings.checked)
            except (OSError, sqlite3.Error):
                raise
            except Exception as error:  # of the model: no reason to lose tables and report
                notice(f"{case.subject.name} on {case.area.name}: cannot be checked: {type(error).__name__}: {error}")
                continue
            kept = [_plain(asking.answer(exam)) for asking in quick]
            if not any(answer["failed"] for answer in kept):
                ledger.add_answer(key, "looked", kept)
        found[case] = {asking: _read(answer) for asking, answer in zip(quick, kept, strict=True)}
    told("looked at all models", len(cases), len(cases))
    return found


def _completed(
    looked: Mapping[_Case, dict[Asking, Found]], ledger: Ledger, executor: Executor, asked: Asked, told: Told
) -> Iterator[tuple[_Case, dict[Asking, Found]]]:
    """Each case with all its answers, as soon as they are there."""
    todo: deque[Ticket[_Case, CheckOrder]] = deque()
    left: dict[_Case, int] = {}
    for case, answers in looked.items():
        missing = _missing(case, answers, ledger)
        left[case] = len(missing)
        todo.extend(Ticket(case, order) for order in _orders(case, missing, ledger))
        if not missing:
            yield case, answers
    total = len(todo)
    if todo:
        told(f"{todo[0].job.name}, {todo[0].work.asking.title}", 0, total)
    for ticket, found in handed_out(todo, executor, asked):
        asking, case = ticket.work.asking, ticket.job
        if found is None:
            ledger.tell(now(), f"{case.name}, {asking.title}: the worker was lost, time {ticket.lost}")
            if not ticket.given_up:
                continue
        looked[case][asking] = answer = _answer(found)
        if not answer.failed:
            ledger.add_answer(case.key_of(asking), "check", _plain(answer))
            crossing("check-committed")
        left[case] -= 1
        told(f"{case.name}, {asking.title}", total - sum(left.values()), total)
        if not left[case]:
            yield case, looked[case]


def _missing(case: _Case, answers: dict[Asking, Found], ledger: Ledger) -> list[Asking]:
    """What attacks anew and has no answer yet; answers that are there are added to the others."""
    missing = []
    for asking in (asking for asking in case.asked if asking.slow):
        kept = ledger.answer(case.key_of(asking))
        if kept is None:
            missing.append(asking)
        else:
            answers[asking] = _read(kept)
    return missing


def _orders(case: _Case, missing: Sequence[Asking], ledger: Ledger) -> Iterator[CheckOrder]:
    if not missing:
        return
    evidence, first, exam = evidence_of(case.own, ledger), case.own[0][0].order, case.key("exam")
    for asking in missing:
        yield CheckOrder(exam, first.model, first.data, evidence, case.subject.identity,
                         case.settings.device, case.settings.checked, asking)  # fmt: skip


def _answer(found: Any) -> Found:
    if found is None:
        return failed(f"its process ended {ATTEMPTS} times (killed, out of memory?)")
    if isinstance(found, Exception):
        return failed(f"{type(found).__name__}: {str(found)[:200]}")
    answer: Found = found
    return answer


def _judged(answers: Mapping[Asking, Found], *, fast: bool) -> dict[str, Any]:
    """Grade, reasons and answers, as the ledger keeps them."""
    found = by_check(answers, fast=fast)
    verdict = grade(found)
    checks = [{"check": name, **_plain(answer)} for name, given in found.items() for answer in given]
    return {"grade": verdict.grade, "why": list(verdict.why), "checks": checks}


def _whole(found: Any) -> bool:
    """Whether all answers are there: what could not be carried out is asked again."""
    return found is not None and not any(answer.get("failed") for answer in found["checks"])


def _tell(case: _Case, found: Mapping[str, Any], notice: Callable[[str], None]) -> None:
    why = f": {', '.join(found['why'])}" if found["why"] else ""
    notice(f"{case.subject.name} on {case.area.name}: grade {found['grade']}{why}")
    for text in _reasons(found):
        notice(f"  {text}")


def _reasons(found: Mapping[str, Any]) -> list[str]:
    """Of each check that lowers a grade below standard the first of its worst answers; not what was to be left out."""
    worst: dict[str, str] = {}
    for level in ("issue", "warning", "open"):
        for answer in found["checks"]:
            if answer["level"] == level and answer["check"] in found["why"] and answer["text"] != LEFT_OUT:
                worst.setdefault(answer["check"], f"{answer['check']}: {answer['text']}")
    return list(worst.values()) if found["grade"] in ("unusable", "weak") else []


def _plain(found: Found) -> dict[str, Any]:
    """An answer as JSON can hold it."""
    finite = found.value is None or abs(found.value) < float("inf")
    return {**asdict(found), "level": str(found.level), "samples": list(found.samples)[:50],
            "value": found.value if finite else None}  # fmt: skip


def _read(kept: Mapping[str, Any]) -> Found:
    return Found(**{**kept, "level": Level(kept["level"]), "samples": tuple(kept["samples"])})
