"""The plan of a run: its cells (model × data × attack × seed) and their identities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from assay.attacks.plan import Planned
from assay.core.combinators import unfold
from assay.core.fingerprint import fingerprint
from assay.data.dataset import Dataset
from assay.defences.adaptation import Adaptation, adaptation_of
from assay.engine.preflight import Finding, inspect
from assay.models.load import digest
from assay.runs.settings import Settings
from assay.runs.starts import start_identity
from assay.runs.tasks import AttackTask
from assay.store.cell_key import fields_of, key_of
from assay.store.columns import CellNames
from assay.store.model_source import ModelSource
from assay.store.results import ADAPTIVE, NOT_ADAPTIVE
from assay.util.code_digest import code_digest

_ALONE = tuple(
    f"assay.{name}"
    for name in (
        "runs.tasks",
        "runs.starts",
        "data.dataset",
        "defences.adaptation",
        "store.columns",
        "store.image_store",
    )
)
"""Modules between the engine and a stored result, whose own imports have a digest by their content."""


@dataclass(frozen=True)
class AttackedModel:
    """A model with its digest, its defence's adaptation and the findings about it.

    Attributes:
        name: for tables.
        model: the model, or where a process gets it from.
        identity: digest of the model.
        adaptation: how its defence is attacked; None without one, or where attacks do not adapt.
        attack_suffix: what a table adds to the name of an attack on it.
        defence_note: a sentence about how its defence is attacked, or empty.
        findings: what is odd about it.
        reference: clean accuracy that is known of it, as a share; None for none.
        adaptive: False where it has a defence that attacks ignore.
        code: modules that define its parts.
        source: where other processes get it from; None for one that only this process has.
    """

    name: str
    model: ModelSource | nn.Module
    identity: str
    adaptation: Adaptation | None
    attack_suffix: str
    defence_note: str
    findings: tuple[Finding, ...]
    reference: float | None = None
    adaptive: bool = True
    code: tuple[str, ...] = ()
    source: ModelSource | None = None


def inspect_model(
    name: str,
    model: ModelSource | nn.Module,
    data: Dataset,
    *,
    adaptive: bool,
    device: str = "cpu",
    reference: float | None = None,
) -> AttackedModel:
    """Inspect a model before it is attacked.

    Args:
        name: for tables.
        model: the model, or where to get it; then it is not kept.
        data: images that it should classify.
        adaptive: attack a defence in the way that it declares.
        device: where.
        reference: clean accuracy that is known of it, as a share.
    """
    network = (model if isinstance(model, nn.Module) else model.load()).to(device)
    identity = digest(network)  # before it answers: some models remember what they were asked
    sample = data.take(slice(0, 64))
    declared, label, note = adaptation_of(network), "", ""
    if declared is not None and adaptive:
        label, note = ADAPTIVE, f"{name}: attacked adaptively: {declared.how}"
    elif declared is not None:
        label = NOT_ADAPTIVE
        note = f"{name}: not attacked adaptively, so the numbers overstate its robustness. It declares: {declared.how}"
    findings = inspect(network, sample.images(), sample.y)
    return AttackedModel(
        name,
        model,
        identity,
        declared if adaptive else None,
        label,
        note,
        findings,
        reference,
        declared is None or adaptive,
        fingerprint(network).modules,
        model if isinstance(model, ModelSource) else None,
    )


@dataclass(frozen=True)
class Workload:
    """One data set with the models, attacks and seeds to run on it.

    Attributes:
        name: of the data.
        data: images and labels.
        models: the models.
        plans: the attacks whose budgets are claimed.
        curve: attacks for accuracy–budget curves.
        seeds: of the attacks.
        title: heading.
        digest: of the data; computed once, here, if it is not given.
        certify: certifiers that bound each model at the budgets of ``plans``, one after another.
    """

    name: str
    data: Dataset
    models: Sequence[AttackedModel]
    plans: Sequence[Planned]
    curve: Sequence[Planned] = ()
    seeds: Sequence[int] = (0,)
    title: str = ""
    digest: str = ""
    certify: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", self.data.digest)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about the models on this data."""
        return tuple(f"{model.name}: {finding.text}" for model in self.models for finding in model.findings)


@dataclass(frozen=True)
class PlannedCell:
    """One cell that a run should have.

    Attributes:
        key: its identity.
        fields: what the identity is made of.
        data: digest of its data.
        n: samples.
        name: what runs.
        stages: its parts.
        task: the attack task for all of its samples.
        names: what tables call it.
    """

    key: str
    fields: Mapping[str, str]
    data: str
    n: int
    name: str
    stages: tuple[str, ...]
    task: AttackTask
    names: CellNames

    @property
    def label(self) -> str:
        """Model and attack, for people."""
        return f"{self.names.model}: {self.names.attack}"


def plan_cells(workload: Workload, settings: Settings, file: Path | None = None) -> list[PlannedCell]:
    """The cells of one data set, in the order in which a report shows them.

    Args:
        workload: data, models and attacks.
        settings: how to run; the seed is that of each cell.
        file: where workers read the data; None if tasks run in this process.
    """
    data, n, settings = workload.digest, len(workload.data), settings.resolved()
    cells = []
    for attacked_model in workload.models:
        adaptive = settings.adaptive and attacked_model.adaptive
        for planned, on_curve in (*((p, False) for p in workload.plans), *((p, True) for p in workload.curve)):
            attack = (
                planned.attack if attacked_model.adaptation is None else attacked_model.adaptation.adapt(planned.attack)
            )
            stages = tuple(stage.attack.describe() for stage in unfold(attack))
            parts = fingerprint((attack, attacked_model.adaptation)).modules
            code = code_digest("assay.engine.api", planned.source, *parts, *attacked_model.code, alone=_ALONE)
            for seed in workload.seeds:
                cell_settings = replace(settings, seed=seed, adaptive=adaptive)
                fields = fields_of(
                    attacked_model.identity,
                    data,
                    code,
                    attack,
                    adaptation=attacked_model.adaptation,
                    stop=cell_settings.stop,
                    search=cell_settings.search,
                    seed=seed,
                    max_forwards=cell_settings.max_forwards,
                    device=cell_settings.device,
                    start=start_identity(cell_settings.start, attack),
                )
                task = AttackTask(
                    attacked_model.model, file or workload.data, planned, cell_settings, 0, n, attacked_model.identity
                )
                names = cell_names(
                    attacked_model.name,
                    workload.name,
                    planned,
                    seed,
                    suffix=attacked_model.attack_suffix,
                    several_seeds=len(workload.seeds) > 1,
                    on_curve=on_curve,
                )
                cells.append(PlannedCell(key_of(fields), fields, data, n, attack.describe(), stages, task, names))
    return cells


def cell_names(
    model: str, data: str, planned: Planned, seed: int, *, suffix: str, several_seeds: bool, on_curve: bool
) -> CellNames:
    """What tables call a cell.

    Args:
        model: name.
        data: name.
        planned: the attack.
        seed: of the attack.
        suffix: what the model's defence adds to the attack's name.
        several_seeds: whether there are others, so that the name says which.
        on_curve: whether it is on an accuracy–budget curve.
    """
    return CellNames(
        model=model,
        data=data,
        attack=planned.attack.describe() + (f", seed {seed}" if several_seeds else "") + suffix,
        family=planned.family + suffix,
        budget=planned.budget,
        eps=planned.eps,
        curve=planned.curve if on_curve else None,
        seed=seed,
    )
