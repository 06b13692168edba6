"""Field types of configuration files, checked by pydantic, and fields taken over from a record."""

import math
import re
from collections.abc import Collection
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import docstring_parser
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import ErrorDetails

from assay.util.parse import format_budget, parse_number
from assay.util.text import plain
from assay.util.validate import nearest

_EXPECTED = {
    "tuple_type": "a list, such as [first, second]",
    "dict_type": "names with fields, such as {{name: {{field: value}}}}",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_from_float": "a whole number",
    "float_type": "a number or a fraction such as 8/255",
    "float_parsing": "a number or a fraction such as 8/255",
    "finite_number": "a finite number",
    "greater_than_equal": "a {noun} that is at least {ge}",
    "less_than_equal": "a {noun} that is at most {le}",
    "too_short": "a list of at least {min_length}",
    "string_too_short": "some text",
}
"""Messages for pydantic's error types."""


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
Count = Annotated[Integer, Field(ge=0, le=2**31 - 1)]
Whole = Annotated[Integer, Field(ge=1, le=2**31 - 1)]
Seed = Annotated[Integer, Field(ge=0, le=2**63 - 1)]


def fields_of(record: type, *, without: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a frozen dataclass as those of a configuration file, for ``pydantic.create_model``.

    What can be set is written down once, in the dataclass: its types and defaults, and what its docstring says. The
    command line reads the same dataclass.

    Args:
        record: the dataclass.
        without: fields that the file says in another place.

    Returns:
        Type and default by name; a name that pydantic has for itself (``validate``) has an underscore behind it, and
        the file uses it without.
    """
    types = get_type_hints(record, include_extras=True)
    entries = docstring_parser.parse(record.__doc__ or "").params
    words = {entry.arg_name: " ".join((entry.description or "").split()) for entry in entries}
    return {
        f"{field.name}_" if hasattr(BaseModel, field.name) else field.name: (
            types[field.name],
            Field(field.default, description=words.get(field.name), alias=field.name),
        )
        for field in fields(record)
        if field.name not in without
    }


def fault_text(detail: ErrorDetails, typed: str | None = None, *, noun: str = "number") -> str:
    """One error of pydantic in our words: what was expected, and what was given.

    Args:
        detail: one of ``ValidationError.errors()``.
        typed: what was typed, where that is not the value.
        noun: what a value that is too small or too large should have been.
    """
    kind = detail["type"]
    value, context = detail.get("input"), detail.get("ctx", {})
    shown = format_budget(value) if isinstance(value, float) and math.isfinite(value) else repr(value)
    got = plain(typed or shown, 80)
    if kind == "value_error":
        return plain(context["error"], 500)
    if kind in ("literal_error", "enum"):
        allowed = context["expected"]
        hint = nearest(str(value), re.findall("'([^']*)'", allowed))
        return f"expected {allowed}, got {got}{hint}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind].format(noun=noun, **context)}, got {got}"
    text = detail["msg"].replace("Input should be ", "")
    return f"expected {text[0].lower() + text[1:]}, got {got}"
