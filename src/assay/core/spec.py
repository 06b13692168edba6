"""``name:key=value,…``: arguments of a function, as text."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from assay.core.arguments import described, nearest, reject
from assay.core.numbers import parse_number

HIDDEN = ("salience",)
"""Parameters that text cannot give."""


def read_arguments(
    name: str, text: str, known: Mapping[str, inspect.Parameter], *, what: str = "attack"
) -> dict[str, Any]:
    """Arguments from text, by the annotations of the function that they are for.

    Args:
        name: of the function, for messages.
        text: ``key=value`` pairs, separated by commas; numbers may be fractions (``8/255``).
        known: the function's parameters.
        what: the argument that the text came as, for messages.

    Returns:
        Values by name.

    Raises:
        ValueError: an unknown name (with the nearest known one), or a value of another kind.
    """
    given: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = (t.strip() for t in part.partition("="))
        key = key.replace("-", "_")
        if not equals or key not in known or key in HIDDEN:
            names = ", ".join(k for k in known if k not in HIDDEN)
            reject(what, f"arguments of {name} ({names})", described(f"{part!r}{nearest(key, known)}"))
        given[key] = _value(name, key, value, known[key])
    return given


def _value(name: str, key: str, value: str, parameter: inspect.Parameter) -> Any:
    kinds = str(parameter.annotation)
    if "bool" in kinds:
        if value.lower() not in ("true", "false"):
            reject(f"{name}:{key}", "true or false", value)
        return value.lower() == "true"
    if value.lower() == "none" and "None" in kinds:
        return None
    try:
        number = parse_number(value)
    except ValueError:
        if "str" not in kinds:
            reject(f"{name}:{key}", "a number or a fraction such as 8/255", value)
        return value
    whole = "int" in kinds and "float" not in kinds
    return int(number) if whole and number == int(number) else number


def names_of(argument: str, text: str, known: Collection[str]) -> tuple[str, ...]:
    """The names of a comma-separated list.

    Args:
        argument: whose value the text is, for the message.
        text: such as ``"pgd,patch"``.
        known: the names that there are.

    Raises:
        ValueError: none, or one that is not known (with the nearest that is).

    Example:
        >>> names_of("kinds", "pgd, patch", ("pgd", "deepfool", "patch"))
        ('pgd', 'patch')
    """
    names = tuple(filter(None, (part.strip() for part in text.split(","))))
    for name in names:
        if name not in known:
            reject(argument, "some of " + ", ".join(known), described(f"{name!r}{nearest(name, known)}"))
    return names or reject(argument, "some of " + ", ".join(known), text)
