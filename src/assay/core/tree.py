"""State of an attack: nested (named) tuples and frozen dataclasses whose tensors have the rows first.

The engine moves rows about with these functions and knows nothing else of a state. What is known without the model,
such as how many steps a row has had, may be kept on the CPU while the rows are on an accelerator: counting there costs
neither an operator nor a wait.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")


def map_rows(function: Callable[..., Tensor], tree: T, *others: T) -> T:
    """Apply ``function`` to each tensor of ``tree`` (and the matching tensors of ``others``); the rest is kept.

    Args:
        function: takes one tensor from each tree, returns a tensor.
        tree: a tensor, None, a plain value, or a tuple, named tuple or frozen dataclass of those.
        others: trees of the same structure.

    Returns:
        A tree of the structure of ``tree``.
    """
    if isinstance(tree, Tensor):
        return cast(T, function(tree, *others))
    if isinstance(tree, tuple):
        parts = [map_rows(function, *items) for items in zip(tree, *cast(Any, others), strict=True)]
        return cast(T, type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts))
    if is_dataclass(tree) and not isinstance(tree, type):
        changed = {
            f.name: map_rows(function, getattr(tree, f.name), *(getattr(o, f.name) for o in others))
            for f in fields(tree)
        }
        return cast(T, replace(cast(Any, tree), **changed))
    return tree


def take(tree: T, index: Tensor) -> T:
    """The rows at ``index``, which goes to each device that the tree has tensors on.

    Example:
        >>> take((torch.arange(4), None), torch.tensor([2, 0]))
        (tensor([2, 0]), None)
    """
    places = {index.device: index}

    def pick(tensor: Tensor) -> Tensor:
        at = places.get(tensor.device)
        if at is None:
            at = places[tensor.device] = index.to(tensor.device)
        return tensor[at]

    return map_rows(pick, tree)


def join(first: T, *rest: T) -> T:
    """The rows of several trees, one after the other."""
    return map_rows(lambda *ts: torch.cat(ts), first, *rest)


def choose(which: Tensor, yes: T, no: T) -> T:
    """Row by row: ``yes`` where ``which`` holds, else ``no``.

    Args:
        which: boolean ``(b,)``.
        yes: a tree.
        no: a tree of the same structure and shapes.
    """
    return map_rows(lambda a, b: torch.where(expand_rows(which, a), a, b), yes, no)


def expand_rows(per_row: Tensor, like: Tensor) -> Tensor:
    """View ``(b,)`` so that it broadcasts over ``like``, ``(b, ...)``."""
    return per_row.reshape(-1, *(1,) * (like.dim() - 1))
