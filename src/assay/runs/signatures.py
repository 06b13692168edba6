"""Learn the signatures of attacks, keep what is learned as it comes, and write the page."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assay.core.call_context import in_neutral_context
from assay.data import Dataset
from assay.diagnostics import Answer
from assay.diagnostics.trail import ProgressCallback, no_progress
from assay.models import build
from assay.report.diagnosis_page import embedded, write_diagnosis
from assay.signatures import (
    SCENARIOS,
    Examples,
    Helpers,
    Plan,
    Recognition,
    Setting,
    calibrate,
    confusion,
    make_examples,
    recognised,
    restored,
    train_recogniser,
)
from assay.store.environment import facts
from assay.store.findings import DiagnosticResult, finite_rows
from assay.util.code_digest import code_digest
from assay.util.files import atomic_write
from assay.util.output_folder import check_claim, claim, foreign, locked, out_folder
from assay.util.validate import described, reject

COMMAND, REMADE = "signatures", ("identifier.safetensors", "tables.json", "signatures.html")
"""What the record of the folder says; the files that are made anew by every call."""
TABLES = {
    "recognition": ("Recognition", ("image", "truth", "redrl")),
    "ablation": ("What each loss adds", ("A", "B", "C", "redrl")),
}

LEARNED = (*TABLES, "restoration", "confusion")
"""The names of the answers, but for those about what was held out."""


@dataclass(frozen=True)
class Held:
    """Settings that the recogniser never saw, to be tried on.

    Attributes:
        about: in words.
        victims: classifiers by name.
        settings: of the attacks.
    """

    about: str
    victims: Mapping[str, nn.Module]
    settings: Sequence[Setting]


@dataclass(frozen=True)
class SignatureTask:
    """What is to be learned.

    Attributes:
        victims: classifiers by name, on which attacks are made.
        train: clean images to learn from.
        test: clean images to be tried on.
        settings: of the attacks.
        helpers: the classifier and the feature extractor that the reconstructor is trained through.
        extractor: the latter in words.
        plan: how to train.
        columns: names of ``SCENARIOS``.
        held: what else to try it on.
        refused: share of known examples that may be called unknown.
        seed: of the attacks.
        device: where attacks are made and recognisers trained.
    """

    victims: Mapping[str, nn.Module]
    train: Dataset
    test: Dataset
    settings: Sequence[Setting]
    helpers: Helpers
    extractor: str
    plan: Plan
    columns: Sequence[str] = tuple(SCENARIOS)
    held: Sequence[Held] = ()
    refused: float = 0.05
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        arch, size = self.plan.arch, min(self.train.x.shape[2:])
        try:
            with torch.random.fork_rng(devices=[]):  # whether it can be made
                build(arch, channels=self.train.x.shape[1], classes=2, size=size, normalize="none")
        except ValueError as error:
            reject("arch", f"an architecture for images of {size} pixels", described(f"{arch} ({error})"))


@in_neutral_context
def learn_signatures(
    lesson: SignatureTask,
    out: str | Path,
    *,
    command: str = "",
    notice: Callable[[str], None] = lambda _: None,
    progress: ProgressCallback = no_progress,
) -> Path:
    """Make the attack data set, train a recogniser for each column, try them all, and write the page.

    Args:
        lesson: what and how.
        out: the folder: ``examples/``, ``recogniser-<column>.pt``, ``identifier.safetensors``, ``tables.json``,
            ``signatures.html``.
        command: the command that makes it again.
        notice: called with a line for each result.
        progress: progress.

    Returns:
        The page. After an interrupt the same call goes on.
    """
    folder = out_folder(out)
    check_claim(folder, COMMAND, _files(lesson), is_signatures)
    with locked(folder):
        return _learned_page(lesson, folder, command, notice, progress)


def _learned_page(
    lesson: SignatureTask, folder: Path, command: str, notice: Callable[[str], None], progress: ProgressCallback
) -> Path:
    result = learn_answers(lesson, folder, notice=notice, progress=progress)
    findings = [
        DiagnosticResult(
            key,
            answer["title"],
            answer["question"],
            answer["verdict"],
            tuple(answer["figures"]),
            tuple(answer["frame"]),
        )
        for key, answer in result
    ]
    tables = {key: {"verdict": answer["verdict"], "frame": answer["frame"]} for key, answer in result}
    atomic_write(folder / "tables.json", json.dumps(tables, indent=1, allow_nan=False))
    notes = (
        lesson.train.name or "data",
        f"{len(lesson.train)} images to learn from",
        f"{len(lesson.test)} to be tried on",
        f"victims {', '.join(lesson.victims)}",
        f"features of {lesson.extractor}",
    )
    return write_diagnosis(
        findings, folder / "signatures.html", title="Signatures of attacks", notes=notes, command=command, facts=facts()
    )


def learn_answers(
    lesson: SignatureTask,
    folder: Path,
    *,
    notice: Callable[[str], None] = lambda _: None,
    progress: ProgressCallback = no_progress,
) -> list[tuple[str, dict[str, Any]]]:
    """As `learn_signatures`, without the page: each answer with its key, as JSON can hold it."""
    claim(folder, COMMAND, _files(lesson), is_signatures, remade=REMADE)

    def new(victims: Mapping[str, nn.Module], data: Dataset, settings: Sequence[Setting]) -> Examples:
        kinds = tuple(dict.fromkeys([s.kind for s in (*lesson.settings, *settings)]))
        for model in victims.values():
            model.to(lesson.device)
        return make_examples(
            victims,
            data,
            settings,
            out=folder / "examples",
            salt=code_digest("assay.signatures.examples", "assay.models", alone=(__name__,)),
            seed=lesson.seed,
            kinds=kinds,
            progress=progress,
        )

    train, test = (new(lesson.victims, part, lesson.settings) for part in (lesson.train, lesson.test))
    held = [new(part.victims, lesson.test, part.settings) for part in lesson.held]
    fooled = 100 * test.fooled[test.kind > 0].float().mean()
    notice(f"{len(train)} examples to learn from, {len(test)} to be tried on")
    notice(f"of attacked images, {fooled:.0f} % fool their victim after rounding to 8 bits")
    by = {}
    for column in lesson.columns:
        plan = replace(lesson.plan, **SCENARIOS[column])  # type: ignore[arg-type]
        by[column] = train_recogniser(
            train,
            plan,
            lesson.helpers,
            out=folder / f"recogniser-{column}.pt",
            progress=_progress(column, progress),
            device=lesson.device,
        )
    results = []
    for key, (title, question, answer) in _answers(lesson, by, train, test, held, folder).items():
        notice(f"{key}: {answer.verdict()}")
        drawn = embedded(answer.figure(), key, f"{title}: {question}")
        results.append(
            (
                key,
                {
                    "name": key,
                    "title": title,
                    "question": question,
                    "verdict": answer.verdict(),
                    "figures": [drawn],
                    "frame": finite_rows(answer),
                },
            )
        )
    return results


def _files(lesson: SignatureTask) -> tuple[str, ...]:
    """What is written to the folder of signatures."""
    return (*REMADE, "examples/*.safetensors", *(f"recogniser-{column}.pt" for column in lesson.columns))


def is_signatures(folder: Path) -> bool:
    """Whether a folder without a record is one of signatures, from a version that kept none."""
    known = ("examples", "tables.json", "signatures.html", "identifier.safetensors")
    return (folder / "examples").is_dir() and all(
        name in known or name.startswith("recogniser-") for name in foreign(folder)
    )


def _answers(
    lesson: SignatureTask,
    by: Mapping[str, Recognition],
    train: Examples,
    test: Examples,
    held: Sequence[Examples],
    folder: Path,
) -> dict[str, tuple[str, str, Answer]]:
    """The tables, by key: title, question, answer."""
    results: dict[str, tuple[str, str, Answer]] = {}
    for key, (title, columns) in TABLES.items():
        chosen = {column: by[column] for column in columns if column in by}
        if len(chosen) > 1:
            results[key] = (title, "Which attack made an image?", recognised(chosen, test))
    if "redrl" in by:
        question = "Does taking the perturbation away restore accuracy?"
        results["restoration"] = ("Reconstruction", question, restored(by["redrl"], lesson.victims, test))
    deployed = by.get("redrl") or by.get("image")
    if deployed is None:
        return results
    identifier = calibrate(deployed, train, test, refused=lesson.refused, extractor=lesson.extractor, seed=lesson.seed)
    identifier.save(folder / "identifier.safetensors")
    results["confusion"] = ("Identification", "What is said of attacks it knows?", confusion(identifier))
    for i, (part, examples) in enumerate(zip(lesson.held, held, strict=True)):
        attacked = examples.take((examples.kind > 0).nonzero().squeeze(1))
        answer = confusion(identifier, attacked, part.about)
        results[f"held-{i + 1}"] = (part.about, "And of what it has never seen?", answer)
    return results


def _progress(column: str, progress: ProgressCallback) -> Callable[[int, int, float], None]:
    return lambda done, of, loss: progress(f"{column}: loss {loss:.3f}", done, of)
