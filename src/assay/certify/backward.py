"""Backward linear bound propagation (CROWN), from a value to the input."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from assay.certify.interval import Interval
from assay.certify.network import Concat, Input, Linear, MaxPool, Network, Node, Operation, Rectifier, Sum
from assay.certify.region import Region
from assay.certify.relaxation import Lower, choice_of, lines_of
from assay.certify.window_layers import can_pass, left_behind, through_windows
from assay.certify.windows import Windows, pays, to_map, together


class Form(NamedTuple):
    """Functions of the image below others: ``⟨factors, x⟩ + constant``.

    Attributes:
        factors: ``(b, m, c, h, w)``; None where nothing hangs on the image.
        constant: ``(b, m)``.
    """

    factors: Tensor | None
    constant: Tensor

    def least(self, region: Region, *, exact: bool = False) -> Tensor:
        """The least value on a region, ``(b, m)``."""
        return self.constant if self.factors is None else self.constant + region.least(self.factors, exact=exact)


def least_of(
    network: Network,
    place: int,
    factors: Tensor | Windows,
    known: Sequence[Interval],
    region: Region,
    *,
    slopes: Lower | None = None,
    exact: bool = False,
) -> Tensor:
    """A number below each linear function of a value, ``(b, m)``: that of `form_below` on the region.

    Args:
        network: the network.
        place: of the value.
        factors: of the functions, ``(b, m, *shape)``, or on windows of the value.
        known: intervals of all values until this one.
        region: of the images.
        slopes: of the lines below open rectifiers; by default as `lines_of` chooses them.
        exact: search for the least value on the region, where it is no box.
    """
    return form_below(network, place, factors, known, slopes=slopes).least(region, exact=exact)


def form_below(
    network: Network,
    place: int,
    factors: Tensor | Windows,
    known: Sequence[Interval],
    *,
    slopes: Lower | None = None,
    more: Mapping[int, Tensor] | None = None,
    stop: bool = False,
) -> Form:
    """For each linear function of a value one of the image that is below it.

    Args:
        network: the network.
        place: of the value.
        factors: of the functions, ``(b, m, *shape)``, or on windows of the value.
        known: intervals of all values until this one.
        slopes: of the lines below open rectifiers; by default as `lines_of` chooses them.
        more: added to the factors of a value, by its place, ``(b, m, *shape)``: minus the Lagrange multipliers of
            constraints on the value.
        stop: end with intervals at the first rectifiers and maxima; then nothing hangs on the image.

    Source: Zhang et al., 2018, theorem 3.2, from the value back to the image; maxima: `choice_of`. Rounding of the
    model's own arithmetic counts as a perturbation of each value: what it can do to the function is the sum of the
    absolute factors times `rounding_of` (ours).
    """
    pending: dict[int, Tensor | Windows] = {place: factors}
    values = factors if isinstance(factors, Tensor) else factors.values
    image: Tensor | None = None
    total = torch.zeros(values.shape[:2], dtype=values.dtype, device=values.device)
    for at in range(place, -1, -1):
        a = _with_more(pending.pop(at, None), (more or {}).get(at), network.nodes[at].shape)
        if a is None:
            continue
        node, parents = network.nodes[at], [known[p] for p in network.nodes[at].parents]
        if isinstance(a, Windows):
            if pays(a, node.shape) and can_pass(node.operation):
                total = total + left_behind(a, known[at].rounding)
                shapes = [network.nodes[p].shape for p in node.parents]
                constant, windows = through_windows(at, node, a, parents, shapes, slopes)
                total = total if constant is None else total + constant
                _hand_on(network, node, windows, pending)
                continue
            a = to_map(a, node.shape)
        if stop and node.is_nonlinear:
            total = total + _over_interval(a, known[at])
            continue
        rounding = known[at].rounding
        if rounding is not None:
            total = total - torch.einsum("bmn,bn->bm", a.flatten(2).abs(), rounding.flatten(1))
        if isinstance(node.operation, Input):
            image = a
            continue
        constant, parts = _through(at, node.operation, a, parents, slopes)
        total = total if constant is None else total + constant
        _hand_on(network, node, parts, pending)
    return Form(image, total)


def _with_more(a: Tensor | Windows | None, extra: Tensor | None, shape: tuple[int, ...]) -> Tensor | Windows | None:
    if a is None or extra is None:
        return extra if a is None else a
    return extra + (to_map(a, shape) if isinstance(a, Windows) else a)


def _hand_on(
    network: Network, node: Node, parts: Sequence[Tensor | Windows], pending: dict[int, Tensor | Windows]
) -> None:
    """Add the factors of a node's parents to what they have already."""
    for parent, part in zip(node.parents, parts, strict=True):
        before = pending.get(parent)
        if before is None:
            pending[parent] = part
        elif isinstance(before, Windows) and isinstance(part, Windows):
            pending[parent] = together(before, part)
        else:
            shape = network.nodes[parent].shape
            first, second = (to_map(own, shape) if isinstance(own, Windows) else own for own in (before, part))
            pending[parent] = first + second


def _through(
    at: int, operation: Operation, a: Tensor, parents: Sequence[Interval], slopes: Lower | None
) -> tuple[Tensor | None, list[Tensor]]:
    """The constant that a layer adds, and the factors of its parents."""
    match operation:
        case Linear(bias=bias) as linear:
            flat = linear.transpose(a.flatten(0, 1))
            constant = None if bias is None else (a * bias[:, None]).flatten(2).sum(2)
            return constant, [flat.view(*a.shape[:2], *flat.shape[1:])]
        case Sum(factors):
            return None, [f * a if f != 1 else a for f in factors]
        case Concat(dim):
            return None, list(a.split([p.lower.shape[dim + 1] for p in parents], dim + 2))
        case Rectifier(own):
            lines = lines_of(parents[0], own)
            low = lines.low[:, None]
            if slopes is not None:
                low = torch.where(lines.over[:, None] > 0, slopes(at, a, low.expand_as(a)), low)
            below, above = a.clamp_min(0), a.clamp_max(0)
            constant = torch.einsum("bmn,bn->bm", above.flatten(2), lines.over.flatten(1))
            return constant, [below * low + above * lines.high[:, None]]
        case MaxPool() as pool:
            return _through_maximum(pool, a, parents[0])
    raise TypeError(f"no bounds of {operation!r}")


def _through_maximum(pool: MaxPool, a: Tensor, z: Interval) -> tuple[Tensor, list[Tensor]]:
    choice = choice_of(z, pool)
    moved = torch.where(choice.sure[:, None], a, a.clamp_min(0))
    number = torch.where(choice.sure[:, None], 0.0, a.clamp_max(0))
    constant = torch.einsum("bmn,bn->bm", number.flatten(2), choice.most.flatten(1))
    rows, m, shape = len(a), a.shape[1], z.lower.shape[1:]
    flat = torch.zeros(rows, m, shape[0], shape[1] * shape[2], dtype=a.dtype, device=a.device)
    place = choice.place.flatten(2)[:, None].expand(rows, m, -1, -1)
    return constant, [flat.scatter_add(3, place, moved.flatten(3)).view(rows, m, *shape)]


def _over_interval(a: Tensor, z: Interval) -> Tensor:
    flat, middle, radius = a.flatten(2), (z.lower + z.upper) / 2, (z.upper - z.lower) / 2
    return torch.einsum("bmn,bn->bm", flat, middle.flatten(1)) - torch.einsum(
        "bmn,bn->bm", flat.abs(), radius.flatten(1)
    )
