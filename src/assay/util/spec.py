"""``name:key=value,…``: arguments of a function, as text."""

import inspect
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from assay.util.parse import parse_number, parse_whole
from assay.util.validate import described, nearest, reject

_MOST = 10_000_000
_MOST_SEED = 2**63 - 1
"""Largest whole number of an argument, and of a seed."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("alpha", "eps_step", "stepsize", "lr", "abs_stepsize", "eps_iter", "step"), "step_size"),
        **dict.fromkeys(
            ("iterations", "iters", "iter", "max_iter", "n_iter", "nb_iter", "num_steps", "n_steps"), "steps"
        ),
        **dict.fromkeys(("epsilon", "epsilons", "radius", "budget"), "eps"),
        **dict.fromkeys(("n_restarts", "num_restarts", "num_random_init"), "restarts"),
        **dict.fromkeys(("random_init", "rand_init"), "random_start"),
        **dict.fromkeys(("p", "ord"), "norm"),
        **dict.fromkeys(("loss_fn", "criterion"), "loss"),
        **dict.fromkeys(("n_queries", "max_queries", "max_iterations"), "queries"),
        **dict.fromkeys(("n_target_classes", "num_targets"), "targets"),
    }
)
"""Other libraries' words for an argument."""


def split_spec(argument: str, spec: Any) -> tuple[str, str]:
    """The name of a spec, and the text of its arguments.

    Args:
        argument: whose value the spec is, for messages.
        spec: ``name`` or ``name:key=value,…``.

    Raises:
        TypeError, ValueError: no text, no name, or a colon with nothing after it.

    Example:
        >>> split_spec("attack", "pgd:steps=5")
        ('pgd', 'steps=5')
    """
    if not isinstance(spec, str):
        reject(argument, "text such as 'name:key=value'", spec, error=TypeError)
    name, colon, text = (part.strip() for part in spec.partition(":"))
    if not name:
        reject(argument, "a name, as in name:key=value", spec)
    if colon and not text:
        reject(argument, f"key=value after {name}:, or {name} alone", spec)
    return name, text


def join_spec(name: str, text: str) -> str:
    """The spec of a name and the text of its arguments, which may be empty.

    Example:
        >>> join_spec("pgd", "steps=5"), join_spec("pgd", "")
        ('pgd:steps=5', 'pgd')
    """
    return f"{name}:{text}" if text else name


def split_pairs(argument: str, name: str, text: str) -> list[tuple[str, str]]:
    """Keys and values of ``key=value,…``.

    Args:
        argument: whose value the text is, for messages.
        name: of what the arguments belong to, for messages.
        text: the pairs; empty for none.

    Raises:
        ValueError: an empty pair, no value, or one key twice.

    Example:
        >>> split_pairs("attack", "pgd", "steps=5, loss=dlr")
        [('steps', '5'), ('loss', 'dlr')]
    """
    pairs: list[tuple[str, str]] = []
    for part in text.split(",") if text.strip() else ():
        key, equals, value = (t.strip() for t in part.partition("="))
        key = key.replace("-", "_")
        if not part.strip():
            reject(argument, f"key=value between commas after {name}:", text)
        if not key:
            reject(argument, f"a key before = after {name}:", part.strip())
        if not equals:
            reject(argument, f"key=value after {name}:", described(f"{part.strip()!r} in {text!r}"))
        if not value:
            reject(f"{name}:{key}", f"a value, as in {key}=…", described("none"))
        if any(key == other for other, _ in pairs):
            reject(f"{name}:{key}", "one value", described(f"{key} twice in {text!r}"))
        pairs.append((key, value))
    return pairs


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
        ValueError: an unknown name (with the nearest known one), a name twice, no value, or one of another kind.
    """
    for part in text.split(","):
        key = part.strip().replace("-", "_")
        if key in known:
            reject(f"{name}:{key}", f"a value, as in {key}={_example(key, known[key])}", described("none"))
    arguments: dict[str, Any] = {}
    for key, value in split_pairs(what, name, text):
        if key not in known:
            names = ", ".join(known)
            reject(
                what,
                f"arguments of {name} ({names})" if names else f"no arguments, as {name} has none",
                described(f"{key + '=' + value!r}{suggest_argument(key, known)}"),
            )
        arguments[key] = _value(name, key, value, known[key])
    return arguments


def suggest_argument(key: str, known: Collection[str]) -> str:
    """The end of a message, ``" (did you mean 'steps'?)"``: the nearest known argument, if there is one.

    Example:
        >>> suggest_argument("alpha", ("steps", "step_size")), suggest_argument("STEPS", ("steps", "step_size"))
        (" (did you mean 'step_size'?)", " (did you mean 'steps'?)")
    """
    alias = ALIASES.get(key.lower())
    return f" (did you mean {alias!r}?)" if alias in known else nearest(key.lower(), known)


def _value(name: str, key: str, value: str, parameter: inspect.Parameter) -> Any:
    kinds = str(parameter.annotation)
    where = f"{name}:{key}"
    if "bool" in kinds:
        if value.lower() not in ("true", "false"):
            reject(where, "true or false", value)
        return value.lower() == "true"
    if value.lower() == "none" and "None" in kinds:
        return None
    numeric = not kinds.startswith("tuple") and ("int" in kinds or "float" in kinds)
    if not numeric:
        return value if "str" in kinds else _refuse_text(where, value)
    whole = "float" not in kinds
    try:
        return _bounded(where, key, parse_whole(value), value) if whole else parse_number(value)
    except ValueError as error:
        if str(error).startswith(where):
            raise
        if "str" in kinds and "float | str" not in kinds:  # which is a number, or a fraction as text
            return value
        _, _, reason = str(error).partition(", which")
        expected = "a whole number" if whole else "a number or a fraction such as 8/255"
        shown = value if len(value) <= 40 else value[:37] + "..."
        reject(
            where,
            f"{expected}, as in {key}={_example(key, parameter)}",
            described(repr(shown) + (f", which{reason}" if reason else "")),
        )


def _bounded(where: str, key: str, number: int, text: str) -> int:
    most = _MOST_SEED if "seed" in key else _MOST
    if abs(number) > most:
        reject(where, f"a whole number of at most {most:,}", text)
    return number


def _refuse_text(where: str, value: str) -> NoReturn:
    reject(where, "nothing here: text cannot give it, set it in Python", value)


def _example(key: str, parameter: inspect.Parameter) -> str:
    """A value that an argument may have, for messages."""
    default = parameter.default
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int | float | str) and default != "":
        return f"{default:g}" if isinstance(default, float) else str(default)
    if "int" in str(parameter.annotation) and "float" not in str(parameter.annotation):
        return "10"
    return "8/255" if key.startswith("eps") else "0.1"


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
            reject(argument, "some of " + ", ".join(known), described(f"{name!r}{nearest(name.lower(), known)}"))
    return names or reject(argument, "some of " + ", ".join(known), text)
