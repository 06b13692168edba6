"""Claims of papers, and the numbers of a study to compare them with."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from assay.util.fields import Name, Number, Strict, Written


class Quantity(Strict):
    """A number of the study: an accuracy of a model, a size of perturbations, or a value in a diagnostic's table."""

    clean: Name | None = Field(None, description="clean accuracy of this model")
    robust: Name | None = Field(None, description="robust accuracy of this model, worst case over the attacks chosen")
    attack: str | None = Field(None, description="only this attack, as the study's attacks (or its suite) write it")
    budget: Written | None = Field(None, description="only this budget, as the report writes it")
    data: Name | None = None
    size: Literal["linf", "l2", "l1", "l0", "pixels"] | None = Field(
        None, description="the size of the perturbations that broke the model named by robust"
    )
    statistic: Literal["mean", "median"] = Field("median", description="of sizes: what the paper has")
    answer: str | None = Field(None, description="a diagnostic")
    over: Name | None = Field(None, description="the model that it was asked about, where it was asked about several")
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


class Figure(Strict):
    """A figure, a table or a section of the paper, and what of the study shows the same."""

    id: Annotated[str, Field(min_length=1)] = Field(description="as the paper numbers it: figure 4, table 1")
    shows: str = Field(description="what it shows")
    by: tuple[str, ...] = Field((), description="attacks, beside, curve, training, images, signatures or a diagnostic")
    without: str = Field("", description="why nothing shows it here")

    @model_validator(mode="after")
    def _shown_or_not(self) -> "Figure":
        if bool(self.by) == bool(self.without):
            raise ValueError("expected either by or without")
        return self


class Claim(Strict):
    """A claim of a paper and the number of this study to compare it with."""

    says: str = Field(description="the paper's sentence")
    source: str = Field("", description="where it is said: section, page")
    figure: str | None = Field(None, description="the figure or table that it is about, by its id")
    theirs: str = Field("", description="the paper's number, as it writes it")
    ours: Quantity
    less: Quantity | None = Field(None, description="subtracted; the number is a difference")
    over: Quantity | None = Field(None, description="divided by: the number is a ratio")
    unit: Literal["share", "points", "percent", "plain", "times"] = Field(
        "share", description="share and points of a number from 0 to 1; percent of one from 0 to 100"
    )
    least: Number | None = Field(None, description="the claim holds here from this value on")
    most: Number | None = Field(None, description="the claim holds here up to this value")
    threshold: Literal["paper", "ours"] = Field(
        "ours", description="whose number least and most are: the paper's, or one of this study's, for its own size"
    )
    note: str = Field("", description="why the numbers may differ")
