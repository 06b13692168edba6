"""A builder of the graph that bounds work on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor

from assay.certify.network import Node, Operation


@dataclass
class Draft:
    """A network while it is being written down.

    Attributes:
        dtype: of the numbers that bounds are computed in.
        device: where.
        rectifiers_alone: write maxima as rectifiers, where their windows are whole.
        nodes: its values until now.
    """

    dtype: torch.dtype
    device: torch.device
    rectifiers_alone: bool = False
    nodes: list[Node] = field(default_factory=list)

    def add(self, name: str, operation: Operation, parents: Sequence["Value"], shape: Sequence[int]) -> "Value":
        """Write one more value down."""
        self.nodes.append(Node(name, operation, tuple(parent.place for parent in parents), tuple(shape)))
        return Value(len(self.nodes) - 1, tuple(shape))

    def constant(self, value: Tensor | float | int) -> Tensor | float:
        """A constant in the format of the bounds."""
        return value.to(self.device, self.dtype) if isinstance(value, Tensor) else float(value)


@dataclass(frozen=True)
class Value:
    """A value of a draft: its place and its shape without the rows."""

    place: int
    shape: tuple[int, ...]


class Unbounded(Exception):
    """A layer used in a way that is not bounded; the text is what was expected."""


@dataclass(frozen=True)
class Call:
    """One call of a layer.

    Attributes:
        draft: where its value is written down.
        name: of the layer.
        shape: of the result, without the rows.
        arguments, named: values of the draft, constants and options.
    """

    draft: Draft
    name: str
    shape: tuple[int, ...]
    arguments: tuple[Any, ...]
    named: dict[str, Any]

    def option(self, place: int, name: str, otherwise: Any = None) -> Any:
        """An argument by its place or its name."""
        return self.arguments[place] if len(self.arguments) > place else self.named.get(name, otherwise)

    def add(self, operation: Operation, *parents: Value, shape: Sequence[int] | None = None) -> Value:
        """Write a value of this layer down, of the result's shape by default."""
        return self.draft.add(self.name, operation, parents, self.shape if shape is None else shape)

    def unbounded(self, expected: str) -> NoReturn:
        """Refuse this use of the layer."""
        raise Unbounded(expected)
