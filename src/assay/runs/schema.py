"""What a study file may say. Every field is checked, and every error is told, with its place."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from assay.attacks.registry import SUITES, make
from assay.core.arguments import nearest
from assay.core.numbers import parse_number
from assay.data.registry import check as check_data
from assay.defences.registry import check as check_defence
from assay.diagnostics.registry import DIAGNOSTICS
from assay.runs.names import wrong_names
from assay.runs.pictures import KEEP
from assay.training.recipe import Recipe

VERSION = 1


def _number(value: Any) -> Any:
    return parse_number(value) if isinstance(value, str) else value


def _attack(spec: str) -> str:
    try:
        make(spec, eps=0.1)
    except ValueError:
        try:
            make(spec, eps=8.0)  # a number of values
        except ValueError:
            pass
        else:
            return spec
        raise
    return spec


def _known(value: str, known: Any) -> str:
    if value not in known:
        raise ValueError(f"expected one of {', '.join(known)}, got {value!r}{nearest(value, known)}")
    return value


def _name(value: str) -> str:
    if not value.strip() or len(value) > 120 or any(ord(c) < 32 for c in value):
        raise ValueError(f"expected a name of 1 to 120 characters, got {value!r}")
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Budget = Annotated[Number, Field(ge=0)]
Name = Annotated[str, AfterValidator(_name)]
Attack = Annotated[str, AfterValidator(_attack)]
Whole = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


class Strict(BaseModel):
    """A part of a study: no field that is not known, and none that changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, protected_namespaces=())


class Training(Strict):
    """How a model of the study is trained, as ``assay train`` does it (see there)."""

    data: Name | None = Field(None, description="name of the data; by default those that the model is attacked on")
    limit: Whole | None = Field(None, description="training images at most")
    arch: str = "tiny-cnn"
    normalize: str = "half"
    objective: str = "clean"
    eps: Budget | None = None
    eps_background: Budget | None = None
    norm: Literal["linf", "l2", "l1"] = "linf"
    attack_steps: Whole = 10
    attack: str | None = None
    epochs: Annotated[int, Field(ge=0)] = 10
    batch: Whole = 128
    optimiser: str = "adam"
    rate: Number = 1e-3
    schedule: str = "step"
    milestones: tuple[int, ...] = ()
    drop: Number = 0.1
    decay: Number = 0.0
    flip: bool = False
    average: Number = 0.0
    precision: str = "float32"
    validate_: Annotated[Number, Field(alias="validate")] = 0.0
    patience: int = 0
    start: Name | None = Field(None, description="a model of the study, trained before, whose weights it begins from")
    seed: Seed = 0
    trail: bool = Field(False, description="keep the weights of every epoch, for diagnostics over time")

    @model_validator(mode="after")
    def _whole_recipe(self) -> "Training":
        self.recipe()
        return self

    def recipe(self) -> Recipe:
        """The recipe; where it begins is filled in later."""
        given = self.model_dump(by_alias=True, exclude={"data", "limit", "start", "trail"})
        return Recipe(**given)


class Model(Strict):
    """A model: loaded, or trained by the study."""

    load: str | None = Field(None, description="a weights file, package.module:factory, timm:, torchvision: or hf:")
    train: Training | None = None
    arch: str | None = Field(None, description="architecture of a weights file that does not say it")
    defence: Annotated[str, AfterValidator(check_defence)] | None = Field(None, description="around the model")
    adaptive: bool = Field(True, description="attack the defence in the way that it declares")
    data: tuple[Name, ...] | None = Field(None, description="names of the data that it is attacked on; all by default")

    @model_validator(mode="after")
    def _one_origin(self) -> "Model":
        if (self.load is None) == (self.train is None):
            raise ValueError("expected either load or train")
        return self


class Data(Strict):
    """Where images come from."""

    load: Annotated[str, AfterValidator(check_data)]
    limit: Whole | None = Field(None, description="test images that are attacked, at most")
    train_limit: Whole | None = Field(None, description="training images for diagnostics, at most")
    seed: Seed = 0
    foreground: str = Field("auto", description="where masks come from: data, salience, intensity, folder:PATH, auto")


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


class Diagnosis(Strict):
    """Questions asked of models, or of the training of one."""

    ask: tuple[Annotated[str, AfterValidator(lambda v: _known(v, DIAGNOSTICS))], ...]
    models: tuple[Name, ...] | None = None
    over: Name | None = Field(None, description="a model trained with a trail: the questions are about its training")
    data: Name | None = None
    eps: Budget = 4 / 255
    epochs: Whole = Field(8, description="of the trail, at most")
    limit: Whole = Field(256, description="test images that are attacked")
    train_limit: Whole = 2000
    search_steps: Whole = Field(200, description="steps a round of StrAttack and C&W")
    updates: Whole = Field(50, description="of universal perturbations")
    seed: Seed = 0

    @model_validator(mode="after")
    def _one_kind(self) -> "Diagnosis":
        if self.models is not None and self.over is not None:
            raise ValueError("expected either models or over, not both")
        for name in self.ask:
            if DIAGNOSTICS[name].trail and self.over is None:
                raise ValueError(f"expected `over`, a model trained with a trail, which {name} needs")
        return self


class Signatures(Strict):
    """Learning which attack made an image, as ``assay signatures`` does it (see there)."""

    victims: tuple[Name, ...]
    data: Name | None = None
    limit: Whole = 400
    test_limit: Whole = 200
    kinds: tuple[str, ...] = ("deepfool", "pgd", "cw-l2", "cw-linf", "patch")
    eps: tuple[Budget, ...] = (4 / 255, 8 / 255, 16 / 255)
    sides: tuple[Whole, ...] = (4, 8)
    steps: Whole = 20
    carlini_steps: Whole = 100
    columns: tuple[str, ...] = ("image", "redrl", "truth")
    arch: str = "tiny-cnn"
    width: Whole = 16
    blocks: Whole = 4
    layer: Whole = 3
    epochs: Whole = 20
    warmup: Annotated[int, Field(ge=0)] = 2
    rate: Number = 2e-3
    seed: Seed = 0


class Quantity(Strict):
    """A number of the study: a share of a model's samples, or an entry of an answer's table."""

    clean: Name | None = Field(None, description="clean accuracy of this model")
    robust: Name | None = Field(None, description="robust accuracy of this model, worst case over the attacks chosen")
    attack: str | None = Field(None, description="only attacks whose name has this in it")
    budget: str | None = Field(None, description="only this budget, as the report writes it")
    data: Name | None = None
    size: Literal["linf", "l2", "l1", "l0", "pixels"] | None = Field(
        None, description="the median size of the perturbations that broke the model named by robust"
    )
    answer: str | None = Field(None, description="a diagnostic")
    column: str | None = Field(None, description="of its table")
    where: dict[str, Any] = Field(default_factory=dict, description="rows of its table: column and value")
    take: Literal["mean", "first", "last", "least", "most"] = "mean"

    @model_validator(mode="after")
    def _one_kind(self) -> "Quantity":
        named = [name for name in ("clean", "robust", "answer") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError("expected exactly one of clean, robust and answer")
        if self.answer is not None and self.column is None:
            raise ValueError("expected column, of the answer's table")
        return self


class Claim(Strict):
    """Something that a paper says, with the number of this study beside it."""

    says: str
    source: str = Field(description="where the paper says it: section, table, figure")
    theirs: str = Field("", description="the paper's number, as it writes it")
    ours: Quantity
    less: Quantity | None = Field(None, description="taken off: the number is a difference")
    over: Quantity | None = Field(None, description="divided by: the number is a ratio")
    unit: Literal["share", "points", "percent", "plain", "times"] = Field(
        "share", description="share and points of a number from 0 to 1; percent of one from 0 to 100"
    )
    least: Number | None = Field(None, description="the claim holds here from this value on")
    most: Number | None = Field(None, description="the claim holds here up to this value")
    note: str = Field("", description="why the numbers may differ")


class Execution(Strict):
    """How the study is run. Only stop, search and passes decide a verdict."""

    stop: Literal["hit", "never"] = "hit"
    search: Literal["float32", "bfloat16"] = "float32"
    passes: Whole | None = Field(None, description="forward passes that an attack may spend on a sample")
    slots: Whole = 256
    shard: Whole | None = None
    images: Annotated[str, AfterValidator(lambda v: _known(v, KEEP))] = "all"
    errors: Literal["raise", "record"] = "record"
    checks: Literal["full", "fast", "none"] = "full"
    checked: Whole = Field(64, description="samples that the checks look at again")
    device: str = "cpu"


class Config(Strict):
    """A study: models under attacks on data, with questions asked of them."""

    version: Literal[1] = 1
    title: Annotated[str, Field(min_length=1, max_length=200)]
    about: str = ""
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    data: Annotated[dict[Name, Data], Field(min_length=1)]
    suite: Annotated[str, AfterValidator(lambda v: _known(v, SUITES))] | None = None
    attacks: tuple[Attack, ...] = ()
    budgets: tuple[Threat, ...] = (Threat(eps=8 / 255),)
    curve: Curve = Curve()
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    diagnostics: tuple[Diagnosis, ...] = ()
    signatures: Signatures | None = None
    claims: tuple[Claim, ...] = ()
    run: Execution = Execution()

    @model_validator(mode="after")
    def _names(self) -> "Config":
        wrong = list(wrong_names(self))
        if wrong:
            raise ValueError("; ".join(wrong))
        return self
