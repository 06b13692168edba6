"""Parse study files: safe YAML, and all errors reported together."""

import json
import re
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from assay.study.cross_checks import StudyFault, cross_check
from assay.study.remaining_faults import remaining_faults
from assay.study.schema import Config
from assay.util.fields import fault_text
from assay.util.renamed import renamed
from assay.util.text import plain
from assay.util.validate import nearest

LARGEST = 2**20
_DEPTH = 32


class StudyError(ValueError):
    """A study is wrong.

    Args:
        name: of the file.
        faults: what is wrong, and where; at least one.
    """

    def __init__(self, name: str, faults: Iterable[StudyFault]) -> None:
        self.faults = tuple(faults)
        lines = sorted({str(fault) for fault in self.faults})
        text = lines[0] if len(lines) == 1 else f"{len(lines)} errors\n- " + "\n- ".join(lines)
        self.name = name
        super().__init__(f"{name}: {text}")

    def __reduce__(self) -> tuple[type["StudyError"], tuple[str, tuple[StudyFault, ...]]]:
        """Made again from what it was made of, in another process too."""
        return StudyError, (self.name, self.faults)


def _error(name: str, message: str) -> StudyError:
    """An error about the whole file."""
    return StudyError(name, [StudyFault("", message)])


def read_study(path: str | Path, changes: Sequence[str] = ()) -> Config:
    """Read and check a study.

    Args:
        path: a YAML file of at most 1 MiB.
        changes: ``a.b=c`` each: other values for some fields; the value is read as YAML.

    Returns:
        The configuration.

    Raises:
        FileNotFoundError: no such file.
        StudyError: everything that is wrong with it, each with its place.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"study: expected a YAML file, but there is none at {path}")
    if path.stat().st_size > LARGEST:
        raise _error(path.name, f"expected a file of at most {LARGEST} bytes, got {path.stat().st_size}")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise _error(
            path.name, f"expected text in UTF-8, got byte {error.object[error.start]} at {error.start}"
        ) from None
    return parse_study(text, changes, name=path.name)


def parse_study(text: str, changes: Sequence[str] = (), *, name: str = "study") -> Config:
    r"""As `read_study`, from text.

    Example:
        >>> parse_study("title: t\nmodels: {m: {load: m.pt}}\ndata: {d: {load: digits}}\nseedz: [1]")
        Traceback (most recent call last):
        assay.study.parse.StudyError: study: seedz: no such field (did you mean 'seeds'?)
    """
    content = _yaml(text, name)
    if not isinstance(content, dict):
        raise _error(name, f"expected fields such as title, models and data, got {_short(content)}")
    for change in changes:
        _set(content, change)
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        raise StudyError(name, [*_field_faults(error), *remaining_faults(content, error)]) from None
    faults = list(cross_check(config))
    if faults:
        raise StudyError(name, faults)
    return config


def schema() -> str:
    """The JSON Schema of study files, for editors."""
    return json.dumps(Config.model_json_schema(), indent=1, sort_keys=True)


_REPLACED_TAGS = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
_PLAIN = {
    first: [(tag, pattern) for tag, pattern in known if tag not in _REPLACED_TAGS]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Loader(yaml.SafeLoader):
    """A strict YAML loader.

    No key twice, no references, no great depth; ``on`` and ``no`` are words and dates are text, as in YAML 1.2.
    """

    yaml_implicit_resolvers = _PLAIN

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As usual, but for references and depth."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not supported", mark)
        self.deep = getattr(self, "deep", 0) + 1
        if self.deep > _DEPTH:
            raise yaml.constructor.ConstructorError(None, None, f"more than {_DEPTH} levels", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.deep -= 1

    def construct_yaml_int(self, node: Any) -> int:
        """As usual, but only decimal digits: 010 would be eight, 1:30 ninety."""
        if not re.fullmatch("[-+]?(0|[1-9][0-9]*)", node.value):
            text = f"expected a number in decimal digits or a text in quotes, got {node.value}"
            raise yaml.constructor.ConstructorError(None, None, text, node.start_mark)
        return int(node.value)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """As usual, but a key may stand there only once."""
        keys = set()
        for key, _ in node.value:
            if key.value in keys:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_implicit_resolver(_REPLACED_TAGS[0], re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def _yaml(text: str, name: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (made from SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise _error(name, f"{where}{plain(error.problem or 'not YAML', 300)}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise _error(name, plain(error, 300)) from None
    except (LookupError, AttributeError):  # a tag on what does not fit it, such as !!int ''
        raise _error(name, "expected values that fit their tags (!!int 3), got others") from None


def _set(content: dict[str, Any], change: str) -> None:
    """Give one field another value."""
    place, equals, text = change.partition("=")
    steps = [step for step in re.split(r"[.\[\]]", place) if step]
    if not equals or not steps:
        raise _error("set", f"expected field=value, such as run.slots=64, got {change!r}")
    at: Any = content
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        key: Any = step
        if isinstance(at, list):
            if not (step.isascii() and step.isdigit()) or int(step) >= len(at):
                raise _error("set", f"expected a place from 0 to {len(at) - 1} in {place}, got {step!r}")
            key = int(step)
        elif not isinstance(at, dict):
            raise _error("set", f"expected a field that has parts, got {place!r}")
        if after is None:
            at[key] = _yaml(text, f"set {place}")
        elif isinstance(at, dict):
            at = at.setdefault(key, {})
        else:
            at = at[key]


def _field_faults(error: ValidationError) -> Iterable[StudyFault]:
    """The errors of single fields, in our words."""
    errors = error.errors(include_url=False)
    places = [detail["loc"] for detail in errors]
    for detail in errors:
        where = _place(detail["loc"])
        kind = detail["type"]
        if kind == "extra_forbidden":
            fields = _fields_at(detail["loc"][:-1])
            name = str(detail["loc"][-1])
            yield StudyFault(where, f"no such field{renamed(name, fields) or nearest(name, fields)}")
        elif kind == "missing":
            yield StudyFault(where, "expected a value, which is needed, got none")
        elif kind in ("model_type", "model_attributes_type"):
            fields = _fields_at(detail["loc"])
            such = f"expected fields ({', '.join(fields[:4])} …), such as {{{fields[0]}: …}}"
            yield StudyFault(where, f"{such}, got {_short(detail.get('input'))}")
        elif kind == "too_short" and any(
            other[: len(detail["loc"])] == detail["loc"] for other in places if len(other) > len(detail["loc"])
        ):
            continue  # only too short because invalid items were dropped
        else:
            text = fault_text(detail)
            name, colon, rest = text.partition(": ")
            fields = _fields_at(detail["loc"])
            if kind == "value_error" and colon and name in fields:  # a check of a whole section
                where, text = _place((*detail["loc"], name)), rest
            elif kind == "value_error" and not fields and re.fullmatch(r"[a-z_]+", name):
                text = rest  # the place says it
            yield StudyFault(where, text)


def _place(steps: Sequence[str | int]) -> str:
    result = ""
    for step in steps:
        if step == "[key]":
            continue
        result += f"[{step}]" if isinstance(step, int) else f"{'.' if result else ''}{plain(step)}"
    return result or "the study"


def _fields_at(steps: Sequence[str | int]) -> tuple[str, ...]:
    """The fields of the part of a study that is at a place."""
    at: Any = Config
    for step in steps:
        fields = getattr(at, "model_fields", None)
        at = fields[step].annotation if fields and step in fields else at
        at = _inner(at)
    return tuple(f.alias or name for name, f in getattr(at, "model_fields", {}).items())


def _inner(kind: Any) -> Any:
    """The part of a study that an annotation is about."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    for part in getattr(kind, "__args__", ()):
        result = _inner(part)
        if isinstance(result, type) and issubclass(result, BaseModel):
            return result
    return kind


def _short(value: Any) -> str:
    return plain(repr(value), 80)
