"""The JSON Schema of ``summary.json``, for programs that read it."""

import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Pair = Annotated[list[Share], Field(min_length=2, max_length=2)]
Number = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    """No other fields."""

    model_config = ConfigDict(extra="forbid")


class DoubtSummary(_Strict):
    """A check that found something."""

    check: str
    level: str = Field(description="issue or warning")
    text: str
    about: str = Field(description="the attack; empty for the model")


class GradeSummary(_Strict):
    """How far a model's numbers can be believed."""

    grade: str = Field(description="unusable, weak, standard, strong or closed")
    why: list[str] = Field(description="checks that keep it from the next better grade")
    doubts: list[DoubtSummary]


class BudgetSummary(_Strict):
    """The worst case at one claimed budget."""

    budget: str = Field(description="in words, such as linf 8/255")
    n: Number = Field(description="samples that were run")
    robust_accuracy: Share | None
    interval: Pair | None = Field(description="exact, 95 %")
    attacks: list[str]


class _Numbers(_Strict):
    """What verdicts and cells have in common."""

    n: Number = Field(description="samples that were run")
    counts: dict[str, Number] = Field(description="misclassified clean, broken, survived, invalid, error, not run")
    robust_accuracy: Share | None = Field(description="share that survived; an upper bound")
    readings: Pair | None = Field(description="unknown samples read as broken, and as robust")
    interval: Pair | None = Field(description="exact, 95 %, over both readings")
    clean_accuracy: Share | None
    passes: float | None = Field(description="forward and backward passes a sample")


class ModelSummary(_Numbers):
    """The worst case of one model over all attacks whose budgets are claimed."""

    model: str
    attacks: list[str]
    skipped: list[str] = Field(description="attacks that ran on no sample")
    broken_by_certifiers: Number = Field(0, description="samples that no attack broke, and a certifier did")
    budgets: list[BudgetSummary]
    grade: GradeSummary | None = None


class CellSummary(_Numbers):
    """One attack on one model."""

    model: str
    attack: str
    family: str = Field(description="the attack without its budget")
    budget: str
    eps: float | None
    curve: str | None = Field(description="cells of one model with the same text form a curve over eps")
    seconds: float | None
    events: list[str]


class CertificateSummary(_Strict):
    """Both ends of a model's robust accuracy at one budget."""

    model: str
    budget: str
    certifiers: list[str]
    n: Number
    certified: Number
    possible: Number
    open: Number
    certified_accuracy: Share | None
    possible_accuracy: Share | None
    interval: Pair | None
    closed: bool
    contradictions: list[int]
    seconds: float
    fault: str = Field(description="why nothing was certified; empty if it was")


class StudySummary(_Strict):
    """The numbers of one data set."""

    title: str
    dataset: str
    n: Number
    headline: list[str] = Field(description="the claimed budgets")
    models: list[ModelSummary]
    cells: list[CellSummary]
    certificates: list[CertificateSummary] = []
    warnings: list[str]
    command: str = Field(description="repeats the evaluation")
    facts: dict[str, str]


def schema() -> str:
    """The JSON Schema of the numbers of one data set; ``summary.json`` of several holds a list ``studies`` of them.

    Example:
        >>> json.loads(schema())["title"]
        'StudySummary'
    """
    return json.dumps(StudySummary.model_json_schema(), indent=1, sort_keys=True)
