"""The questions of a study: diagnostics and signatures, each answer kept in the ledger under what decides it."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from assay.data import Dataset
from assay.data import load as load_data
from assay.diagnostics import Trail, load_trail
from assay.diagnostics.context import Case
from assay.diagnostics.registry import DIAGNOSTICS
from assay.runs.diagnose import case_digest, run_diagnostic
from assay.runs.settings import device_of
from assay.runs.signatures import learn_answers
from assay.store.ledger import Ledger
from assay.study.models import StudyModel
from assay.study.schema import Config, Diagnosis
from assay.study.signature_task import signature_task

Where = Mapping[tuple[str, str], StudyModel]


def answer_questions(
    config: Config,
    parts: Mapping[str, Dataset],
    where: Where,
    ledger: Ledger,
    out: Path,
    notice: Callable[[str], None],
) -> dict[str, bool]:
    """Ask what the study asks; answers of an earlier call about the same things are kept.

    Args:
        config: the study.
        parts: the test images of each data set.
        where: the models.
        ledger: where answers go.
        out: the run's folder.
        notice: called with a line for each answer.

    Returns:
        By the name of what has no answer, whether it raised an exception that is neither wrong input nor a missing
        package. Its section of the report says so, and the next call tries it again.
    """
    shown: list[str] = []
    failed: dict[str, bool] = {}
    for i, question in enumerate(config.diagnostics):
        try:
            case = _case(config, question, parts, where)
        except Exception as error:
            for name in question.ask:
                shown.append(_kept(ledger, f"failed-{i}-{name}", "diagnostic", _failed(name, error), notice))
                failed[name] = _is_unexpected(error)
            continue
        for name in question.ask:
            key = hashlib.sha256(f"{case_digest(case)}\n{name}".encode()).hexdigest()[:24]
            result, text = ledger.answer(key), " (kept from before)"
            if result is None or result.get("failed"):  # the cause may be gone
                result, text = _answered(name, case), ""
                ledger.add_answer(key, "diagnostic", result)
            notice(f"{name}: {result['verdict']}{text}")
            shown.append(key)
            failed |= {name: result["unexpected"]} if result.get("failed") else {}
    if config.signatures is not None:
        learned_now, wrong = _learned(config, where, ledger, out, notice)
        shown += learned_now
        failed |= wrong
    ledger.set_meta(answers=shown)
    return failed


def _learned(
    config: Config, where: Where, ledger: Ledger, out: Path, notice: Callable[[str], None]
) -> tuple[list[str], dict[str, bool]]:
    """The keys of the answers about signatures, and what raised an exception."""
    try:
        result = learn_answers(signature_task(config, where), out / "signatures", notice=notice)
    except Exception as error:
        key = _kept(ledger, "failed-signatures", "signatures", _failed("signatures", error), notice)
        return [key], {"signatures": _is_unexpected(error)}
    for key, answer in result:
        ledger.add_answer(f"signatures-{key}", "signatures", answer)
    return [f"signatures-{key}" for key, _ in result], {}


def _is_unexpected(error: Exception) -> bool:
    return not isinstance(error, ImportError | ValueError)


def _kept(ledger: Ledger, key: str, kind: str, answer: dict[str, Any], notice: Callable[[str], None]) -> str:
    ledger.add_answer(key, kind, answer)
    notice(f"{answer['name']}: {answer['verdict']}")
    return key


def _answered(name: str, case: Case) -> dict[str, Any]:
    entry = DIAGNOSTICS[name]
    try:
        result = run_diagnostic(name, case)
    except Exception as error:
        return _failed(name, error)
    return {"name": name, "title": entry.title, "question": entry.question, **result}


def _failed(name: str, error: Exception) -> dict[str, Any]:
    """The answer of what raised an exception."""
    entry = DIAGNOSTICS.get(name)
    title, question = ("Signatures of attacks", "Which attack made an image?")
    if entry is not None:
        title, question = entry.title, entry.question
    kind = f"{type(error).__name__}: " if _is_unexpected(error) else ""
    text = f"Not answered: {kind}{' '.join(str(error).split())[:300]}"
    return {
        "name": name,
        "title": title,
        "question": question,
        "verdict": text,
        "figures": [],
        "frame": [],
        "failed": True,
        "unexpected": bool(kind),
    }


def _case(config: Config, question: Diagnosis, parts: Mapping[str, Dataset], where: Where) -> Case:
    data = question.data or next(iter(config.data))
    source = config.data[data]
    models: dict[str, nn.Module] = {}
    trail = None
    if question.over is not None:
        folder = where[question.over, data].folder
        if folder is None:
            raise ValueError(f"diagnostics: expected a model that the study trains, got {question.over!r}")
        trail = _on_device(load_trail(folder).thinned(question.epochs), device_of(config.run.device))
    else:
        names = question.models or tuple(model for model, used in where if used == data)
        device = device_of(config.run.device)
        models = {name: where[name, data].source.load().to(device) for name in names}
    limit = min(question.train_limit, source.train_limit or question.train_limit)
    train = load_data(source.load, split="train", limit=limit, seed=source.seed)
    return Case(
        trail,
        models,
        train=train,
        test=parts[data].head(question.limit, question.seed),
        eps=question.eps,
        seed=question.seed,
        updates=question.updates,
        search_steps=question.search_steps,
    )


def _on_device(trail: Trail, device: str) -> Trail:
    """A trail whose networks are on a device; on the CPU they are loaded when they are asked for."""
    if device == "cpu":
        return trail
    return Trail({epoch: trail.model(epoch).to(device) for epoch in trail.epochs})
