"""The schema of study sections that train: models and signature recognisers."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from torch import nn

from assay.models.registry import parted
from assay.signatures import KINDS, SCENARIOS, Grid, Plan
from assay.study.fields import Attack
from assay.training.objectives import make
from assay.training.objectives.registry import OPTIONS, check_options
from assay.training.recipe import Recipe
from assay.util.fields import Budget, Count, Integer, Name, Number, Seed, Strict, Whole, different, known


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
    attack: Attack | None = None
    epochs: Count = 10
    batch: Whole = 128
    optimiser: str = "adam"
    rate: Number = 1e-3
    schedule: str = "step"
    milestones: tuple[Integer, ...] = ()
    drop: Number = 0.1
    decay: Number = 0.0
    flip: bool = False
    average: Number = 0.0
    precision: str = "float32"
    validate_: Annotated[Number, Field(alias="validate")] = 0.0
    patience: Integer = 0
    start: Name | None = Field(None, description="a model of the study, trained before, whose weights it begins from")
    teacher: Name | None = Field(None, description="a model trained before, which distillation learns from")
    seed: Seed = 0
    trail: bool = Field(False, description="keep the weights of every epoch, for diagnostics over time")

    @model_validator(mode="after")
    def _named_teacher(self) -> "Training":
        options = self.objective.partition(":")[2].split(",")
        if any(part.partition("=")[0].strip() == "teacher" for part in options):
            raise ValueError("expected no file in objective: `teacher` names a model of the study, trained before")
        return self

    @model_validator(mode="after")
    def _whole_recipe(self) -> "Training":
        chosen = self.model_fields_set & set(OPTIONS)
        held_out = {"eps", "norm"} if self.validate_ else set()  # which measuring on images held out reads
        check_options(self.objective, chosen - held_out, self.attack)
        recipe = self.recipe(teacher=self.teacher)
        recipe.require_milestones()
        make(
            recipe.objective,
            eps=recipe.eps,
            norm=recipe.norm,
            eps_background=recipe.eps_background,
            steps=recipe.attack_steps,
            attack=recipe.attack,
            load=lambda _: nn.Identity(),
        )
        return self

    def recipe(self, *, start: str | None = None, teacher: str | None = None) -> Recipe:
        """The recipe.

        Args:
            start: where the weights are that it begins from.
            teacher: where those of the teacher are.
        """
        fields = self.model_dump(by_alias=True, exclude={"data", "limit", "start", "trail", "teacher"})
        if teacher is not None:
            fields["objective"] += (",teacher=" if ":" in self.objective else ":teacher=") + teacher
        return Recipe(**fields, start=start)


def _check_arch(value: str) -> str:
    parted(value)
    return value


class Signatures(Strict):
    """Learning which attack made an image, as ``assay signatures`` does it (see there)."""

    victims: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(different)]
    data: Name | None = None
    limit: Whole = 400
    test_limit: Whole = 200
    kinds: Annotated[
        tuple[Annotated[str, AfterValidator(lambda v: known(v, KINDS))], ...], AfterValidator(different)
    ] = tuple(KINDS)
    eps: tuple[Budget, ...] = (4 / 255, 8 / 255, 16 / 255)
    sides: tuple[Whole, ...] = (4, 8)
    steps: Whole = 20
    carlini_steps: Whole = 100
    columns: tuple[Annotated[str, AfterValidator(lambda v: known(v, SCENARIOS))], ...] = ("image", "redrl", "truth")
    arch: Annotated[str, AfterValidator(_check_arch)] = "tiny-cnn"
    width: Whole = 16
    blocks: Whole = 4
    layer: Whole = 3
    epochs: Whole = 20
    warmup: Count = 2
    rate: Number = 2e-3
    seed: Seed = 0

    @model_validator(mode="after")
    def _whole_plan(self) -> "Signatures":
        self.grid(), self.plan()
        return self

    def grid(self) -> Grid:
        """What the settings of the attacks are made of."""
        return Grid(eps=self.eps, sides=self.sides, steps=self.steps, carlini_steps=self.carlini_steps)

    def plan(self) -> Plan:
        """How recognisers are trained."""
        return Plan(
            epochs=self.epochs,
            warmup=self.warmup,
            rate=self.rate,
            arch=self.arch,
            width=self.width,
            blocks=self.blocks,
            layer=self.layer,
            seed=self.seed,
        )
