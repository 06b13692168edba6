"""The questions of a study: diagnostics and signatures, each answer kept in the ledger under what decides it."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from assay.data import Dataset
from assay.data import load as load_data
from assay.diagnostics import load_trail
from assay.diagnostics.case import Case
from assay.diagnostics.registry import DIAGNOSTICS
from assay.runs.diagnose import asked, identity
from assay.runs.ledger import Ledger
from assay.runs.lessons import lesson_of
from assay.runs.schema import Config, Diagnosis
from assay.runs.signatures import learned
from assay.runs.trained import Origin

Where = Mapping[tuple[str, str], Origin]


def answer_questions(
    config: Config,
    parts: Mapping[str, Dataset],
    where: Where,
    ledger: Ledger,
    out: Path,
    notice: Callable[[str], None],
) -> None:
    """Ask what the study asks; answers of an earlier call about the same things are kept.

    Args:
        config: the study.
        parts: the test images of each data set.
        where: the models.
        ledger: where answers go.
        out: the run's folder.
        notice: called with a line for each answer.
    """
    shown: list[str] = []
    for question in config.diagnostics:
        case = _case(config, question, parts, where)
        for name in question.ask:
            key = hashlib.sha256(f"{identity(case)}\n{name}".encode()).hexdigest()[:24]
            found, told = ledger.answer(key), " (kept from before)"
            if found is None or found.get("failed"):  # what was missing then may be there now
                found, told = _answered(name, case), ""
                ledger.add_answer(key, "diagnostic", found)
            notice(f"{name}: {found['verdict']}{told}")
            shown.append(key)
    if config.signatures is not None:
        lesson = lesson_of(config, where)
        for key, found in learned(lesson, out / "signatures", notice=notice):
            ledger.add_answer(f"signatures-{key}", "signatures", found)
            shown.append(f"signatures-{key}")
    ledger.keep(answers=shown)


def _answered(name: str, case: Case) -> dict[str, Any]:
    entry = DIAGNOSTICS[name]
    try:
        found = asked(name, case)
    except (ImportError, ValueError) as error:
        found = {"verdict": f"Not answered: {error}", "figures": [], "frame": [], "failed": True}
    return {"name": name, "title": entry.title, "question": entry.question, **found}


def _case(config: Config, question: Diagnosis, parts: Mapping[str, Dataset], where: Where) -> Case:
    data = question.data or next(iter(config.data))
    source = config.data[data]
    models: dict[str, nn.Module] = {}
    trail = None
    if question.over is not None:
        folder = where[question.over, data].folder
        if folder is None:
            raise ValueError(f"diagnostics: expected a model that the study trains, got {question.over!r}")
        trail = load_trail(folder).thinned(question.epochs)
    else:
        names = question.models or tuple(model for model, used in where if used == data)
        models = {name: where[name, data].source.make() for name in names}
    limit = min(question.train_limit, source.train_limit or question.train_limit)
    train = load_data(source.load, split="train", limit=limit, seed=source.seed)
    return Case(trail, models, train=train, test=parts[data].head(question.limit, question.seed), eps=question.eps,
                seed=question.seed, updates=question.updates, search_steps=question.search_steps)  # fmt: skip
