"""Branch and bound on the signs of pre-activations: complete verification of ReLU networks."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from assay.certify.backward import Form, form_below
from assay.certify.interval import Interval, intervals
from assay.certify.leaf import multipliers_of
from assay.certify.network import MaxPool, Network, Rectifier
from assay.certify.region import Region
from assay.certify.relaxation import lines_of
from assay.certify.slopes import FreeSlopes, Search, ascend
from assay.core.types import Images

Signs = Mapping[int, Tensor]
"""By the place of a value: 1 where it is taken to be at least 0, -1 at most 0, 0 left open; ``(d, *shape)``, int8."""
Judge = Callable[[Tensor, Images], tuple[Images, Tensor]]
"""Of problems ``(r,)`` and images ``(r, c, h, w)``: the nearest within the budget, and whether each breaks its own."""


@dataclass(frozen=True)
class Problems:
    """Functions of the logits that are to be above 0, one a row.

    Attributes:
        network: the network.
        factors: of the logits, ``(p, 1, k)``.
        known: intervals of all values, rows of ``p`` each.
        region: of the images, ``p`` rows.
        sample: which sample each is about, ``(p,)``: one that is broken settles all of its sample.
    """

    network: Network
    factors: Tensor
    known: Sequence[Interval]
    region: Region
    sample: Tensor

    def __len__(self) -> int:
        return len(self.factors)


@dataclass(frozen=True)
class Domains:
    """Subdomains that are not decided yet.

    Attributes:
        problem: which problem each is a part of, ``(d,)``.
        signs: the sign constraints of each.
        least: lower bound of the function on the whole of what it was split from, ``(d,)``.
    """

    problem: Tensor
    signs: Signs
    least: Tensor

    def __len__(self) -> int:
        return len(self.problem)

    def take(self, rows: Tensor) -> "Domains":
        """Some of them."""
        return Domains(self.problem[rows], {p: s[rows] for p, s in self.signs.items()}, self.least[rows])

    def joined(self, others: Sequence["Domains"]) -> "Domains":
        """All of them."""
        each = (self, *others)
        signs = {p: torch.cat([own.signs[p] for own in each]) for p in self.signs}
        return Domains(torch.cat([own.problem for own in each]), signs, torch.cat([own.least for own in each]))


@dataclass(frozen=True)
class Effort:
    """How much is spent.

    Attributes:
        seconds: on all problems.
        domains: parts of one problem; then it stays open.
        together: parts that are bounded in one batch.
        search: of slopes and multipliers in each part.
    """

    seconds: float = 60.0
    domains: int = 1000
    together: int = 64
    search: Search = field(default_factory=lambda: Search(10))


@dataclass(frozen=True)
class Verdicts:
    """The verdict of each problem.

    Attributes:
        least: lower bound of the function, ``(p,)``; above 0 the problem is certified.
        broken: whether an image was found that breaks it, ``(p,)``.
        images: those images, ``(p, c, h, w)``; the clean one where there is none.
        domains: how many parts were bounded, ``(p,)``.
    """

    least: Tensor
    broken: Tensor
    images: Images
    domains: Tensor


def branch_and_bound(
    problems: Problems, judge: Judge, effort: Effort, progress: Callable[[int, int], None] = lambda done, total: None
) -> Verdicts:
    """Decide problems by splitting regions on the signs of pre-activations.

    Args:
        problems: the functions.
        judge: whether an image breaks a problem.
        effort: when to stop.
        progress: called with the number of problems decided and of all.

    Source: Bunel et al., "Branch and bound for piecewise linear neural network verification", JMLR 2020 (the loop; the
    value with the largest part of the bound's relaxation is split, after section 6.2); Wang et al., "Beta-CROWN",
    NeurIPS 2021, theorem 3.1 (multipliers of the signs). A part without a value of open sign is a linear program, whose
    multipliers make its bound a proof (`multipliers_of`). Within a part, intervals are narrowed by its signs.
    """
    until, count, device = time.monotonic() + effort.seconds, len(problems), problems.factors.device
    network = problems.network
    closed = torch.full((count,), torch.inf, dtype=network.dtype, device=device)
    broken = torch.zeros(count, dtype=torch.bool, device=device)
    images, tried = problems.region.x.clone(), torch.zeros(count, dtype=torch.int64, device=device)
    places = {network.nodes[n].parents[0] for n in _rectifiers(network)}
    none = {p: torch.zeros(count, *network.nodes[p].shape, dtype=torch.int8, device=device) for p in sorted(places)}
    waiting = Domains(torch.arange(count, device=device), none, torch.full_like(closed, -torch.inf))
    while len(waiting) and time.monotonic() < until:
        order = waiting.least.argsort()
        turn = tried[waiting.problem[order]] // effort.together  # those the least searched come first
        order = order[turn.argsort(stable=True)]
        now, waiting = waiting.take(order[: effort.together]), waiting.take(order[effort.together :])
        tried += torch.bincount(now.problem, minlength=count)
        part = _Part.of(problems, now, effort.search)
        over, halves, at_leaves = part.split()
        for candidates in (part.lowest, at_leaves):
            allowed, breaks = judge(now.problem, candidates)
            broken[now.problem[breaks]], images[now.problem[breaks]] = True, allowed[breaks]
        closed.scatter_reduce_(0, now.problem[over], part.least[over], "amin")
        waiting = waiting.joined(halves)
        lost = torch.isin(problems.sample, problems.sample[broken])
        ended = lost | (tried >= effort.domains) | (closed <= 0)
        closed.scatter_reduce_(
            0, waiting.problem, torch.where(ended[waiting.problem], waiting.least, torch.inf), "amin"
        )
        waiting = waiting.take((~ended[waiting.problem]).nonzero().squeeze(1))
        progress(count - len(waiting.problem.unique()), count)
    closed.scatter_reduce_(0, waiting.problem, waiting.least, "amin")
    return Verdicts(torch.where(broken, -torch.inf, closed), broken, images, tried)


def _rectifiers(network: Network) -> list[int]:
    return [place for place, node in enumerate(network.nodes) if isinstance(node.operation, Rectifier)]


@dataclass(frozen=True)
class _Part:
    """Domains that were bounded together."""

    problems: Problems
    domains: Domains
    known: Sequence[Interval]
    score: Tensor
    least: Tensor
    lowest: Images

    @staticmethod
    def of(problems: Problems, domains: Domains, search: Search) -> "_Part":
        """Bound domains."""
        network, region = problems.network, problems.region.take(domains.problem)
        known, empty = _within(problems, domains, region)
        factors, last = problems.factors[domains.problem], len(network.nodes) - 1
        free = FreeSlopes(network)
        beta = {
            p: torch.zeros(len(domains), 1, *s.shape[1:], dtype=network.dtype, device=s.device).requires_grad_()
            for p, s in domains.signs.items()
        }
        forms: list[Form] = []

        def bound() -> Tensor:
            more = {p: -b * domains.signs[p][:, None] for p, b in beta.items()}
            forms[:] = [form_below(network, last, factors, known, slopes=free, more=more)]
            return forms[0].least(region)

        def limit() -> None:
            free.limit()
            with torch.no_grad():
                for own in beta.values():
                    own.clamp_min_(0)

        least = ascend(bound, lambda: [*free.values.values(), *beta.values()], limit, search)[:, 0]
        least = torch.where(empty, torch.inf, least)
        towards = forms[0].factors
        lowest = region.x if towards is None else region.lowest(towards.detach()[:, 0])
        return _Part(problems, domains, known, _score(network, known, free), least, lowest)

    def split(self) -> tuple[Tensor, list[Domains], Images]:
        """Which domains are over (certified, or nothing is left to split), halves of the others, images at leaves."""
        undecided, images = self.least <= 0, self.lowest.clone()
        best, at = self.score.max(1)
        leaf = undecided & (best <= 0)
        for row in leaf.nonzero().squeeze(1).tolist():
            bound, images[row] = self._at_leaf(row)
            self.least[row] = torch.maximum(self.least[row], bound)
        rows = (undecided & ~leaf).nonzero().squeeze(1)
        halves = []
        for sign in (1, -1) if len(rows) else ():
            half, first = self.domains.take(rows), 0
            half = replace(half, least=self.least[rows], signs={p: s.clone() for p, s in half.signs.items()})
            for own in half.signs.values():
                flat = own.view(len(rows), -1)
                here = ((at[rows] >= first) & (at[rows] < first + flat.shape[1])).nonzero().squeeze(1)
                flat[here, at[rows][here] - first] = sign
                first += flat.shape[1]
            halves.append(half)
        return (~undecided | leaf).nonzero().squeeze(1), halves, images

    def _at_leaf(self, row: int) -> tuple[Tensor, Images]:
        """The bound of a domain in which the network is linear, and an image in it, by its linear program."""
        one = torch.tensor([row], device=self.least.device)
        region = self.problems.region.take(self.domains.problem[one])
        known = [own.take(one) for own in self.known]
        signs = {p: s[one] for p, s in self.domains.signs.items()}
        factors, network = self.problems.factors[self.domains.problem[one]], self.problems.network
        more, image = multipliers_of(network, factors, known, region, signs)
        form = form_below(network, len(network.nodes) - 1, factors, known, more=more)
        if not region.is_box and form.factors is not None:
            image = region.lowest(form.factors[:, 0])
        return form.least(region, exact=True)[0, 0], image[0]


def _within(problems: Problems, domains: Domains, region: Region) -> tuple[list[Interval], Tensor]:
    """Intervals of all values in each domain, and which domains are empty."""
    empty = torch.zeros(len(domains), dtype=torch.bool, device=domains.problem.device)

    def narrowed(place: int, now: Sequence[Interval]) -> Interval:
        own, whole, sign = now[place], problems.known[place], domains.signs.get(place)
        lower = torch.maximum(own.lower, whole.lower[domains.problem])
        upper = torch.minimum(own.upper, whole.upper[domains.problem])
        if sign is not None:
            lower = torch.where(sign > 0, lower.clamp_min(0), lower)
            upper = torch.where(sign < 0, upper.clamp_max(0), upper)
        nonlocal empty
        empty = empty | (lower > upper).flatten(1).any(1)
        rounding = None if whole.rounding is None else whole.rounding[domains.problem]
        return Interval(lower, torch.maximum(lower, upper), rounding)

    return intervals(problems.network, region, refine=narrowed), empty


def _score(network: Network, known: Sequence[Interval], free: FreeSlopes) -> Tensor:
    """Branching score of each pre-activation: how much its relaxation loosens the bound; 0 if its sign is fixed."""
    scores: dict[int, Tensor] = {}
    for place in _rectifiers(network):
        parent, operation = network.nodes[place].parents[0], network.nodes[place].operation
        z = known[parent]
        over = lines_of(z, operation.slope if isinstance(operation, Rectifier) else 0.0).over
        cost = over * free.factors[place][:, 0].abs() if place in free.factors else torch.zeros_like(over)
        cost = torch.where(over > 0, cost.clamp_min(1e-30), 0.0)
        scores[parent] = scores[parent] + cost if parent in scores else cost
    nothing = torch.zeros_like(known[0].lower).flatten(1)[:, :1]
    return torch.cat([*(scores[p].flatten(1) for p in sorted(scores)), nothing], 1)


def is_complete(network: Network) -> bool:
    """Whether splitting decides everything: no maximum is left that is not written as rectifiers."""
    return not any(isinstance(node.operation, MaxPool) for node in network.nodes)
