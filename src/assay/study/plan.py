"""What of a study is there: data, trained models, the device; and what stands for the rest."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from assay.core.expectation import Expectation
from assay.data.dataset import Dataset
from assay.defences.adaptation import Adaptation, adaptation_of
from assay.defences.registry import defend
from assay.models.registry import build
from assay.runs.settings import Settings, device_of
from assay.store.results import ADAPTIVE, NOT_ADAPTIVE
from assay.study.fitted_defences import check_folder, plan_fit
from assay.study.images import is_there, stand_in
from assay.study.models import MODELS, loaded_model, model_uses, plan_training
from assay.study.run import load_test_images
from assay.study.schema import Config, Data
from assay.study.study_model import StudyModel
from assay.study.training_schema import Training
from assay.training.recipe import Recipe

Use = tuple[str, str]
"""Names of a model and of a data set that it is attacked on."""


@dataclass(frozen=True)
class PlannedData:
    """A data set of a study.

    Attributes:
        test: the images that are attacked, or others of their shape and number.
        there: whether they are there.
    """

    test: Dataset
    there: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image."""
        _, channels, height, width = self.test.x.shape
        return channels, height, width


@dataclass(frozen=True)
class UntrainedModel:
    """A model of a study, as far as it is known before it is trained or loaded.

    Attributes:
        arch: its architecture; None for one that is loaded.
        network: with random weights, or the one that is loaded; without its defence.
        adaptation: how its defence is attacked.
        attack_suffix: what tables add to the name of an attack on it.
        draws: passes of the network to one of the model.
    """

    arch: str | None
    network: nn.Module
    adaptation: Adaptation | None
    attack_suffix: str
    draws: int


@dataclass(frozen=True)
class PlannedModelTraining:
    """A training that is not there yet.

    Attributes:
        recipe: how.
        images: training images.
    """

    recipe: Recipe
    images: int


@dataclass(frozen=True)
class StudyPlan:
    """A study, and what of it is there.

    Attributes:
        config: the study, on a device that is there.
        settings: how it is run.
        datasets: by name.
        models: those that are there.
        described: all models.
        untrained: trainings to come.
        unfitted: models whose defence is to be trained.
        notes: what is not there, in sentences.
    """

    config: Config
    settings: Settings
    datasets: Mapping[str, PlannedData]
    models: Mapping[Use, StudyModel]
    described: Mapping[Use, UntrainedModel]
    untrained: Mapping[Use, PlannedModelTraining]
    unfitted: frozenset[Use]
    notes: tuple[str, ...]


def on_device_here(config: Config) -> tuple[Config, tuple[str, ...]]:
    """The study on its device, or on this machine's processor with a sentence about it."""
    wanted = config.run.model_dump()["device"]
    try:
        return config.model_copy(update={"run": config.run.model_copy(update={"device": device_of(wanted)})}), ()
    except ValueError:
        here = config.model_copy(update={"run": config.run.model_copy(update={"device": "cpu"})})
        return here, (f"{wanted} is not here: this is of the processor of this machine",)


def plan_study(config: Config, out: Path) -> StudyPlan:
    """See what of a study is there.

    Args:
        config: the study.
        out: the run's folder, which is only read.

    Raises:
        MissingData: data that are not there, and of which the study does not say what it expects.
    """
    check_folder(config, out)
    config, notes = on_device_here(config)
    datasets = {}
    for name, source in config.data.items():
        there = source.expects is None or is_there(source)
        if not there:
            notes = (*notes, f"data.{name}: {source.load} is not there: planned by what `expects` says")
        test = load_test_images(config, source, name) if there else stand_in(source, "test", limit=source.limit)
        datasets[name] = PlannedData(test, there)
    located: dict[Use, StudyModel] = {}
    described: dict[Use, UntrainedModel] = {}
    untrained: dict[Use, PlannedModelTraining] = {}
    unfitted: set[Use] = set()
    for name, data in model_uses(config):
        use, model, planned = (name, data), config.models[name], datasets[data]
        if model.train is None:
            located[use] = loaded_model(model, planned.test)
            described[use] = _describe(config, name, planned, None, located[use].source.load())
            _note_fit(config, use, planned, located, unfitted, out)
            continue
        own = model.train.data or data
        if datasets[own].there and planned.there:
            training = plan_training(config, name, data, located, out)
            located[use] = training.model
            if not training.over:
                untrained[use] = PlannedModelTraining(training.recipe, len(training.images))
        else:
            untrained[use] = PlannedModelTraining(_recipe(model.train), _count(config.data[own], model.train.limit))
        described[use] = _describe(config, name, planned, _recipe(model.train).arch, _fresh(model.train, planned))
        _note_fit(config, use, planned, located, unfitted, out)
    models = {use: model for use, model in located.items() if use not in untrained and use not in unfitted}
    return StudyPlan(config, config.settings, datasets, models, described, untrained, frozenset(unfitted), notes)


def _note_fit(
    config: Config, use: Use, data: PlannedData, located: dict[Use, StudyModel], unfitted: set[Use], out: Path
) -> None:
    """Put a trained defence around a model that is there, or remember that it is to be trained."""
    if config.models[use[0]].fit is None:
        return
    if use not in located or not data.there:
        unfitted.add(use)
        return
    fit = plan_fit(config, *use, located[use], out / MODELS)
    if fit is None or not fit.over:
        unfitted.add(use)
    else:
        located[use] = fit.model


def _count(source: Data, limit: int | None) -> int:
    """How many training images there will be."""
    there = stand_in(source, "train", limit=limit) if source.expects is not None else None
    return 0 if there is None else len(there)


def _recipe(training: Training) -> Recipe:
    recipe: Recipe = training.recipe(teacher=training.teacher)
    return recipe


def _fresh(training: Training, data: PlannedData) -> nn.Module:
    """The network with random weights."""
    channels, size, _ = data.shape
    recipe = _recipe(training)
    classes = len(data.test.classes)
    return build(recipe.arch, channels=channels, classes=classes, size=size, normalize=recipe.normalize)


def _describe(config: Config, name: str, data: PlannedData, arch: str | None, network: nn.Module) -> UntrainedModel:
    model = config.models[name]
    around = network if model.defence is None or arch is None else defend(network, model.defence)
    declared = adaptation_of(around)
    suffix = "" if declared is None else ADAPTIVE if model.adaptive else NOT_ADAPTIVE
    seen = around if declared is None or declared.surrogate is None else declared.surrogate
    draws = seen.draws if isinstance(seen, Expectation) else 1
    return UntrainedModel(arch, network, declared if model.adaptive else None, suffix, draws)
