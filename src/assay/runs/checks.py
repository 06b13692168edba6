"""The checks of a run: asked once all attacks are done, kept in the ledger, shown beside the numbers."""

import hashlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.outcome import Status
from assay.runs.cells import Area, Subject, Wanted
from assay.runs.facts import code_digest, package_version
from assay.runs.ledger import Entry, Ledger
from assay.runs.records import Words
from assay.runs.view import cell_of
from assay.trust import Exam, Result, examine, grade

_OTHERS = 256


def check(
    areas: Sequence[Area],
    cells: Sequence[tuple[Wanted, Entry]],
    ledger: Ledger,
    out: Path,
    *,
    how: str = "full",
    samples: int = 64,
    device: str = "cpu",
    notice: Callable[[str], None] = lambda _: None,
    told: Callable[[str, int, int], None] = lambda _what, _done, _of: None,
) -> dict[str, str]:
    """Examine every model of a run; what was asked before of the same results is kept.

    Args:
        areas: data and models.
        cells: what was wanted, and where it is in the ledger.
        ledger: of the run.
        out: its folder.
        how: ``"full"``, ``"fast"`` or ``"none"``, see `Settings`.
        samples: how many samples are looked at again.
        device: where models run.
        notice: called with a line for each model.
        told: progress.

    Returns:
        The grade of each model, by ``data/model``.
    """
    keys, grades = {}, {}
    for area in areas:
        mine = [(cell, entry) for cell, entry in cells if cell.words.data == area.name]
        for subject in area.subjects if how != "none" else ():
            own = [(cell, entry) for cell, entry in mine if cell.words.model == subject.name]
            if not own:
                continue
            key = _key(subject, area, own, mine, how, samples)
            found = ledger.answer(key)
            if found is None:
                try:
                    exam = _exam(subject, area, own, mine, ledger, out, samples, device)
                except (OSError, sqlite3.Error):
                    raise
                except Exception as error:  # of the model: no reason to lose tables and report
                    notice(f"{subject.name} on {area.name}: cannot be checked: {type(error).__name__}: {error}")
                    continue
                found = _examined(exam, fast=how == "fast", told=told)
                ledger.add_answer(key, "checks", found)
            keys[f"{area.name}/{subject.name}"] = key
            grades[f"{area.name}/{subject.name}"] = found["grade"]
            why = f": {', '.join(found['why'])}" if found["why"] else ""
            notice(f"{subject.name} on {area.name}: grade {found['grade']}{why}")
            for text in _reasons(found):
                notice(f"  {text}")
    ledger.keep(checks=keys)
    return grades


def _reasons(found: Mapping[str, Any]) -> list[str]:
    """Of each check that lowers a grade below standard the first of its worst answers."""
    worst: dict[str, str] = {}
    for level in ("issue", "warning", "open"):
        for answer in found["checks"]:
            if answer["level"] == level and answer["check"] in found["why"]:
                worst.setdefault(answer["check"], f"{answer['check']}: {answer['text']}")
    return list(worst.values()) if found["grade"] in ("unusable", "weak") else []


def _examined(exam: Exam, *, fast: bool, told: Callable[[str, int, int], None]) -> dict[str, Any]:
    answers = examine(exam, fast=fast, told=told)
    verdict = grade(answers)
    checks = [{"check": name, **_plain(asdict(answer))} for name, given in answers.items() for answer in given]
    return {"grade": verdict.grade, "why": list(verdict.why), "checks": checks}


def _key(
    subject: Subject,
    area: Area,
    own: Sequence[tuple[Wanted, Entry]],
    all_: Sequence[tuple[Wanted, Entry]],
    how: str,
    samples: int,
) -> str:
    """A name for all that the answers depend on: also what other models' images and other libraries there are."""
    parts = [subject.identity, area.data.digest, how, str(samples), code_digest("trust"), torch.__version__]
    parts += [package_version(name) for name in ("torchattacks", "foolbox")] + [str(subject.reference)]
    parts += sorted(f"{entry.key} {cell.words.curve or ''}" for cell, entry in own)
    parts += ["others", *sorted(entry.key for cell, entry in all_ if cell.words.model != subject.name)]
    return "checks-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _exam(
    subject: Subject,
    area: Area,
    own: Sequence[tuple[Wanted, Entry]],
    all_: Sequence[tuple[Wanted, Entry]],
    ledger: Ledger,
    out: Path,
    samples: int,
    device: str,
) -> Exam:
    model = (subject.model if isinstance(subject.model, nn.Module) else subject.model.make()).to(device)
    parts, shape = ledger.parts(), tuple(area.data.x.shape[1:])

    def cell(entry: Entry, words: Words) -> Any:
        return cell_of(out, ledger, entry, words, parts.get(entry.id, []), shape)

    results = []
    for wanted, entry in own:
        made = cell(entry, wanted.words)
        results.append(Result(wanted.order.planned, made.outcome, made.image, adapted=wanted.order.settings.adaptive,
                              seed=wanted.words.seed, claimed=wanted.words.curve is None))  # fmt: skip
    others = [made for wanted, entry in all_ if wanted.words.model != subject.name and wanted.words.curve is None
              for made in (cell(entry, wanted.words),)]  # fmt: skip
    recorded = {**own[0][1].fields, "search": own[0][0].order.settings.search}
    return Exam(model, area.data.images(), area.data.y, tuple(results), masks=area.data.masks,
                others=_foreign(others), reference=subject.reference, samples=samples,
                recorded=recorded)  # fmt: skip


def _foreign(cells: Sequence[Any]) -> list[tuple[int, Tensor]]:
    """Adversarial images that were made on other models, `_OTHERS` in all at most, of each attack as many."""
    found: list[tuple[int, Tensor]] = []
    share = max(1, _OTHERS // max(len(cells), 1))
    for cell in cells[:_OTHERS]:
        for sample in (cell.outcome.status == int(Status.BROKEN)).nonzero().squeeze(1).tolist()[:share]:
            image = cell.image(sample)
            if image is not None:
                found.append((sample, image))
    return found


def _plain(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer as JSON can hold it."""
    value = answer["value"]
    finite = value is None or abs(value) < float("inf")
    return {**answer, "level": str(answer["level"]), "samples": list(answer["samples"])[:50],
            "value": value if finite else None}  # fmt: skip
