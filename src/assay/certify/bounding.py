"""The certifiers that bound a network: intervals, linear relaxation, optimised slopes, branch and bound."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.certify.backward import form_below, least_of
from assay.certify.branching import Effort, Problems, branch_and_bound, is_complete
from assay.certify.certificates import Finding
from assay.certify.interval import Interval, intervals
from assay.certify.linear_bounds import Refined, in_parts, margins
from assay.certify.network import Network
from assay.certify.region import Region
from assay.certify.slopes import FreeSlopes, Search, ascend
from assay.certify.subject import CertifierInput
from assay.core.types import Labels
from assay.util.validate import number, whole


def _least_margin(network: Network, subject: CertifierInput, known: list[Interval], *, stop: bool = False) -> Tensor:
    def bound(functions: Tensor) -> Tensor:
        form = form_below(network, len(network.nodes) - 1, functions, known, stop=stop)
        return form.least(subject.region, exact=True)

    return in_parts(network, margins(network, subject.y), bound).amin(1)


def _until(seconds: float, subject: CertifierInput) -> float:
    """When the time of all samples is over, on the monotonic clock."""
    return time.monotonic() + seconds * len(subject.y)


def _late(refined: Refined) -> tuple[str, ...]:
    return ("out of time: some values were bounded by intervals alone",) if refined.is_late() else ()


@dataclass(frozen=True)
class IntervalBounds:
    """Intervals of all values, layer by layer; the last linear layers are taken together with the margin.

    Example:
        >>> IntervalBounds().describe()
        'IBP'

    Source: Gowal et al., "On the effectiveness of interval bound propagation for training verifiably robust models",
    2018, section 3 (the margin by the last layer's weights: equation 11).
    """

    def certify(self, subject: CertifierInput) -> Finding:
        """A lower bound of each row's least margin."""
        network = subject.network(False)
        known = intervals(network, subject.region, unit=subject.unit)
        return Finding(_least_margin(network, subject, known, stop=True))

    def describe(self) -> str:
        """Its name."""
        return "IBP"


@dataclass(frozen=True)
class CrownIBP:
    """Interval bounds for pre-activations, and one backward linear bound of the margin.

    Example:
        >>> CrownIBP().describe()
        'CROWN-IBP'

    Source: Zhang et al., "Towards stable and efficient training of verifiably robust neural networks", ICLR 2020,
    section 3.2.
    """

    def certify(self, subject: CertifierInput) -> Finding:
        """A lower bound of each row's least margin."""
        network = subject.network(False)
        return Finding(_least_margin(network, subject, intervals(network, subject.region, unit=subject.unit)))

    def describe(self) -> str:
        """Its name."""
        return "CROWN-IBP"


@dataclass(frozen=True)
class Crown:
    """Linear bounds of the margin and of all values whose sign decides anything.

    Args:
        seconds: for each sample; values that are not bounded until then keep their intervals.

    Example:
        >>> Crown().describe()
        'CROWN'

    Source: Zhang et al., "Efficient neural network robustness certification with general activation functions", NeurIPS
    2018, theorem 3.2; lines below rectifiers as CROWN-Ada.
    """

    seconds: float = 60.0

    def __post_init__(self) -> None:
        number("seconds", self.seconds, least=0, above=True)

    def certify(self, subject: CertifierInput) -> Finding:
        """A lower bound of each row's least margin."""
        network = subject.network(False)
        refined = Refined(network, subject.region, until=_until(self.seconds, subject))
        known = intervals(network, subject.region, unit=subject.unit, refine=refined)
        return Finding(_least_margin(network, subject, known), events=_late(refined))

    def describe(self) -> str:
        """Its name."""
        return "CROWN"


@dataclass(frozen=True)
class AlphaCrown:
    """CROWN whose lines below rectifiers have the slopes that make each bound greatest.

    Args:
        steps: of Adam, for each bound.
        inner: search for the slopes of bounds of inner values too, each for itself; dearer and tighter.
        seconds: for the inner values of each sample; those that are not bounded until then keep their intervals.

    Example:
        >>> AlphaCrown(steps=10).describe()
        'alpha-CROWN-10'

    Source: Xu et al., "Fast and complete: enabling complete verification with rapid and massively parallel incomplete
    verifiers", ICLR 2021, section 3.2. Deviation: there, inner slopes serve the margin; here each inner bound has its
    own.
    """

    steps: int = 20
    inner: bool = False
    seconds: float = 60.0

    def __post_init__(self) -> None:
        whole("steps", self.steps, least=1)
        number("seconds", self.seconds, least=0, above=True)

    def certify(self, subject: CertifierInput) -> Finding:
        """A lower bound of each row's least margin."""
        network, search = subject.network(False), Search(self.steps)
        until = _until(self.seconds, subject)
        refined = Refined(network, subject.region, search if self.inner else None, until=until)
        known = intervals(network, subject.region, unit=subject.unit, refine=refined)
        margin = best_margins(network, subject.y, known, subject.region, search).amin(1)
        return Finding(margin, events=_late(refined))

    def describe(self) -> str:
        """Its name and steps."""
        return f"alpha-CROWN-{self.steps}{' throughout' if self.inner else ''}"


def best_margins(network: Network, y: Labels, known: list[Interval], region: Region, search: Search) -> Tensor:
    """The greatest lower bounds of all margins, ``(b, k − 1)``, over the slopes of the margin's own lines."""

    def bound(functions: Tensor) -> Tensor:
        free, last = FreeSlopes(network), len(network.nodes) - 1
        return ascend(
            lambda: least_of(network, last, functions, known, region, slopes=free, exact=True),
            lambda: list(free.values.values()),
            free.limit,
            search,
        )

    return in_parts(network, margins(network, y), bound, kept=len(network.nodes))


@dataclass(frozen=True)
class BranchAndBound:
    """alpha-CROWN, an attack, and branch and bound on what is left to the end: certified, broken, or out of time.

    Args:
        seconds: for each sample.
        domains: parts of the region, for each wrong class of a sample.
        together: parts that are bounded in one batch.
        steps: of the search for slopes and multipliers in each part.
        attack_steps: of PGD on what alpha-CROWN leaves, before anything is split; 0 for none.

    Example:
        >>> BranchAndBound(seconds=10).describe()
        'branch and bound, 10 s'

    Source: see `assay.certify.branching.branch_and_bound`. Complete for networks whose only bends are rectifiers and
    maxima over whole windows, in linf; in l2 and l1 a part without open signs may stay open.
    """

    seconds: float = 60.0
    domains: int = 5000
    together: int = 64
    steps: int = 10
    attack_steps: int = 50

    def __post_init__(self) -> None:
        whole("attack_steps", self.attack_steps)
        number("seconds", self.seconds, least=0, above=True)
        for name in ("domains", "together", "steps"):
            whole(name, getattr(self, name), least=1)

    def certify(self, subject: CertifierInput) -> Finding:
        """A lower bound of each row's least margin, and images where there are some."""
        network, region = subject.network(True), subject.region
        refined = Refined(network, region, until=_until(self.seconds, subject))
        known = intervals(network, region, unit=subject.unit, refine=refined)
        bound = best_margins(network, subject.y, known, region, Search())
        margin, images = bound.amin(1), region.x.clone()
        broken = torch.zeros(len(bound), dtype=torch.bool, device=bound.device)
        left = (margin <= 0).nonzero().squeeze(1)
        if len(left) and self.attack_steps:
            allowed, breaks = subject.judge(subject.attack(left, self.attack_steps), left)
            broken[left[breaks]], images[left[breaks]] = True, allowed[breaks].to(images)
        undecided = ((bound <= 0) & ~broken[:, None]).nonzero()
        if not len(undecided):
            return Finding(margin, broken, images, _late(refined))
        row = undecided[:, 0]
        own = [each.take(row) for each in known]
        functions = margins(network, subject.y)[undecided[:, 0], undecided[:, 1]][:, None]
        effort = Effort(self.seconds * len(row.unique()), self.domains, self.together, Search(self.steps))
        verdicts = branch_and_bound(
            Problems(network, functions, own, region.take(row), row),
            lambda problem, images: subject.judge(images, row[problem]),
            effort,
            subject.progress,
        )
        margin = torch.where((bound > 0).all(1), margin, torch.inf)
        margin = margin.scatter_reduce(0, row, verdicts.least, "amin")
        margin = torch.minimum(margin, torch.where(bound > 0, bound, torch.inf).amin(1))
        margin = torch.where(broken, -torch.inf, margin)
        for at in verdicts.broken.nonzero().squeeze(1).tolist():
            broken[row[at]], images[row[at]] = True, verdicts.images[at]
        events = () if is_complete(network) else ("maxima over windows with padding are not split",)
        return Finding(margin, broken, images, (*_late(refined), *events))

    def describe(self) -> str:
        """Its name and time."""
        return f"branch and bound, {self.seconds:g} s"
