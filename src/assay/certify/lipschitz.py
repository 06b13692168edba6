"""Lipschitz margins: a certificate by the spectral norms of layers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.certify.certificates import Finding
from assay.certify.interval import Interval, intervals
from assay.certify.linear_bounds import margins
from assay.certify.network import Concat, Input, Linear, MaxPool, Network, Rectifier, Sum
from assay.certify.region import Region
from assay.certify.subject import CertifierInput
from assay.util.validate import whole

_LARGEST = 2048
"""Side up to which a layer's matrix is written out for its norm."""
_SLACK = 1 + 1e-9
"""Above the error of an eigenvalue in float64."""


@dataclass(frozen=True)
class LipschitzMargin:
    """The margin at the image minus what layers of these spectral norms can change at most within the budget.

    Args:
        steps: of the power method, for layers whose matrix is too large to write out.

    Example:
        >>> LipschitzMargin().describe()
        'Lipschitz margin'

    Source: Tsuzuku, Sato & Sugiyama, "Lipschitz-margin training", NeurIPS 2018, section 3 (the product over layers,
    sums over branches). Deviations: norms are upper bounds, not estimates (a layer's eigenvalues, or those of its
    absolute values after Collatz and Wielandt: Horn & Johnson, "Matrix analysis", theorem 8.1.26); the margins' rows
    through the last linear layers stand for √2 times the constant of all logits; a ball in l1 or linf counts by the l2
    ball that holds it and the box.
    """

    steps: int = 30

    def __post_init__(self) -> None:
        whole("steps", self.steps, least=1)

    def certify(self, subject: CertifierInput) -> Finding:
        """A lower bound of each row's least margin."""
        network, region = subject.network(False), subject.region
        known = intervals(network, region, unit=subject.unit)
        factors, place = margins(network, subject.y), len(network.nodes) - 1
        change = torch.zeros(factors.shape[:2], dtype=network.dtype, device=network.device)
        clean = torch.einsum("bmk,bk->bm", factors, network.forward(region.x)[-1])
        while isinstance(linear := network.nodes[place].operation, Linear):
            change = change + _rounded(factors, known[place])
            flat = linear.transpose(factors.flatten(0, 1))
            factors, place = flat.view(*factors.shape[:2], *flat.shape[1:]), network.nodes[place].parents[0]
        if isinstance(network.nodes[place].operation, Input):
            least = region.least(factors, exact=True) - torch.einsum(
                "bmn,bn->bm", factors.flatten(2), region.x.flatten(1)
            )
            return Finding((clean + least - change).amin(1))
        moved = _moved(network, place, known, region, self.steps)
        return Finding((clean - change - factors.flatten(2).norm(dim=2) * moved[:, None]).amin(1))

    def describe(self) -> str:
        """Its name."""
        return "Lipschitz margin"


def reach(region: Region) -> Tensor:
    """A bound of ‖δ‖₂ in a region, ``(b,)``."""
    room = torch.maximum(region.upper - region.x, region.x - region.lower)
    squares = []
    for part in region.parts:
        most = (room if part.where is None else room * part.where).flatten(1).norm(dim=1)
        squares.append((most if part.norm == "linf" else torch.minimum(most, part.eps)).square())
    return torch.stack(squares).sum(0).sqrt()


def _moved(network: Network, last: int, known: Sequence[Interval], region: Region, steps: int) -> Tensor:
    """How far, in l2, a value can be from what it is at the image itself, ``(b,)``; rounding included."""
    far: list[Tensor] = []
    for place in range(last + 1):
        node = network.nodes[place]
        before = [far[p] for p in node.parents]
        match node.operation:
            case Input():
                own = reach(region)
            case Linear() as linear:
                own = before[0] * _norm(linear, network.nodes[node.parents[0]].shape, network, steps)
            case Sum(factors):
                own = torch.stack([abs(f) * b for f, b in zip(factors, before, strict=True)]).sum(0)
            case Concat():
                own = torch.stack(before).norm(dim=0)
            case MaxPool(kernel=kernel, stride=stride):
                shared = [-(-k // s) for k, s in zip(kernel, stride, strict=True)]
                own = before[0] * (shared[0] * shared[1]) ** 0.5
            case Rectifier():
                own = before[0]
        rounding = known[place].rounding
        far.append(own if rounding is None else own + 2 * rounding.flatten(1).norm(dim=1))
    return far[last]


def _rounded(factors: Tensor, own: Interval) -> Tensor:
    if own.rounding is None:
        return torch.zeros(factors.shape[:2], dtype=factors.dtype, device=factors.device)
    return torch.einsum("bmn,bn->bm", factors.flatten(2).abs(), own.rounding.flatten(1))


def _norm(linear: Linear, shape: tuple[int, ...], network: Network, steps: int) -> float:
    """An upper bound of a linear map's spectral norm."""
    if linear.diagonal:
        factor = linear.factor
        return 1.0 if factor is None else float(torch.as_tensor(factor).abs().max())
    one = torch.ones(1, *shape, dtype=network.dtype, device=network.device)
    count, high = one.numel(), linear.forward(one)
    if min(count, high.numel()) <= _LARGEST:
        eye = torch.eye(min(count, high.numel()), dtype=network.dtype, device=network.device)
        start = eye.view(-1, *shape) if count <= high.numel() else eye.view(-1, *high.shape[1:])
        matrix = (linear.forward(start) if count <= high.numel() else linear.transpose(start)).flatten(1)
        return float(torch.linalg.eigvalsh(matrix @ matrix.T)[-1].clamp_min(0).sqrt()) * _SLACK
    vector, bound = one, float("inf")
    for _ in range(steps):
        with torch.enable_grad():
            leaf = vector.clone().requires_grad_()
            image = linear.magnitude(leaf)
            (back,) = torch.autograd.grad(image, leaf, image.detach())
        bound = min(bound, float((back / vector).max()))
        vector = (back / back.max()).clamp_min(1e-6)
    root: float = bound**0.5
    return root * _SLACK
