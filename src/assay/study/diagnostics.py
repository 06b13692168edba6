"""Run a study's diagnostics and signatures, and store their answers in the ledger."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from assay.attacks.registry import make
from assay.data.dataset import Dataset
from assay.defences.fitted import FITTINGS, fit_defence
from assay.diagnostics.context import DiagnosticContext
from assay.diagnostics.registry import DIAGNOSTICS
from assay.diagnostics.trail import Trail, load_trail
from assay.masks.learned_saliency import load_saliency
from assay.runs.diagnose import context_digest, run_diagnostic
from assay.runs.signatures import learn_answers
from assay.store.ledger import Ledger
from assay.study.images import load_images
from assay.study.schema import LEARNED, Config, Data, Diagnosis
from assay.study.signature_config import signature_config
from assay.study.study_model import StudyModel
from assay.util.progress import NoteCallback, Reporter

StudyModels = Mapping[tuple[str, str], StudyModel]


def answer_questions(
    config: Config,
    datasets: Mapping[str, Dataset],
    models: StudyModels,
    ledger: Ledger,
    out: Path,
    note: NoteCallback,
) -> dict[str, bool]:
    """Run a study's diagnostics; answers of an earlier call with the same inputs are reused.

    Args:
        config: the study.
        datasets: the test images of each data set.
        models: the models.
        ledger: where answers go.
        out: the run's folder.
        note: called with a line for each answer.

    Returns:
        By the name of what has no answer, whether it raised an exception that is neither wrong input nor a missing
        package. Its section of the report says so, and the next call tries it again.
    """
    answer_keys: list[str] = []
    over: dict[str, str] = {}
    failed: dict[str, bool] = {}
    for i, question in enumerate(config.diagnostics):
        try:
            context = _context(config, question, datasets, models, out, note)
        except Exception as error:
            for name in question.ask:
                answer_keys.append(
                    _store_answer(ledger, f"failed-{i}-{name}", "diagnostic", _failed_answer(name, error), note)
                )
                failed[name] = _is_unexpected(error)
            continue
        for name in question.ask:
            key = hashlib.sha256(f"{context_digest(context)}\n{name}".encode()).hexdigest()[:24]
            answer, suffix = ledger.answer(key), " (stored result)"
            if answer is None or answer.get("failed"):  # the cause may be gone
                answer, suffix = _run_or_fail(name, context), ""
                ledger.add_answer(key, "diagnostic", answer)
            note(f"{name}: {answer['verdict']}{suffix}")
            answer_keys.append(key)
            over |= {key: question.about} if question.about is not None else {}
            failed |= {name: answer["unexpected"]} if answer.get("failed") else {}
    if config.signatures is not None:
        learned_now, signature_failures = _learn_signatures(config, models, ledger, out, note)
        answer_keys += learned_now
        failed |= signature_failures
    ledger.set_meta(answers=answer_keys, answers_over=over)
    return failed


def _learn_signatures(
    config: Config, where: StudyModels, ledger: Ledger, out: Path, note: NoteCallback
) -> tuple[list[str], dict[str, bool]]:
    """The keys of the answers about signatures, and what raised an exception."""
    try:
        answers = learn_answers(signature_config(config, where), out / "signatures", reporter=Reporter(note))
    except Exception as error:
        key = _store_answer(ledger, "failed-signatures", "signatures", _failed_answer("signatures", error), note)
        return [key], {"signatures": _is_unexpected(error)}
    for key, answer in answers:
        ledger.add_answer(f"signatures-{key}", "signatures", answer)
    return [f"signatures-{key}" for key, _ in answers], {}


def _is_unexpected(error: Exception) -> bool:
    return not isinstance(error, ImportError | ValueError)


def _store_answer(ledger: Ledger, key: str, kind: str, answer: dict[str, Any], note: NoteCallback) -> str:
    ledger.add_answer(key, kind, answer)
    note(f"{answer['name']}: {answer['verdict']}")
    return key


def _run_or_fail(name: str, context: DiagnosticContext) -> dict[str, Any]:
    diagnostic = DIAGNOSTICS[name]
    try:
        result = run_diagnostic(name, context)
    except Exception as error:
        return _failed_answer(name, error)
    return {"name": name, "title": diagnostic.title, "question": diagnostic.question, **result}


def _failed_answer(name: str, error: Exception) -> dict[str, Any]:
    """The answer that stands for an exception."""
    diagnostic = DIAGNOSTICS.get(name)
    title, question = ("Signatures of attacks", "Which attack made an image?")
    if diagnostic is not None:
        title, question = diagnostic.title, diagnostic.question
    kind = f"{type(error).__name__}: " if _is_unexpected(error) else ""
    text = f"Could not run: {kind}{' '.join(str(error).split())[:300]}"
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


def _context(
    config: Config,
    question: Diagnosis,
    parts: Mapping[str, Dataset],
    where: StudyModels,
    out: Path,
    note: NoteCallback,
) -> DiagnosticContext:
    data, device = data_of(config, question), config.settings.device
    models: dict[str, nn.Module] = {}
    trail = None
    if question.over is not None:
        folder = where[question.over, data].folder
        if folder is None:
            raise ValueError(f"diagnostics: expected a model that the study trains, got {question.over!r}")
        trail = _on_device(chosen_epochs(question, load_trail(folder)), device)
    else:
        names = question.models or tuple(model for model, used in where if used == data)
        models = {name: where[name, data].source.load().to(device) for name in names}
    source = config.data[data]
    train = load_images(source, "train", limit=train_limit(question, source), name=data)
    context = build_context(question, trail, models, train, parts[data].head(question.limit, question.seed))
    if "suspicion" not in question.ask:
        return context
    return replace(context, saliency=_saliency(question, train, out / "models", note).to(device))


def _saliency(question: Diagnosis, train: Dataset, out: Path, note: NoteCallback) -> nn.Module:
    """The saliency model of a question, trained where the study says so and it is not there yet."""
    if question.saliency != LEARNED:
        return load_saliency(question.saliency)
    folder = out / f"saliency-{train.digest[:8]}-{question.saliency_epochs}-{question.seed}"
    path = folder / FITTINGS["saliency"].file
    if not path.is_file():
        note(f"training a saliency model on {len(train)} images")
        fit_defence("saliency", train, folder, epochs=question.saliency_epochs, seed=question.seed)
    return load_saliency(path)


def data_of(config: Config, question: Diagnosis) -> str:
    """The name of the data that a question is about."""
    return question.data or next(iter(config.data))


def train_limit(question: Diagnosis, source: Data) -> int:
    """How many training images a question is given at most."""
    return min(question.train_limit, source.train_limit or question.train_limit)


def chosen_epochs(question: Diagnosis, trail: Trail) -> Trail:
    """The epochs that a question is about."""
    return trail.only(question.at_epochs) if question.at_epochs else trail.thinned(question.epochs)


def build_context(
    question: Diagnosis, trail: Trail | None, models: Mapping[str, nn.Module], train: Dataset, test: Dataset
) -> DiagnosticContext:
    """What a question of a study asks about.

    Args:
        question: the question.
        trail: networks by epoch, where it is about a training.
        models: networks by name, where it is not.
        train: training images.
        test: the images that are attacked.
    """
    return DiagnosticContext(
        trail,
        models,
        train=train,
        test=test,
        eps=question.eps,
        seed=question.seed,
        updates=question.updates,
        search_steps=question.search_steps,
        attacks={
            spec: make(spec, eps=question.eps, norm=question.norm, eps_background=question.background)
            for spec in question.attacks
        },
        norm=question.norm,
        eps_background=question.background,
        lambdas=question.lambdas,
        batches=question.batches,
        detector_epochs=question.detector_epochs,
        universal_eps=question.universal_eps,
        explanation=question.explanation,
    )


def _on_device(trail: Trail, device: str) -> Trail:
    """A trail whose networks are on a device; on the CPU they are loaded when they are asked for."""
    if device == "cpu":
        return trail
    return Trail({epoch: trail.model(epoch).to(device) for epoch in trail.epochs})
