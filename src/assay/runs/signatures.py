"""Train recognisers of attack signatures, store intermediate results, and write the page."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assay.core.call_context import in_neutral_context
from assay.data.dataset import Dataset
from assay.diagnostics.answer import Answer
from assay.models.registry import build
from assay.report.diagnosis_page import figure_to_svg, write_diagnosis
from assay.signatures.answers import confusion, innocence, recogniser_confusion
from assay.signatures.calibration import calibrate
from assay.signatures.examples import Examples, make_examples
from assay.signatures.held_out import HeldOutSet
from assay.signatures.losses import Helpers
from assay.signatures.plan import SCENARIOS, Plan
from assay.signatures.recognition import Recognition
from assay.signatures.settings import Setting
from assay.signatures.tables import recognition_table, restoration_table
from assay.signatures.training import train_recogniser
from assay.store.study_extras import DiagnosticResult, finite_rows
from assay.util.code_digest import code_digest
from assay.util.environment import facts
from assay.util.files import atomic_write
from assay.util.output_folder import check_claim, claim, foreign_files, locked, out_folder
from assay.util.progress import SILENT, Reporter, WorkCallback
from assay.util.validate import described, reject

COMMAND, REMADE = "signatures", ("identifier.safetensors", "tables.json", "signatures.html")
"""What the record of the folder says; the files that every call writes again."""
TABLES = {
    "recognition": ("Recognition", ("image", "truth", "redrl")),
    "ablation": ("What each loss adds", ("A", "B", "C", "redrl")),
}

ANSWER_NAMES = (*TABLES, "restoration", "confusion", "confusion-image", "innocence")
"""Names of the answers, except those about held-out settings."""


@dataclass(frozen=True)
class SignatureConfig:
    """Inputs and settings of a signature training.

    Attributes:
        victims: classifiers by name, on which attacks are made.
        train: clean images to learn from.
        test: clean images for testing.
        settings: of the attacks.
        helpers: the classifier and the feature extractor that the reconstructor is trained through.
        extractor: the latter in words.
        plan: how to train.
        columns: names of ``SCENARIOS``.
        held_out: what else to try it on.
        refused: share of known examples that may be called unknown.
        accused: share of images that no attack made which may be said to be of one, as in `calibrate`.
        seed: of the attacks.
        seeds: of recognisers: of each column one is trained with each, and the first one is kept for identification;
            empty for that of the plan.
        rounding: how attacked images come to 8 bits, as in `make_examples`.
        innocent: whether images with noise and other corruptions are among the clean ones.
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
    held_out: Sequence[HeldOutSet] = ()
    refused: float = 0.05
    accused: float = 0.03
    seed: int = 0
    seeds: tuple[int, ...] = ()
    rounding: str = "nearest"
    innocent: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        arch, size = self.plan.arch, min(self.train.x.shape[2:])
        try:
            with torch.random.fork_rng(devices=[]):  # check that it can be built
                build(arch, channels=self.train.x.shape[1], classes=2, size=size, normalize="none")
        except ValueError as error:
            reject("arch", f"an architecture for images of {size} pixels", described(f"{arch} ({error})"))


@in_neutral_context
def learn_signatures(
    config: SignatureConfig,
    out: str | Path,
    *,
    command: str = "",
    reporter: Reporter = SILENT,
) -> Path:
    """Make the attack data set, train a recogniser for each column, try them all, and write the page.

    Args:
        config: what and how.
        out: the folder: ``examples/``, ``recogniser-<column>.pt``, ``identifier.safetensors``, ``tables.json``,
            ``signatures.html``.
        command: the command that makes it again.
        reporter: receives each result, and progress.

    Returns:
        The page. After an interrupt the same call resumes.
    """
    folder = out_folder(out)
    check_claim(folder, COMMAND, _files(config), is_signatures)
    with locked(folder):
        return _write_page(config, folder, command, reporter)


def _write_page(config: SignatureConfig, folder: Path, command: str, reporter: Reporter) -> Path:
    answers = learn_answers(config, folder, reporter=reporter)
    diagnostics = [
        DiagnosticResult(
            key,
            answer["title"],
            answer["question"],
            answer["verdict"],
            tuple(answer["figures"]),
            tuple(answer["frame"]),
        )
        for key, answer in answers
    ]
    tables = {key: {"verdict": answer["verdict"], "frame": answer["frame"]} for key, answer in answers}
    atomic_write(folder / "tables.json", json.dumps(tables, indent=1, allow_nan=False))
    notes = (
        config.train.name or "data",
        f"{len(config.train)} images to learn from",
        f"{len(config.test)} to be tried on",
        f"victims {', '.join(config.victims)}",
        f"features of {config.extractor}",
    )
    return write_diagnosis(
        diagnostics,
        folder / "signatures.html",
        title="Signatures of attacks",
        notes=notes,
        command=command,
        facts=facts(),
    )


def learn_answers(
    config: SignatureConfig,
    folder: Path,
    *,
    reporter: Reporter = SILENT,
) -> list[tuple[str, dict[str, Any]]]:
    """As `learn_signatures`, without the page: each answer with its key, as JSON can hold it."""
    claim(folder, COMMAND, _files(config), is_signatures, remade=REMADE)

    def build_examples(
        victims: Mapping[str, nn.Module], data: Dataset, settings: Sequence[Setting], *, innocent: bool = False
    ) -> Examples:
        kinds = tuple(dict.fromkeys([s.kind for s in (*config.settings, *settings)]))
        for model in victims.values():
            model.to(config.device)
        return make_examples(
            victims,
            data,
            settings,
            out=folder / "examples",
            salt=code_digest("assay.signatures.examples", "assay.models", alone=(__name__,)),
            seed=config.seed,
            kinds=kinds,
            rounding=config.rounding,
            innocent=innocent,
            progress=reporter.work,
        )

    train, test = (
        build_examples(config.victims, part, config.settings, innocent=config.innocent)
        for part in (config.train, config.test)
    )
    held_out = [build_examples(part.victims, config.test, part.settings) for part in config.held_out]
    attacked, fooled = int((test.kind > 0).sum()), int(test.fooled[test.kind > 0].sum())
    reporter.note(f"{len(train)} examples to learn from, {len(test)} to be tried on")
    reporter.note(f"{fooled} of {attacked} attacked images fool their victim after rounding to 8 bits")
    recognitions: dict[str, list[Recognition]] = {}
    for column in config.columns:
        for i, seed in enumerate(config.seeds or (config.plan.seed,)):
            plan = replace(config.plan, seed=seed, **SCENARIOS[column])  # type: ignore[arg-type]
            recognition = train_recogniser(
                train,
                plan,
                config.helpers,
                out=folder / _weights_name(column, seed if i else None),
                progress=_progress(column if i == 0 else f"{column}, seed {seed}", reporter.work),
                device=config.device,
            )
            recognitions.setdefault(column, []).append(recognition)
    answers = []
    for key, (title, question, answer) in _answers(config, recognitions, train, test, held_out, folder).items():
        reporter.note(f"{key}: {answer.verdict()}")
        svg = figure_to_svg(answer.figure(), key, f"{title}: {question}")
        answers.append(
            (
                key,
                {
                    "name": key,
                    "title": title,
                    "question": question,
                    "verdict": answer.verdict(),
                    "figures": [svg],
                    "frame": finite_rows(answer),
                },
            )
        )
    return answers


def _files(config: SignatureConfig) -> tuple[str, ...]:
    """What is written to the folder of signatures."""
    weights = [_weights_name(column, seed) for column in config.columns for seed in (None, *config.seeds[1:])]
    return (*REMADE, "examples/*.safetensors", *weights)


def _weights_name(column: str, seed: int | None) -> str:
    return f"recogniser-{column}.pt" if seed is None else f"recogniser-{column}-{seed}.pt"


def is_signatures(folder: Path) -> bool:
    """Whether a folder without a record is one of signatures, from a version that kept none."""
    known = ("examples", "tables.json", "signatures.html", "identifier.safetensors")
    return (folder / "examples").is_dir() and all(
        name in known or name.startswith("recogniser-") for name in foreign_files(folder)
    )


def _answers(
    config: SignatureConfig,
    recognitions: Mapping[str, Sequence[Recognition]],
    train: Examples,
    test: Examples,
    held_out: Sequence[Examples],
    folder: Path,
) -> dict[str, tuple[str, str, Answer]]:
    """The tables, by key: title, question, answer."""
    answers: dict[str, tuple[str, str, Answer]] = {}
    for key, (title, columns) in TABLES.items():
        chosen = {column: recognitions[column] for column in columns if column in recognitions}
        if len(chosen) > 1:
            answers[key] = (title, "Which attack produced an image?", recognition_table(chosen, test))
    if "redrl" in recognitions:
        question = "Does taking the perturbation away restore accuracy?"
        answers["restoration"] = (
            "Reconstruction",
            question,
            restoration_table(recognitions["redrl"][0], config.victims, test),
        )
    deployed = [*recognitions.get("redrl", ()), *recognitions.get("image", ())]
    if not deployed:
        return answers
    identifier = calibrate(
        deployed[0],
        train,
        test,
        refused=config.refused,
        accused=config.accused,
        extractor=config.extractor,
        seed=config.seed,
    )
    identifier.save(folder / "identifier.safetensors")
    answers["confusion"] = ("Identification", "How does it classify known attacks?", confusion(identifier))
    if "image" in recognitions and "redrl" in recognitions:
        table = recogniser_confusion(recognitions["image"][0], test, "Known attacks, by the image alone")
        answers["confusion-image"] = ("Identification by the image alone", "How does it classify known attacks?", table)
    if config.innocent:
        question = "Does it take noise, compression and blur for attacks?"
        answers["innocence"] = ("Innocent images", question, innocence(identifier, test))
    for i, (part, examples) in enumerate(zip(config.held_out, held_out, strict=True)):
        attacked = examples.take((examples.kind > 0).nonzero().squeeze(1))
        answer = confusion(identifier, attacked, part.about)
        answers[f"held-{i + 1}"] = (part.about, "How does it classify attacks it was not trained on?", answer)
    return answers


def _progress(column: str, progress: WorkCallback) -> Callable[[int, int, float], None]:
    return lambda done, of, loss: progress(f"{column}: loss {loss:.3f}", done, of)
