"""StrAttack: perturbations that are sparse by groups of pixels."""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from assay.attacks.fmn import FMN
from assay.attacks.structured.on_support import OnSupport
from assay.attacks.structured.refine import Refine
from assay.core.attack import Step
from assay.core.combinators import Then
from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import Traits
from assay.core.tree import choose, expand_rows
from assay.core.types import Count, Flag, Images, PerRow
from assay.parts.balls import Ball
from assay.parts.bisection import Bracket, begin, narrow
from assay.parts.groups import Groups, Parts, shrink
from assay.parts.losses import Margin
from assay.parts.min_distance import check_budget, claim, length_of
from assay.parts.projections import project_l1
from assay.parts.variation import vary_fields
from assay.util.hints import with_hints
from assay.util.validate import number, one_of, reject, whole

DISTORTIONS = ("l2", "l1", "linf", "none")


class Splitting(NamedTuple):
    """The iterate z of ADMM and its multipliers over ρ: of δ, of w, and of the groups (each inside itself)."""

    z: Images
    u: Images
    s: Images
    v: Parts


class GroupState(NamedTuple):
    """Where each row is."""

    parts: Splitting
    bracket: Bracket
    reached: Flag
    """Whether this round has found an adversarial image."""
    least: PerRow
    """Least cost of one in this round."""
    stale: Count
    """Iterations since that improved."""
    step: Count
    round: Count


@dataclass(frozen=True)
class GroupSearch:
    """Least ``c·max(−margin, −κ) + γ·D(δ) + τ·Σ‖δ_group‖₂`` by ADMM, with a row-wise bisection of c. See `StrAttack`.

    Args:
        group: side of the groups in pixels (r).
        stride: how far apart they are (S), at most ``group``.
        steps: the most ADMM iterations a round.
        rounds: rounds of the bisection of c.
        patience: a round ends after so many iterations without a better adversarial image, once it has one.
        constant: first c.
        tau: weight of the group norms (τ).
        gamma: weight of the distortion (γ).
        rho: penalty of ADMM (ρ).
        alpha: the linearised part has the weight ``alpha·√k`` (η).
        distortion: D: ``"l2"`` (its square), ``"l1"``, ``"linf"`` or ``"none"``.
        confidence: margin in logits that the image must have (κ).
        consensus: whether an overlapping pixel is bound to the groups that it is in, rather than to all.
        eps: limit on every single change.
    """

    group: int = 2
    stride: int = 2
    steps: int = 200
    rounds: int = 6
    patience: int = 40
    constant: float = 1.0
    tau: float = 1.6
    gamma: float = 1.0
    rho: float = 5.0
    alpha: float = 5.0
    distortion: str = "l2"
    confidence: float = 0.0
    consensus: bool = True
    eps: float | None = None

    def __post_init__(self) -> None:
        for name in ("group", "stride", "rounds", "patience"):
            whole(name, getattr(self, name), least=1)
        whole("steps", self.steps)
        for name in ("constant", "rho", "alpha"):
            number(name, getattr(self, name), least=0, above=True)
        for name in ("tau", "gamma", "confidence"):
            number(name, getattr(self, name), least=0)
        one_of("distortion", self.distortion, DISTORTIONS)
        check_budget(self, "linf")
        Groups(self.group, self.stride)

    @property
    def geometry(self) -> Geometry | None:
        """The limit on every single change, if there is one."""
        return None if self.eps is None else Ball("linf", self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond the image."""
        return ()

    @property
    def groups(self) -> Groups:
        """The sliding mask."""
        return Groups(self.group, self.stride)

    @property
    def traits(self) -> Traits:
        """What it asks of the model, and what it does."""
        return Traits("gradient", self.steps * self.rounds, price=2, minimises="groups", objective=Margin())

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "GroupSearch | None":
        """With another effort, step size, budget or loss."""
        return vary_fields(self, effort, step_size, geometry, objective, norm="linf")

    def init(self, rows: Rows, rng: Rng) -> GroupState:
        """Nothing changed, all multipliers 0."""
        zero = torch.zeros_like(rows.x)
        count = torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device)
        bracket = begin(rows.x, self.constant)
        infinite = torch.full_like(bracket.constant, torch.inf)
        parts = Splitting(zero, zero, zero, self.groups.cut(zero))
        return GroupState(parts, bracket, count > 0, infinite, count, count, count)

    def step(self, rows: Rows, state: GroupState, oracle: Oracle, rng: Rng) -> Step[GroupState]:
        """One ADMM iteration, and a look at the sparse perturbation that it has."""
        z = state.parts.z
        seen = oracle.evaluate(Margin(self.confidence), (rows.x + z).clamp(0, 1), rows)  # z itself may leave the box
        slope = -expand_rows(state.bracket.constant, z) * seen.grad
        weight = self.alpha * (state.step + 1).to(z).sqrt()
        parts, sparse = self.iterate(rows, state.parts, slope, weight)
        image = (rows.x + sparse).clamp(0, 1)
        logits = oracle.logits(image, rows)
        at = claim(rows, image, logits, "l2", self.geometry)
        enough = rows.goal.margin(logits) >= self.confidence
        reached, cost = at.reached & enough, self.cost(image - rows.x)
        better = reached & (cost < state.least)
        state = state._replace(
            parts=parts,
            reached=state.reached | reached,
            least=torch.where(better, cost, state.least),
            stale=torch.where(better | ~state.reached, 0, state.stale + 1),
            step=state.step + 1,
        )
        state = self._next_round(rows, state)
        hit = at.hit & enough
        done = (state.round >= self.rounds) | (state.step >= self.steps)  # no steps at all
        return Step(state, image, hit, torch.where(hit, cost, torch.inf), done)

    def describe(self) -> str:
        """Name, rounds, steps and groups."""
        overlap = f" stride {self.stride}" if self.stride != self.group else ""
        limit = "" if self.geometry is None else f" {self.geometry.describe()}"
        return f"StrAttack-{self.rounds}×{self.steps} {self.group}×{self.group}{overlap}{limit}"

    def cost(self, delta: Images) -> PerRow:
        """``γ·D(δ) + τ·Σ‖δ_group‖``: what the problem weighs."""
        norms = self.groups.norms(delta).flatten(1).sum(1)
        if self.distortion == "none":
            return self.tau * norms
        length = length_of(delta, self.distortion)
        return self.gamma * (length.square() if self.distortion == "l2" else length) + self.tau * norms

    def iterate(self, rows: Rows, parts: Splitting, slope: Images, weight: PerRow) -> tuple[Splitting, Images]:
        """One iteration of ADMM: equations 10–12, 15 and 9, and 17–18 where groups overlap.

        Args:
            rows: the rows.
            parts: iterate and multipliers.
            slope: gradient of ``c·f`` at z.
            weight: η of each row.

        Returns:
            The next iterate and multipliers, and y as one perturbation.
        """
        groups, rho = self.groups, self.rho
        z = parts.z
        delta = self._distort(z - parts.u)
        low, high = -rows.x, 1 - rows.x
        if self.eps is not None:
            low, high = low.clamp_min(-self.eps), high.clamp_max(self.eps)
        w = torch.minimum(torch.maximum(z - parts.s, low), high)
        y = shrink(groups.cut(z) - parts.v, self.tau / rho)
        cover = groups.cover(z)
        bound = groups.paste(y + parts.v, z)
        many = cover if self.consensus or self.stride >= self.group else torch.full_like(cover, float(y.shape[2]))
        bound = bound + (many - cover) * z  # outside its group a full copy is z
        by_row = expand_rows(weight, z)
        total = by_row * z + rho * (delta + parts.u + w + parts.s + bound) - slope
        moved = total / (by_row + rho * (2 + many))
        after = Splitting(moved, parts.u + delta - moved, parts.s + w - moved, parts.v + y - groups.cut(moved))
        return after, groups.paste(y, z) / cover.clamp_min(1)

    def _distort(self, a: Images) -> Images:
        """The δ-step: the proximal operator of ``γ·D`` at a (equation 10 for the square of l2)."""
        ratio = self.gamma / self.rho
        if self.distortion == "l2":
            return a / (1 + 2 * ratio)
        if self.distortion == "l1":
            return a - a.clamp(-ratio, ratio)
        if self.distortion == "linf":  # Moreau: what is left of a after its projection on an l1 ball
            size = a.abs().flatten(1)
            radius = torch.full_like(size[:, :1], ratio)
            return a - project_l1(size, torch.full_like(size, torch.inf), radius).view_as(a).copysign(a)
        return a

    def _next_round(self, rows: Rows, state: GroupState) -> GroupState:
        ended = (state.step >= self.steps) | (state.stale >= self.patience)
        fresh = self.init(rows, Rng())
        bracket = narrow(state.bracket, state.reached, growth=5.0)
        return choose(ended, fresh._replace(bracket=bracket, round=state.round + 1), state)


@with_hints
def StrAttack(
    *,
    group: int = 2,
    stride: int = 2,
    steps: int = 200,
    rounds: int = 6,
    refine: int = 300,
    solver: str = "fmn",
    quantile: float = 0.03,
    constant: float = 1.0,
    tau: float = 1.6,
    gamma: float = 1.0,
    rho: float = 5.0,
    alpha: float = 5.0,
    distortion: str = "l2",
    confidence: float = 0.0,
    consensus: bool = True,
    patience: int = 40,
    eps: float | None = None,
) -> GroupSearch | Then:
    """Few groups of pixels changed, and those little: group sparsity by ADMM, then a refinement with the zeros held.

    Args:
        group: side of the groups in pixels (r).
        stride: how far apart they are (S), at most ``group``; less for overlapping groups.
        steps: the most ADMM iterations a round, of two passes forward and one backward.
        rounds: rounds of the bisection of c, which each row has for itself.
        refine: passes of the refinement; 0 for none.
        solver: of the refinement: ``"fmn"`` (`OnSupport`) or ``"admm"`` (`Refine`, the paper's, four such rounds).
        quantile: share of the changed values, the smallest, that the refinement puts back (σ).
        constant: first c.
        tau: weight of the group norms (τ).
        gamma: weight of the distortion (γ).
        rho: penalty of ADMM (ρ).
        alpha: the linearised part has the weight ``alpha·√k`` (η).
        distortion: D: ``"l2"`` (its square), ``"l1"``, ``"linf"`` or ``"none"``; it decides which image is kept and
            in what the refinement brings it nearer (in l2 for ``"none"``).
        confidence: margin in logits that the image must have (κ).
        consensus: with overlapping groups, bind each pixel to the groups that it is in (weight n_j); otherwise to a
            full copy of the image for each group, as the paper does (weight PQ), without storing the copies.
        patience: a round ends after so many iterations without a better adversarial image, once it has one.
        eps: limit on every single change; with it the first adversarial image ends a sample unless ``stop="never"``.

    Returns:
        The search, followed by the refinement of what it found.

    Example:
        >>> StrAttack(refine=0).describe()
        'StrAttack-6×200 2×2'

    Source: Xu, Liu, Zhao, Chen, Zhang, Fan, Erdogmus, Wang & Lin, "Structured adversarial attack: towards general
    implementation and better interpretability", ICLR 2019, equations 2–15, propositions 2 and 3, appendix F. For the
    overlapping form of the paper, the copy of a group outside the group itself satisfies ``y_i + v_i/ρ = z^k``, so only
    the parts inside the groups are kept; the iterates are the same. Deviations: c is found by bisection for each row;
    the sparse y, the mean where groups overlap, is clipped to the box and judged after every iteration, and the
    adversarial one with the least ``γ·D(δ) + τ·Σ‖δ_group‖`` is kept; the refinement is left to FMN on the support,
    which comes nearer with fewer passes than ADMM (``solver="admm"``; used with ``eps`` or ``confidence``); σ is a
    share of each image's own changes (the authors' code has one threshold for a batch, so an image's result hangs on
    its neighbours); the gradient is taken at z clipped to the box (the paper's z need not be an image); groups across
    the border, see `Groups`; ρ = 5 and τ = 1.6 instead of 1 and 2, which gave sparser and smaller perturbations in a
    few hundred iterations (`docs/measured.md`).
    """
    search = GroupSearch(
        group, stride, steps, rounds, patience, constant, tau, gamma, rho, alpha, distortion, confidence, consensus, eps
    )
    if not whole("refine", refine):
        return search
    number("quantile", quantile, least=0, most=1)
    norm = "l2" if distortion == "none" else distortion
    if one_of("solver", solver, ("fmn", "admm")) == "fmn" and eps is None and confidence == 0:
        return Then(search, OnSupport(FMN(refine, norm=norm), quantile))
    if norm != "l2":
        reject("distortion", "l2, as ADMM refines in l2 (with solver=admm, eps or confidence), or refine=0", distortion)
    return Then(search, Refine(steps=refine, quantile=quantile, confidence=confidence, eps=eps))
