"""Attacks made of attacks: restarts, targets, cascades.

A combinator does not run anything. It unfolds into *stages*, each a plain attack with the variants (restart, target)
in which every sample is tried until one breaks it. The engine runs variants as further rows, so batches stay full,
and a sample that is broken costs nothing more.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

from assay.core.attack import Attack
from assay.core.geometry import Geometry, scaled
from assay.core.traits import Traits
from assay.util.validate import described, reject, whole

MOST = 1 << 20
"""More restarts than anyone will ask for: keeps the addresses of restarts and targets apart."""


class Variant(NamedTuple):
    """One attempt at a sample.

    Attributes:
        restart: which restart, from 0; part of the address of its random draws.
        rank: which target: the rank-th most likely wrong class on the clean image, from 1; 0 for none.
    """

    restart: int = 0
    rank: int = 0


@dataclass(frozen=True)
class Stage:
    """A plain attack and the variants in which it is tried, in order.

    Attributes:
        attack: the attack.
        variants: its attempts at a sample.
        refines: it starts from the adversarial images of this many stages before it, and tries to better them; 0 for a
            stage that tries what those before it could not break.
        within: further sets that its images must be in: the budgets of the stages that it refines.
    """

    attack: Attack[Any]
    variants: tuple[Variant, ...] = (Variant(),)
    refines: int = 0
    within: tuple[Geometry, ...] = ()


@runtime_checkable
class Composite(Protocol):
    """An attack that unfolds into stages."""

    def stages(self) -> tuple[Stage, ...]:
        """The stages in the order in which survivors meet them."""
        ...

    def map(self, change: "Change") -> "Composite":
        """The same composition of changed attacks."""
        ...

    def describe(self) -> str:
        """One line for tables."""
        ...


AnyAttack = Attack[Any] | Composite
MEMBERS = ("geometry", "needs", "traits", "vary", "init", "step", "describe")
"""What a plain attack has (`Attack`)."""
Change = Callable[[Attack[Any]], Attack[Any]]
"""From a plain attack to a changed one."""


def unfold(attack: AnyAttack) -> tuple[Stage, ...]:
    """The stages of any attack; a plain one is one stage of one variant."""
    return attack.stages() if isinstance(attack, Composite) else (Stage(attack),)


def check_attack(attack: Any) -> AnyAttack:
    """An attack, which is refused where it is none.

    Args:
        attack: any value.

    Raises:
        TypeError: a class or a function, which would have to be called; a part of an attack is missing, which is named.
    """
    if isinstance(attack, type) or (callable(attack) and hasattr(attack, "__name__")):
        got = described(f"{attack.__name__}, which makes one (call it)")
        reject("attack", "an attack, such as assay.PGD(eps=8/255)", got, error=TypeError)
    if not isinstance(attack, Composite | Attack):
        missing = [name for name in MEMBERS if not hasattr(attack, name)]
        if len(missing) == len(MEMBERS):
            reject("attack", "an attack, such as assay.PGD(eps=8/255)", attack, error=TypeError)
        wanted = f"an attack with all of {', '.join(MEMBERS)} (see assay.core.attack.Attack)"
        reject("attack", wanted, described(f"{type(attack).__name__} without {', '.join(missing)}"), error=TypeError)
    result: AnyAttack = attack
    for stage in unfold(result):
        traits: Any = stage.attack.traits
        if not isinstance(traits, Traits):
            wanted = f"{type(stage.attack).__name__}.traits to be assay.core.traits.Traits"
            reject("attack", wanted, traits, error=TypeError)
    return result


def map_attacks(attack: AnyAttack, change: Change) -> AnyAttack:
    """Any attack with each plain attack in it changed."""
    return attack.map(change) if isinstance(attack, Composite) else change(attack)


def vary_attacks(attack: AnyAttack, change: Callable[[Attack[Any]], Attack[Any] | None]) -> AnyAttack | None:
    """Any attack with each plain attack in it varied; None if there is none that can be.

    Args:
        attack: any attack.
        change: gives the varied attack, such as ``lambda plain: plain.vary(effort=2)``; None where it cannot be varied,
            and is kept as it is.
    """
    varied = [change(stage.attack) for stage in unfold(attack)]
    if all(one is None for one in varied):
        return None

    def one(plain: Attack[Any]) -> Attack[Any]:
        changed = change(plain)
        return plain if changed is None else changed

    return map_attacks(attack, one)


def with_budget(attack: AnyAttack, factor: float) -> AnyAttack | None:
    """The attack with so many times its budget, or each of its budgets; None if these cannot be changed."""

    def larger(plain: Attack[Any]) -> Attack[Any] | None:
        wider = None if plain.geometry is None else scaled(plain.geometry, factor)
        return None if wider is None else plain.vary(geometry=wider)

    return vary_attacks(attack, larger)


@dataclass(frozen=True)
class Restarts:
    """Try an attack ``n`` times with fresh random draws; the first draw is that of the plain attack.

    Args:
        attack: any attack.
        n: number of tries, at least 1.

    Example:
        >>> from assay.attacks import PGD
        >>> len(Restarts(PGD(eps=8/255), 5).stages()[0].variants)
        5
    """

    attack: AnyAttack
    n: int

    def __post_init__(self) -> None:
        if whole("n", self.n, least=1) > MOST:
            reject("n", f"at most {MOST} restarts", self.n)

    def stages(self) -> tuple[Stage, ...]:
        """Each stage with its variants repeated."""
        return tuple(
            replace(
                stage,
                variants=tuple(
                    v._replace(restart=v.restart * self.n + r) for r in range(self.n) for v in stage.variants
                ),
            )
            for stage in unfold(self.attack)
        )

    def map(self, change: Change) -> "Restarts":
        """The same of changed attacks."""
        return replace(self, attack=map_attacks(self.attack, change))

    def describe(self) -> str:
        """The attack and the number of tries."""
        return f"{self.attack.describe()} ×{self.n}"


@dataclass(frozen=True)
class Targets:
    """Push towards each of the ``k`` most likely wrong classes in turn; any wrong class counts as success.

    The order is that of the clean logits. With fewer than ``k`` wrong classes all of them are tried.

    Args:
        attack: an attack whose objective looks at the goal's aim, such as APGD with DLR.
        k: number of targets, at least 1.

    Source: Croce & Hein, ICML 2020 (APGD-T, FAB-T); Gowal et al., "An alternative surrogate loss for PGD-based
    adversarial testing", 2019 (MultiTargeted).
    """

    attack: AnyAttack
    k: int = 9

    def __post_init__(self) -> None:
        whole("k", self.k, least=1)

    def stages(self) -> tuple[Stage, ...]:
        """Each stage once for each target."""
        return tuple(
            replace(
                stage, variants=tuple(v._replace(rank=rank) for rank in range(1, self.k + 1) for v in stage.variants)
            )
            for stage in unfold(self.attack)
        )

    def map(self, change: Change) -> "Targets":
        """The same of changed attacks."""
        return replace(self, attack=map_attacks(self.attack, change))

    def describe(self) -> str:
        """The attack and the number of targets."""
        return f"{self.attack.describe()} →{self.k} targets"


@dataclass(frozen=True)
class Cascade:
    """One attack after the other; each gets only the samples that survived those before.

    Args:
        attacks: at least one attack.
        name: for tables; by default the attacks' own names.
    """

    attacks: tuple[AnyAttack, ...]
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attacks", tuple(self.attacks))
        if not self.attacks:
            reject("attacks", "at least one attack", ())

    def stages(self) -> tuple[Stage, ...]:
        """All stages, one after the other."""
        return tuple(stage for attack in self.attacks for stage in unfold(attack))

    def map(self, change: Change) -> "Cascade":
        """The same of changed attacks."""
        return replace(self, attacks=tuple(map_attacks(attack, change) for attack in self.attacks))

    def describe(self) -> str:
        """The name, or the attacks' names."""
        return self.name or " + ".join(attack.describe() for attack in self.attacks)


@dataclass(frozen=True)
class Then:
    """Find, then refine: the second attack starts from the adversarial images of the first (`Rows.start`).

    Args:
        first: any attack.
        second: an attack that reads ``start`` and claims only images that are better than that.

    Example:
        >>> from assay.attacks import Refine, SigmaZero
        >>> Then(SigmaZero(steps=100), Refine(steps=20)).describe()
        'sigma-zero-100 l0, refined 4×20'
    """

    first: AnyAttack
    second: AnyAttack

    def stages(self) -> tuple[Stage, ...]:
        """The stages of both."""
        first = unfold(self.first)
        budgets = tuple(s.attack.geometry for s in first if s.attack.geometry is not None)
        later = enumerate(unfold(self.second))
        return (*first, *(replace(s, refines=len(first) + i, within=(*s.within, *budgets)) for i, s in later))

    def map(self, change: Change) -> "Then":
        """The same of changed attacks."""
        return Then(map_attacks(self.first, change), map_attacks(self.second, change))

    def describe(self) -> str:
        """Both names."""
        return f"{self.first.describe()}, {self.second.describe()}"
