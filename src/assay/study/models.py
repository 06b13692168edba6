"""The models of a study: loaded, or trained in its folder."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from assay.data.dataset import Dataset
from assay.data.registry import load as load_data
from assay.masks.sources import with_foreground
from assay.store.model_source import ModelSource
from assay.study.schema import Config, Model
from assay.training.recipe import Recipe
from assay.training.trainer import train as run_training
from assay.util.files import file_name
from assay.util.progress import NoteCallback

MODELS = "models"


@dataclass(frozen=True)
class StudyModel:
    """A model of a study: its source, and the folder of its training.

    Attributes:
        source: from where it is loaded.
        folder: of its training; None for one that was loaded.
    """

    source: ModelSource
    folder: Path | None = None


def prepare_models(
    config: Config, datasets: Mapping[str, Dataset], out: Path, note: NoteCallback
) -> dict[tuple[str, str], StudyModel]:
    """Locate or train every model, for each data set that it is attacked on.

    Args:
        config: the study.
        datasets: the test images of each data set.
        out: the run's folder.
        note: receives what is trained.

    Returns:
        A `StudyModel` by names of model and data.
    """
    study_models: dict[tuple[str, str], StudyModel] = {}
    for name, model in config.models.items():
        for data in model.data or tuple(config.data):
            if model.train is None:
                study_models[name, data] = StudyModel(_model_source(model, datasets[data]))
                continue
            folder = _train(
                config,
                name,
                model.train.data or data,
                {n: study_models[n, data] for n, d in study_models if d == data},
                out,
                note,
            )
            study_models[name, data] = StudyModel(
                ModelSource(str(folder / "model.safetensors"), (), model.defence), folder
            )
    return study_models


def _model_source(model: Model, data: Dataset) -> ModelSource:
    recipe = {"arch": model.arch, "channels": data.x.shape[1], "classes": len(data.classes), "size": data.x.shape[2]}
    return ModelSource(model.load or "", tuple(recipe.items()) if model.arch else (), model.defence)


def _train(
    config: Config, name: str, data: str, trained: Mapping[str, StudyModel], out: Path, note: NoteCallback
) -> Path:
    """Train a model in a folder named by its identity, or reuse the one there."""
    training, source = config.models[name].train, config.data[data]
    if training is None:
        raise ValueError(f"models.{name}: expected `train`")
    used = {
        field: trained[getattr(training, field)].source.spec
        for field in ("start", "teacher")
        if getattr(training, field) is not None
    }
    recipe: Recipe = training.recipe(**used)
    images = load_data(source.load, split="train", limit=training.limit, seed=source.seed)
    if "mask" in recipe.needs:
        images = with_foreground(images, source.foreground)
    named = {field: Path(spec).parent.name for field, spec in used.items()}  # the folder may be moved
    identity = "\n".join((replace(training.recipe(), start=None).canonical(), *named.values(), images.digest))
    folder = out / MODELS / f"{file_name(name)}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
    trail = tuple(range(recipe.epochs + 1)) if training.trail else ()
    if not (folder / "model.safetensors").is_file():
        note(f"{name}: training on {len(images)} images of {data}, {recipe.epochs} epoch{'s' * (recipe.epochs != 1)}")
    run_training(images, recipe, folder, trail=trail, device=config.settings.device)
    return folder
