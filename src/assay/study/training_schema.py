"""The schema of study sections that train: models and signature recognisers."""

from typing import Annotated

from pydantic import AfterValidator, Field, create_model, model_validator
from torch import nn

from assay.signatures.plan import SCENARIOS, Plan
from assay.signatures.settings import KINDS, Grid
from assay.study.fields import Attack
from assay.training.objectives.registry import OPTIONS, check_options
from assay.training.recipe import Recipe
from assay.util.fields import Budget, Count, Name, Seed, Share, Strict, Whole, different, fields_of, known

_OWN = ("sees",)
"""What the columns of a study's signatures decide."""


class Added(Strict):
    """Adversarial images that a training adds to its own, with their correct labels."""

    model: Name = Field(description="a model of the study, trained before, on which they are made")
    attack: Attack = Field(description="how, at the first budget of the study where it has none of its own")
    limit: Whole = Field(1000, description="training images that are attacked")
    targets: Count = Field(0, description="other classes towards which each is attacked; 0 for any wrong one")


class _Training(Strict):
    """Rules of `Training`."""

    data: Name | None = Field(None, description="name of the data; by default those that the model is attacked on")
    limit: Whole | None = Field(None, description="training images at most")
    start: Name | None = Field(
        None,
        description="what weights it begins from: a model of the study, trained before, or a file or hub such as "
        "torchvision:resnet34",
    )
    teacher: Name | None = Field(None, description="a model trained before, which distillation learns from")
    add: Added | None = Field(None, description="adversarial images that are added to the training images")
    trail: bool = Field(False, description="keep the weights of every epoch, for diagnostics over time")

    @model_validator(mode="after")
    def _whole_recipe(self) -> "_Training":
        recipe = self.recipe(teacher=self.teacher)
        chosen = self.model_fields_set & set(OPTIONS)
        held_out = {"eps", "norm"} if recipe.validate else set()  # which measuring on images held out reads
        check_options(recipe.objective, chosen - held_out, recipe.attack)
        recipe.require_milestones()
        recipe.make_objective(lambda _: nn.Identity())
        return self

    def recipe(self, *, start: str | None = None, teacher: str | None = None) -> Recipe:
        """The recipe.

        Args:
            start: where the weights are that it begins from.
            teacher: where those of the teacher are.

        Raises:
            ValueError: the objective names a teacher's file.
        """
        fields = self.model_dump(by_alias=True, exclude={"add", "data", "limit", "start", "trail", "teacher"})
        options = fields["objective"].partition(":")[2].split(",")
        if any(option.partition("=")[0].strip() == "teacher" for option in options):
            raise ValueError("expected no file in objective: `teacher` names a model of the study, trained before")
        if teacher is not None:
            fields["objective"] += (",teacher=" if ":" in fields["objective"] else ":teacher=") + teacher
        return Recipe(**fields, start=start)


Training = create_model(
    "Training",
    __base__=_Training,
    __doc__="How a model of the study is trained: `Recipe`, with models of the study in place of files.",
    **fields_of(Recipe, without=("start",)),
)


class _Signatures(Strict):
    """Rules of `Signatures`."""

    victims: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(different)]
    data: Name | None = None
    limit: Whole = 400
    test_limit: Whole = 200
    kinds: Annotated[
        tuple[Annotated[str, AfterValidator(lambda v: known(v, KINDS))], ...],
        Field(min_length=1),
        AfterValidator(different),
    ] = tuple(KINDS)
    columns: Annotated[
        tuple[Annotated[str, AfterValidator(lambda v: known(v, SCENARIOS))], ...],
        Field(min_length=1),
        AfterValidator(different),
    ] = ("image", "redrl", "truth")
    extractor: Name | None = Field(
        None,
        description="a model whose features clean and reconstructed images should share; by default the last victim",
    )
    seeds: Annotated[tuple[Seed, ...], AfterValidator(different)] = Field(
        (), description="of recognisers: each is trained with every one; by default the plan's"
    )
    refused: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.05, description="share of known examples that may be called unknown"
    )
    accused: Share = Field(
        0.03, description="share of images that no attack made which may be said to be of one, of innocent ones if any"
    )
    unseen_victim: Name | None = Field(None, description="a model that is attacked for testing only")
    unseen_eps: tuple[Budget, ...] = Field((), description="budgets for testing only")
    unseen_attacks: Annotated[tuple[Attack, ...], AfterValidator(different)] = Field(
        (), description="attacks for testing only, which should be called unknown"
    )

    @model_validator(mode="after")
    def _whole_plan(self) -> "_Signatures":
        self.grid(), self.plan()
        return self

    def grid(self) -> Grid:
        """What the settings of the attacks are made of."""
        return Grid(**self.model_dump(include=set(fields_of(Grid))))

    def plan(self) -> Plan:
        """How recognisers are trained."""
        return Plan(**self.model_dump(include=set(fields_of(Plan, without=_OWN))))


Signatures = create_model(
    "Signatures",
    __base__=_Signatures,
    __doc__="Learning which attack made an image, as ``assay signatures`` does it: `Grid` and `Plan`.",
    **fields_of(Grid),
    **fields_of(Plan, without=_OWN),
)
