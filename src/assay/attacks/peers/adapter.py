"""Attacks of other libraries as attacks of this one: run by them, measured by our referee."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from assay.attacks.peers.libraries import LIBRARIES, Run, access_of, defaults, make_run, version
from assay.attacks.peers.model import PeerModel, isolated
from assay.core.attack import Step
from assay.core.call_context import ONE_DRAWS
from assay.core.geometry import Geometry
from assay.core.model_state import seeded
from assay.core.objective import Objective
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.traits import ACCESS, Traits
from assay.core.tree import expand_rows, take
from assay.core.types import Count, Images
from assay.parts.losses import PlainCrossEntropy
from assay.parts.min_distance import budget, check_budget
from assay.parts.variation import check_variation, radius_in
from assay.util.parse import parse_number
from assay.util.spec import split_pairs
from assay.util.validate import described, one_of, reject

STEPS = ("steps", "max_iter", "n_iter", "n_queries")
STEP_SIZES = ("alpha", "eps_step", "abs_stepsize", "rel_stepsize", "stepsize", "step_size")
"""What the libraries call a number of steps, and the size of one."""


class PeerState(NamedTuple):
    """Nothing but a count."""

    step: Count


@dataclass(frozen=True)
class Peer:
    """Another library's attack, in one step.

    What comes back is clipped to the box and judged like any candidate: budget, box and goal. The passes counted are
    those the library made, divided evenly over the rows. Its random numbers (seeded for each batch) and its early
    stopping are its own: unlike assay's attacks, a row's result may depend on its batch, and a limit on its passes is
    its own affair.

    Args:
        name: for tables.
        run: from model, images, labels and targets (or None) to images.
        norm: of the budget.
        eps: the budget, or None.
        remake: the same for another budget, so that ``dataclasses.replace(peer, eps=…)`` is an attack with that budget;
            None if unknown.
        arguments: of the library's attack, by name; with them two settings of one attack are two attacks.
        version: of the library.
        access: what it needs from the model, as in `Traits`; None for what a table says of the library's class.
    """

    name: str
    run: Run = field(repr=False)
    norm: str = "linf"
    eps: float | None = None
    remake: Callable[[float | None], Run] | None = field(default=None, repr=False)
    arguments: tuple[tuple[str, Any], ...] = ()
    version: str = ""
    access: str | None = None

    def __post_init__(self) -> None:
        check_budget(self, self.norm)
        if self.remake is not None:
            object.__setattr__(self, "run", self.remake(self.eps))

    @property
    def geometry(self) -> Geometry | None:
        """The budget, if there is one."""
        return budget(self.norm, self.eps)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond the image."""
        return ()

    @property
    def traits(self) -> Traits:
        """One step, which is the whole attack."""
        library, _, name = self.name.partition(":")
        access = access_of(library, name) if self.access is None else self.access
        objective = PlainCrossEntropy() if access == "gradient" else None
        return Traits(access, None, randomised=True, objective=objective)

    def vary(
        self,
        *,
        effort: float = 1,
        step_size: float = 1,
        geometry: Geometry | None = None,
        objective: Objective | None = None,
    ) -> "Peer | None":
        """With another effort, step size or radius, where the library's attack has an argument for it."""
        check_variation(geometry, objective)
        varied: Peer | None = self
        if effort != 1:
            varied = self._times(STEPS, effort)
        if step_size != 1 and varied is not None:
            varied = varied._times(STEP_SIZES, step_size)
        if varied is None or objective is not None:
            return None
        if geometry is None:
            return varied
        radius = radius_in(geometry, self.norm)
        return None if radius is None or self.remake is None else replace(varied, eps=radius)

    def init(self, rows: Rows, rng: Rng) -> PeerState:
        """Not run yet."""
        return PeerState(torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device))

    def step(self, rows: Rows, state: PeerState, oracle: Oracle, rng: Rng) -> Step[PeerState]:
        """Run the library, then evaluate its images.

        An image with a value that is not finite is reported as such; the clean image stands for it.
        """
        layout = oracle.layout
        with nullcontext() if layout is None else layout.paused(), isolated(oracle.model):
            model = PeerModel(oracle.model, oracle.dtype, oracle.device)
            images = self._run(model, rows, rng)
        finite = images.flatten(1).isfinite().all(1)
        image = torch.where(expand_rows(finite, images), images, rows.x).clamp(0, 1)
        if self.geometry is not None:  # clipping and float rounding of the library
            image = (rows.x + self._within(image - rows.x, rows)).clamp(0, 1)
        forwards, backwards = (
            -(-count // max(len(rows), 1)) * oracle.draws for count in (model.forwards, model.backwards)
        )
        oracle.count(forwards, backwards)
        oracle.observe(torch.where(finite, 0.0, torch.nan))
        logits = oracle.logits(image, rows)
        reached = rows.goal.reached(logits, image)
        cost = torch.where(reached, torch.linalg.vector_norm((image - rows.x).flatten(1), dim=1), torch.inf)
        return Step(PeerState(state.step + 1), image, reached, cost, torch.ones_like(reached))

    def _run(self, model: PeerModel, rows: Rows, rng: Rng) -> Images:
        """The library's images, in the type and on the device of the rows; each restart is a call of its own."""
        attempts = [0] * len(rows) if rows.attempt is None else rows.attempt.tolist()
        if len(set(attempts)) < 2:
            return self._called(model, rows, rng)
        images = torch.empty_like(rows.x)
        for attempt in sorted(set(attempts)):
            at = torch.tensor([i for i, of in enumerate(attempts) if of == attempt], device=rows.x.device)
            images[at] = self._called(model, take(rows, at), rng)
        return images

    def _called(self, model: PeerModel, rows: Rows, rng: Rng) -> Images:
        target = rows.goal.aim.clone() if bool(rows.goal.strict.all()) else None
        first = int(rows.key[0]) if len(rows) else 0  # another one for each restart
        with ONE_DRAWS, seeded((rng.seed + first) % 2**63, {rows.x.device}), torch.enable_grad():
            images = self.run(model, rows.x.detach().clone(), rows.y.clone(), target)
        expected = f"images of shape {tuple(rows.x.shape)}"
        if not isinstance(images, Tensor):
            reject(self.name, f"a tensor: {expected}", described(f"{type(images).__name__}"))
        if images.shape != rows.x.shape:
            reject(self.name, expected, described(f"shape {tuple(images.shape)}"))
        return images.detach().to(rows.x)

    def describe(self) -> str:
        """Library, name, arguments and budget."""
        words = ",".join([self.name, *(f"{name}={value}" for name, value in self.arguments)])
        return words if self.geometry is None else f"{words} {self.geometry.describe()}"

    def _times(self, names: tuple[str, ...], factor: float) -> "Peer | None":
        """The same with so many times the first of these arguments for which it has a number; None without one."""
        library, _, name = self.name.partition(":")
        known = {**defaults(library, name), **dict(self.arguments)}
        for argument in names:
            value = known.get(argument)
            if isinstance(value, int | float) and not isinstance(value, bool):
                more = max(1, round(factor * value)) if isinstance(value, int) else factor * value
                arguments = {**dict(self.arguments), argument: more}
                return peer(self.name, self.eps, norm=self.norm, access=self.access, **arguments)
        return None

    def _within(self, delta: Tensor, rows: Rows) -> Tensor:
        """A hair's breadth over the budget is brought back; more is left, for the referee to refuse."""
        geometry = self.geometry
        if geometry is None:
            return delta
        size = geometry.size(delta, rows)
        near = (size > 1) & (size < 1 + 1e-3)
        return torch.where(near.reshape(-1, 1, 1, 1), geometry.project(delta.clone(), rows), delta)


def peer(
    spec: str, eps: float | None = None, *, norm: str = "linf", access: str | None = None, **arguments: Any
) -> Peer:
    """An attack of foolbox, torchattacks or the Adversarial Robustness Toolbox.

    Args:
        spec: ``library:attack``, such as ``"foolbox:LinfPGD"``, ``"torchattacks:PGD"`` or
            ``"art:ProjectedGradientDescent"``.
        eps: its budget in input units; None for an attack that minimises a distance.
        norm: of the budget.
        access: what it needs from the model, as in `Traits`; by default as in a table of the libraries' classes, and
            ``"gradient"`` for a class that is not in it.
        arguments: of the attack's constructor.

    Returns:
        An attack.

    Raises:
        ImportError: the library is not installed.
        ValueError: an unknown library or attack.

    Example:
        >>> peer("cleverhans:PGD")
        Traceback (most recent call last):
        ValueError: spec: expected one of 'foolbox', 'torchattacks', 'art', got 'cleverhans'
    """
    library, _, name = spec.partition(":")
    one_of("spec", library, LIBRARIES)

    def remake(eps: float | None) -> Run:
        return make_run(library, name, eps, norm, arguments)

    if access is not None:
        one_of("access", access, ACCESS)
    pairs = tuple(sorted(arguments.items()))
    return Peer(spec, remake(eps), norm, eps, remake, pairs, version(library), access)


def read_peer(library: str, text: str, eps: float, norm: str) -> Peer:
    """``LinfPGD,steps=40``: an attack of another library with arguments of its own.

    Args:
        library: one of `LIBRARIES`.
        text: the name of the attack's class, and its arguments as ``key=value``; ``eps`` and ``norm`` are the budget's.
        eps: the budget where the text has none.
        norm: of the budget where the text has none.

    Raises:
        ImportError, ValueError: as `peer`, or text that is wrong.
    """
    name, comma, rest = (t.strip() for t in text.partition(","))
    if not name or "=" in name:
        reject("attack", f"the name of an attack after {library}:, as in {library}:PGD", text)
    if comma and not rest:
        reject("attack", f"key=value after {library}:{name},", text)
    arguments: dict[str, Any] = {"eps": eps, "norm": norm}
    arguments |= {key: _typed(key, value) for key, value in split_pairs("attack", f"{library}:{name}", rest)}
    return peer(f"{library}:{name}", **arguments)


def _typed(key: str, text: str) -> Any:
    """A value as the number, truth value or word that it looks like."""
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    try:
        number = parse_number(text)
    except ValueError:
        return text
    return int(number) if key != "eps" and number == int(number) and "." not in text else number
