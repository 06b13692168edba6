"""Defences that a study trains and puts around its models."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from assay.attacks.plan import plan
from assay.core.combinators import AnyAttack
from assay.data.dataset import Dataset
from assay.defences.fitted import FITTINGS, fit_defence
from assay.defences.registry import check as check_defence
from assay.study.images import load_images
from assay.study.schema import Config, Fit
from assay.study.study_model import StudyModel
from assay.util.progress import NoteCallback
from assay.util.validate import reject


@dataclass(frozen=True)
class PlannedFit:
    """A defence of a study that is trained.

    Attributes:
        fit: how.
        images: to train on.
        folder: named by the identity of the training.
        classifier: the model that is protected.
        attack: makes adversarial images; None where there are none.
    """

    fit: Fit
    images: Dataset
    folder: Path
    classifier: StudyModel
    attack: AnyAttack | None

    @property
    def over(self) -> bool:
        """Whether it is there."""
        return (self.folder / "defence.safetensors").is_file()

    @property
    def model(self) -> StudyModel:
        """The classifier with the defence around it."""
        more = f",{self.fit.options}" if self.fit.options else ""
        spec = f"{self.fit.defence}:path={self.folder.absolute() / 'defence.safetensors'}{more}"
        return replace(self.classifier, source=replace(self.classifier.source, defence=check_defence(spec)))


def check_folder(config: Config, out: Path) -> None:
    """Refuse a folder whose name the arguments of a defence cannot hold.

    Args:
        config: the study.
        out: the run's folder.

    Raises:
        ValueError: a comma in it, which separates arguments, and a defence to be trained.
    """
    if "," in str(out.absolute()) and any(model.fit is not None for model in config.models.values()):
        reject("out", "a folder without a comma in its name, as the study trains a defence", str(out))


def plan_fit(config: Config, name: str, data: str, classifier: StudyModel, out: Path) -> PlannedFit | None:
    """What the training of a model's defence is, and where; None for a model without. Nothing is trained.

    Models that are trained alike share a defence that is.

    Args:
        config: the study.
        name: of the model.
        data: of the data set that it is attacked on.
        classifier: the model.
        out: the folder of the models.

    """
    fit, threat = config.models[name].fit, config.budgets[0]
    if fit is None:
        return None
    images = load_images(config.data[data], "train", limit=fit.limit, name=data)
    attack = None
    if FITTINGS[fit.defence].attacked:
        attack = plan(fit.attack, eps=threat.eps, norm=threat.norm, eps_background=threat.background).attack
    weights = classifier.identity or classifier.source.spec
    identity = "\n".join((fit.model_dump_json(exclude={"options"}), repr(attack), weights, images.digest))
    label = f"{fit.defence}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
    return PlannedFit(fit, images, out / label, classifier, attack)


def train_defence(planned: PlannedFit, name: str, note: NoteCallback) -> None:
    """Train a defence in a folder of its own, or reuse the one there.

    Args:
        planned: what `plan_fit` made.
        name: of the model.
        note: receives what is trained.
    """
    fit = planned.fit
    if not planned.over:
        note(f"{name}: training {fit.defence} on {len(planned.images)} images")
    network = planned.classifier.source.load() if planned.attack is not None else None
    fit_defence(
        fit.defence,
        planned.images,
        planned.folder,
        model=network,
        attack=planned.attack,
        epochs=fit.epochs,
        refuse=fit.refuse,
        seed=fit.seed,
    )
