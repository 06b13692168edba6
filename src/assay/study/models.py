"""The models of a study: loaded, or trained in its folder."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from assay.core.combinators import AnyAttack
from assay.data.dataset import Dataset
from assay.masks.sources import with_foreground
from assay.store.model_source import ModelSource
from assay.study.added_images import with_added
from assay.study.attack_plan import added_attack
from assay.study.fitted_defences import check_folder, plan_fit, train_defence
from assay.study.images import load_images
from assay.study.schema import Config, Model
from assay.study.study_model import StudyModel
from assay.study.training_schema import Added
from assay.training.recipe import Recipe
from assay.training.trainer import train as run_training
from assay.util.files import file_name
from assay.util.progress import NoteCallback

MODELS = "models"


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
    check_folder(config, out)
    study_models: dict[tuple[str, str], StudyModel] = {}
    for name, data in model_uses(config):
        model = config.models[name]
        if model.train is None:
            study_models[name, data] = loaded_model(model, datasets[data])
        else:
            training = plan_training(config, name, data, study_models, out)
            _train(training, name, config.settings.device, note)
            study_models[name, data] = training.model
        fit = plan_fit(config, name, data, study_models[name, data], out / MODELS)
        if fit is not None:
            train_defence(fit, name, note)
            study_models[name, data] = fit.model
    return study_models


def model_uses(config: Config) -> Iterator[tuple[str, str]]:
    """Names of each model and of each data set that it is attacked on, in the order in which they are trained."""
    return ((name, data) for name, model in config.models.items() for data in model.data or tuple(config.data))


def loaded_model(model: Model, data: Dataset) -> StudyModel:
    """A model that the study loads."""
    recipe = {"arch": model.arch, "channels": data.x.shape[1], "classes": len(data.classes), "size": data.x.shape[2]}
    return StudyModel(ModelSource(model.load or "", tuple(recipe.items()) if model.arch else (), model.defence))


@dataclass(frozen=True)
class PlannedTraining:
    """A training of a study.

    Attributes:
        data: name of the data.
        images: to train on.
        recipe: how.
        folder: named by the identity of the training.
        trail: epochs whose weights are kept.
        model: what comes of it.
        added: adversarial images that are added, the model on which they are made, and the attack.
    """

    data: str
    images: Dataset
    recipe: Recipe
    folder: Path
    trail: tuple[int, ...]
    model: StudyModel
    added: tuple[Added, StudyModel, AnyAttack] | None = None

    @property
    def over(self) -> bool:
        """Whether it is there."""
        return (self.folder / "model.safetensors").is_file()


def plan_training(
    config: Config, name: str, data: str, others: Mapping[tuple[str, str], StudyModel], out: Path
) -> PlannedTraining:
    """What the training of a model is, and where; nothing is trained.

    Args:
        config: the study.
        name: of a model that it trains.
        data: of the data set that the model is attacked on.
        others: the models before it.
        out: the run's folder.
    """
    model = config.models[name]
    training = model.train
    if training is None:
        raise ValueError(f"models.{name}: expected `train`")
    own = training.data or data
    source = config.data[own]
    used, named = {}, []
    for field in ("start", "teacher"):
        value = getattr(training, field)
        if value is not None and value in config.models:
            used[field] = others[value, data].source.spec
            named.append(Path(used[field]).parent.name)  # the folder may be moved
        elif value is not None:
            used[field] = value
            named.append(value)
    recipe: Recipe = training.recipe(**used)
    images = load_images(source, "train", limit=training.limit, name=own)
    if "mask" in recipe.needs:
        images = with_foreground(images, source.foreground)
    added = None
    if training.add is not None:
        made_on = others[training.add.model, data]
        added = training.add, made_on, added_attack(config, training.add)
        named += [
            training.add.model_dump_json(),
            repr(added[2]),
            made_on.folder.name if made_on.folder else made_on.source.spec,
        ]
    identity = "\n".join((replace(training.recipe(), start=None).canonical(), *named, images.digest))
    short = hashlib.sha256(identity.encode()).hexdigest()[:8]
    folder = out / MODELS / f"{file_name(name)}-{short}"
    trail = tuple(range(recipe.epochs + 1)) if training.trail else ()
    trained = StudyModel(ModelSource(str(folder / "model.safetensors"), (), model.defence), folder, short)
    return PlannedTraining(own, images, recipe, folder, trail, trained, added)


def _train(training: PlannedTraining, name: str, device: str, note: NoteCallback) -> None:
    """Train a model in a folder of its own, or reuse the one there."""
    recipe, images = training.recipe, training.images
    if not training.over:
        plural = "s" * (recipe.epochs != 1)
        note(f"{name}: training on {len(images)} images of {training.data}, {recipe.epochs} epoch{plural}")
    if training.added is not None:
        added, made_on, attack = training.added
        if not training.over:
            note(f"{name}: with adversarial images of {min(added.limit, len(images))} of them by {added.attack}")
        images = with_added(images, made_on.source.load().to(device), attack, added, recipe.seed)
    run_training(images, recipe, training.folder, trail=training.trail, device=device)
