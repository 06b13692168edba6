"""Run a study: models, cells, diagnostics, report."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from assay.core.call_context import in_neutral_context
from assay.core.combinators import unfold
from assay.data.dataset import Dataset
from assay.masks.sources import with_foreground
from assay.models.load import digest, is_factory
from assay.models.load import load as load_model
from assay.runs.executors import Executor
from assay.runs.plan import Workload, inspect_model
from assay.runs.publish import mark_running, publish
from assay.runs.session import RunInfo, SessionResult, report_findings, run_session
from assay.runs.starts import check_start
from assay.store.ledger import Ledger
from assay.store.lock import hold_run, require_own_folder
from assay.store.manifest import register_files
from assay.study.attack_plan import attack_names, beside_plans, curve_plans, plans
from assay.study.diagnostics import answer_questions
from assay.study.images import load_images
from assay.study.models import prepare_models
from assay.study.schema import Config, Data
from assay.study.study_model import StudyModel
from assay.training.trainer import require_accelerate
from assay.util.files import atomic_write
from assay.util.output_folder import out_folder
from assay.util.progress import SILENT, Reporter
from assay.util.validate import described, reject

STUDY = "study.json"
_PACKAGES = MappingProxyType(
    {"timm": ("timm", "vision"), "torchvision": ("torchvision", "vision"), "hf": ("transformers", "hf")}
)
"""What loading a model needs, by the beginning of its spec: the package, and the extra that installs it."""


@dataclass(frozen=True)
class StudyResult:
    """How a study ended.

    Attributes:
        report: the page; None if it was interrupted.
        session: how its cells ended.
        summary: as in ``summary.json``.
        unanswered: names of the diagnostics and signatures without an answer; the same call tries them again.
        raised: those of them that raised an unexpected exception (not wrong input or a missing package).
    """

    report: Path | None
    session: SessionResult
    summary: dict[str, Any]
    unanswered: tuple[str, ...] = ()
    raised: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether a cell, a sample or a question could not be completed."""
        return bool(self.session.failures or self.session.errors or self.unanswered) or not self.session.complete


@in_neutral_context
def run_study(
    config: Config,
    out: str | Path,
    *,
    command: str = "",
    executor: Executor | None = None,
    reporter: Reporter = SILENT,
    accept_stale: bool = False,
) -> StudyResult:
    """Run a study, or resume it; results that are still valid are reused.

    Args:
        config: what to run.
        out: the run's folder.
        command: the command that runs it again.
        executor: runs the tasks; this process by default.
        reporter: receives events and progress.
        accept_stale: reuse results that differ only in the version of assay or torch.

    Raises:
        ValueError: another process is writing to the folder, or a model or data set cannot be loaded.
    """
    out, settings = out_folder(out), config.settings
    require_own_folder(out)
    require_packages(config)
    check_start(config.settings.start)
    datasets = _load_test_data(config)
    with hold_run(out), Ledger(out, write=True) as ledger:
        mark_running(out, ledger)
        register_files(ledger, STUDY)
        atomic_write(out / STUDY, canonical_json(config))
        models = prepare_models(config, datasets, out, reporter.note)
        _compare_models(ledger, models)
        workloads = [build_workload(config, name, data, models) for name, data in datasets.items()]
        notes = tuple(
            dict.fromkeys(text for workload in workloads for text in report_findings(workload.models, reporter.note))
        )
        headline = tuple(dict.fromkeys(planned.budget for planned in plans(config)))
        info = RunInfo(config.title, command, notes, headline)
        session = run_session(
            workloads,
            info,
            out,
            settings,
            ledger,
            executor=executor,
            reporter=reporter,
            accept_stale=accept_stale,
        )
        for failure in session.failures:
            reporter.note(f"{failure.label}: failed: {failure.error}")
        if session.signal:
            return StudyResult(None, session, {})
        unanswered = answer_questions(config, datasets, models, ledger, out, reporter.note)
        claims = [claim.model_dump(mode="json") for claim in config.claims]
        ledger.set_meta(about=config.about, claims=claims, attacks_of_claims=attack_names(config))
        published = publish(out, ledger, ended=True, known={workload.digest: workload.data for workload in workloads})
        for claim in published.summary.get("claims", ()):
            if claim["ours"] == "not measured":
                reporter.note(f"claim not measured: {claim['says']}")
        return StudyResult(
            published.report,
            session,
            published.summary,
            tuple(unanswered),
            tuple(name for name, unexpected in unanswered.items() if unexpected),
        )


def _compare_models(ledger: Ledger, models: Mapping[tuple[str, str], StudyModel]) -> None:
    """Compare the weights of the models that the study has trained with those that it began with.

    Raises:
        ValueError: they changed.
    """
    known = dict(ledger.meta("trained") or {})
    for study_model in models.values():
        if study_model.folder is None:
            continue
        name, current = study_model.folder.name, digest(load_model(str(study_model.folder / "model.safetensors")))
        if known.setdefault(name, current) != current:
            expected = f"unchanged weights in models/{name} (restore them, or start a new run with -o)"
            reject("models", expected, described("other weights"))
    ledger.set_meta(trained=known)


def require_packages(config: Config) -> None:
    """Refuse to begin a study without the optional packages that it needs.

    Raises:
        ImportError: one is missing; the message has the line that installs it.
    """
    if any(model.train is not None for model in config.models.values()):
        require_accelerate()
    for place, spec in _specs(config):
        needed = _PACKAGES.get(spec.partition(":")[0])
        if needed is not None and find_spec(needed[0]) is None:
            raise ImportError(
                f"{place}: expected {needed[0]}, which is not installed: pip install 'assay[{needed[1]}]'"
            )


def _specs(config: Config) -> Iterator[tuple[str, str]]:
    """What a study loads from elsewhere, each with its place: models, and weights that a training begins from."""
    for name, model in config.models.items():
        if model.load is not None:
            yield f"models.{name}.load", model.load
        if model.train is not None and model.train.start is not None and model.train.start not in config.models:
            yield f"models.{name}.train.start", model.train.start


def _load_test_data(config: Config) -> dict[str, Dataset]:
    """The test images of each data set."""
    datasets = {name: load_test_images(config, source, name) for name, source in config.data.items()}
    known: dict[str, str] = {}
    for name, data in datasets.items():
        if known.setdefault(data.digest, name) != name:
            reject(f"data.{name}", f"images other than those of {known[data.digest]}", described("the same ones"))
    return datasets


def refuse_code(config: Config) -> None:
    """Reject studies that load models by executing code.

    Raises:
        ValueError: one is.
    """
    expected = "a weights file or a hub, or --trust, which lets a study name code to be run"
    for place, spec in _specs(config):
        if is_factory(spec):
            reject(place, expected, spec)
    for name, model in config.models.items():
        if model.load is not None and is_factory(model.load, {"arch": model.arch}):
            reject(f"models.{name}.load", expected, f"{model.load} with arch {model.arch}")


def canonical_json(config: Config) -> str:
    """A configuration as JSON, sorted."""
    return json.dumps(config.model_dump(mode="json", by_alias=True), indent=1, sort_keys=True, allow_nan=False)


def limit_images(config: Config, limit: int) -> Config:
    """The study on at most ``limit`` images of each data set."""
    data = {
        name: source.model_copy(update={"limit": min(limit, source.limit or limit)})
        for name, source in config.data.items()
    }
    return config.model_copy(update={"data": data})


def load_test_images(config: Config, source: Data, name: str = "") -> Dataset:
    """The images of a data set that are attacked, with masks where an attack needs them."""
    folder = source.foreground.startswith("folder:")  # masks are named by a sample's number, before the limit
    loaded = load_images(source, "test", limit=None if folder else source.limit, name=name)
    if any(
        "mask" in stage.attack.needs
        for planned in (*plans(config), *beside_plans(config), *curve_plans(config))
        for stage in unfold(planned.attack)
    ):
        loaded = with_foreground(loaded, source.foreground)
    return loaded.head(source.limit, source.seed)


def build_workload(config: Config, name: str, data: Dataset, models: Mapping[tuple[str, str], StudyModel]) -> Workload:
    """One data set of a study with the models and attacks on it.

    Args:
        config: the study.
        name: of the data set.
        data: its test images.
        models: by names of model and data.
    """
    device = config.settings.device
    chosen: dict[str, Any] = {model: study_model for (model, used), study_model in models.items() if used == name}
    attacked_models = [
        inspect_model(
            model,
            study_model.source,
            data,
            adaptive=config.models[model].adaptive,
            device=device,
            reference=config.models[model].accuracy,
        )
        for model, study_model in chosen.items()
    ]
    title = config.title if len(config.data) == 1 else name
    return Workload(
        name,
        replace(data, name=data.name or name),
        attacked_models,
        plans(config),
        [*beside_plans(config), *curve_plans(config)],
        config.seeds,
        title,
        certify=config.certify,
    )
