"""Field types of configuration files, checked by pydantic."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from assay.util.parse import format_budget, parse_number
from assay.util.validate import nearest


class Strict(BaseModel):
    """A part of a study: no field that is not known, and none that changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, protected_namespaces=())


def known(value: str, names: Any) -> str:
    """The value, if it is among the names.

    Raises:
        ValueError: it is not.
    """
    if value not in names:
        raise ValueError(f"expected one of {', '.join(names)}, got {value!r}{nearest(value, names)}")
    return value


def different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values, if none is there twice.

    Raises:
        ValueError: one is.
    """
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise ValueError(f"expected values that all differ, got {twice!r} twice")
    return values


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {'true' if value else 'false'}")
    return value


def _number(value: Any) -> Any:
    _no_truth(value)
    try:
        return parse_number(value) if isinstance(value, str) else value
    except OverflowError:
        raise ValueError(f"expected a finite number, got {value!r}") from None


def _name(value: str) -> str:
    if not value.strip() or len(value) > 120 or not value.isprintable():
        raise ValueError(f"expected a name of 1 to 120 characters that can be printed, got {value!r}")
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Budget = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Written = Annotated[str, BeforeValidator(lambda v: format_budget(v) if isinstance(v, int | float) else v)]
Name = Annotated[str, AfterValidator(_name)]
Integer = Annotated[int, BeforeValidator(_no_truth)]
Count = Annotated[Integer, Field(ge=0)]
Whole = Annotated[Integer, Field(ge=1)]
Seed = Annotated[Integer, Field(ge=0, le=2**63 - 1)]
