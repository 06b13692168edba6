"""The schema of study files."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, create_model, model_validator

from assay.attacks.registry import SUITES
from assay.certify.registry import certifiers
from assay.data.registry import check as check_data
from assay.defences.fitted import FITTINGS
from assay.defences.registry import DEFENCES
from assay.defences.registry import check as check_defence
from assay.diagnostics.registry import DIAGNOSTICS
from assay.masks.learned_saliency import SPECTRAL, load_saliency
from assay.runs.settings import Settings
from assay.store.claims import Claim, Figure
from assay.study.fields import Attack
from assay.study.training_schema import Signatures, Training
from assay.util.fields import Budget, Count, Name, Seed, Share, Strict, Whole, different, fields_of, known

VERSION = 1


LEARNED = "learned"
"""The saliency model that a study trains."""


def _fitted(name: str) -> str:
    return known(name, [defence for defence in FITTINGS if defence in DEFENCES])


class Fit(Strict):
    """A defence that the study trains, on the training images, and puts around a model."""

    defence: Annotated[str, AfterValidator(lambda v: known(v, [name for name in FITTINGS if name in DEFENCES]))] = (
        Field(description="magnet, ape-gan, defense-gan, pixel-defend or detector")
    )
    epochs: Whole | None = Field(None, description="passes over the data; the default depends on the defence")
    limit: Whole | None = Field(None, description="training images, at most")
    refuse: Share = Field(0.01, description="share of clean images that magnet and detector may refuse")
    attack: Attack = Field("pgd:steps=10", description="makes the adversarial images of ape-gan and detector")
    options: str = Field("", description="further arguments of the defence, such as steps=50,restarts=2")
    seed: Seed = 0


class Model(Strict):
    """A model: loaded, or trained by the study."""

    load: str | None = Field(None, description="a weights file, package.module:factory, timm:, torchvision: or hf:")
    train: Training | None = None
    arch: str | None = Field(None, description="architecture of a weights file without metadata")
    defence: Annotated[str, AfterValidator(check_defence)] | None = Field(
        None, description="a defence around the model"
    )
    fit: Fit | None = Field(None, description="a defence that is trained, too, in place of one that is there")
    adaptive: bool = Field(True, description="attack the defence in the way that it declares")
    data: Annotated[tuple[Name, ...], AfterValidator(different)] | None = Field(
        None, description="names of the data that it is attacked on; all by default"
    )
    accuracy: Share | None = Field(None, description="clean accuracy that is known of it, from 0 to 1, to compare with")

    @model_validator(mode="after")
    def _one_origin(self) -> "Model":
        if (self.load is None) == (self.train is None):
            raise ValueError("expected either load or train")
        if self.defence is not None and self.fit is not None:
            raise ValueError("expected either defence or fit, not both")
        return self


class Expected(Strict):
    """What a data set is like, as long as it is not there; held against it when it is."""

    channels: Whole = Field(3, description="1 for grey images, 3 for coloured ones")
    size: Whole = Field(description="height and width in pixels")
    classes: Whole = Field(description="number of classes")
    train: Whole = Field(description="training images")
    test: Whole = Field(description="test images")


class Data(Strict):
    """Where images come from."""

    load: Annotated[str, AfterValidator(check_data)]
    expects: Expected | None = Field(
        None, description="shape and numbers of the images, for --plan and --dry-run without them"
    )
    limit: Whole | None = Field(None, description="test images that are attacked, at most")
    train_limit: Whole | None = Field(None, description="training images for diagnostics, at most")
    seed: Seed = 0
    resize: Whole | None = Field(None, description="height and width to which images are resized, bilinearly")
    foreground: str = Field("auto", description="where masks come from: data, saliency, intensity, folder:PATH, auto")


class Threat(Strict):
    """A budget that is claimed."""

    eps: Budget
    norm: Literal["linf", "l2", "l1"] = "linf"
    background: Budget | None = Field(None, description="of dual attacks; by default five times eps")


class Curve(Strict):
    """Further budgets, for accuracy–budget curves: PGD over eps, dual perturbations over one of their two."""

    eps: tuple[Budget, ...] = ()
    background: tuple[Budget, ...] = ()
    foreground: tuple[Budget, ...] = ()
    lam: Budget = Field(0.0, description="weight λ of the foreground score in the dual perturbations")


def _saliency(spec: str) -> str:
    if not spec.endswith(".safetensors"):
        return known(spec, (SPECTRAL, LEARNED))
    load_saliency(spec)  # a file that is not there is refused before anything is trained, as in attacks
    return spec


class Diagnosis(Strict):
    """Diagnostics to run on models, or on the training of one."""

    ask: Annotated[
        tuple[Annotated[str, AfterValidator(lambda v: known(v, DIAGNOSTICS))], ...], AfterValidator(different)
    ]
    models: Annotated[tuple[Name, ...], AfterValidator(different)] | None = None
    over: Name | None = Field(None, description="a model trained with a trail: the questions are about its training")
    data: Name | None = None
    eps: Budget = 4 / 255
    epochs: Whole = Field(8, description="of the trail, at most, the first and the last among them")
    at_epochs: Annotated[tuple[Count, ...], AfterValidator(different)] = Field(
        (), description="of the trail, these and no others"
    )
    limit: Whole = Field(256, description="test images that are attacked")
    train_limit: Whole = 2000
    search_steps: Whole = Field(200, description="steps a round of StrAttack and C&W")
    updates: Whole = Field(50, description="of universal perturbations")
    batches: Whole = Field(4, description="mini-batches an update of universal perturbations (Metzen's K)")
    universal_eps: Budget | None = Field(None, description="of universal perturbations; by default 2.5 times eps")
    detector_epochs: Whole = Field(30, description="passes of detectors over their training images")
    attacks: Annotated[tuple[Attack, ...], AfterValidator(different)] = Field(
        (), description="what questions about attacks ask about, the first where it is about one; by default BIM, FGSM"
    )
    background: Budget | None = Field(None, description="of dual attacks; by default five times eps")
    norm: Literal["linf", "l2"] = Field("linf", description="of the budgets of suspicion and of attacks without one")
    lambdas: tuple[Budget, ...] = Field((), description="weights λ that suspicion tries")
    saliency: Annotated[str, AfterValidator(_saliency)] = Field(
        SPECTRAL,
        description="saliency model of suspicion: spectral-residual, a file of assay fit saliency, or learned (trained "
        "by the study on the foreground masks of the training images)",
    )
    saliency_epochs: Whole = Field(10, description="passes of learned over the training images")
    explanation: Literal["gradient", "integrated-gradients"] = Field("gradient", description="that attribution attacks")
    seed: Seed = 0

    @property
    def about(self) -> str | None:
        """The one model that is asked about, in training or as it is; None where there are several."""
        only = self.models[0] if self.models is not None and len(self.models) == 1 else None
        return self.over or only

    @model_validator(mode="after")
    def _one_kind(self) -> "Diagnosis":
        if self.models is not None and self.over is not None:
            raise ValueError("expected either models or over, not both")
        for name in self.ask:
            if DIAGNOSTICS[name].trail and self.over is None:
                raise ValueError(f"expected `over`, a model trained with a trail, which {name} needs")
        return self


def _certifiers(specs: tuple[str, ...]) -> tuple[str, ...]:
    if specs:
        certifiers(specs)
    return specs


def _numbered(figures: tuple[Figure, ...]) -> tuple[Figure, ...]:
    different(tuple(figure.id for figure in figures))
    return figures


Execution = create_model("Execution", __base__=Strict, **fields_of(Settings, without=("seed", "adaptive")))
"""How the study is run: `Settings`, of which ``seeds`` and the models' ``adaptive`` have a place of their own."""


class Config(Strict):
    """A study: models under attacks on data, with questions asked of them."""

    version: Literal[1] = 1
    title: Annotated[str, Field(min_length=1, max_length=200)]
    about: str = ""
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    data: Annotated[dict[Name, Data], Field(min_length=1)]
    suite: Annotated[str, AfterValidator(lambda v: known(v, SUITES))] | None = None
    attacks: tuple[Attack, ...] = ()
    beside: tuple[Attack, ...] = Field(
        (), description="attacks that do not count in the verdict (other norms, other budgets); one name makes a curve"
    )
    budgets: Annotated[tuple[Threat, ...], Field(min_length=1)] = (Threat(eps=8 / 255),)
    curve: Curve = Curve()
    certify: Annotated[tuple[str, ...], AfterValidator(_certifiers)] = Field(
        (), description="certifiers that bound the models from below at the budgets, one after another"
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(different)] = (0,)
    diagnostics: tuple[Diagnosis, ...] = ()
    signatures: Signatures | None = None
    paper: str = Field("", description="the paper whose figures and claims these are")
    figures: Annotated[tuple[Figure, ...], AfterValidator(_numbered)] = ()
    claims: tuple[Claim, ...] = ()
    run: Execution = Execution()

    @property
    def settings(self) -> Settings:
        """How the study is run, on a device that is there.

        Raises:
            ValueError: the device is not there.
        """
        return Settings(**self.run.model_dump()).on_this_machine()
