"""Attacks of other libraries as attacks of this one: run by them, measured by our referee."""

import importlib.metadata
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from assay.core.arguments import described, one_of, reject
from assay.core.attack import Step
from assay.core.geometry import Geometry
from assay.core.guard import seeded
from assay.core.minimal import budget
from assay.core.oracle import Oracle
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.types import Count, Images, Labels

Run = Callable[[nn.Module, Images, Labels, Labels | None], Images]
LIBRARIES = ("foolbox", "torchattacks", "art")
STEPS = ("steps", "max_iter", "n_iter", "n_queries")
STEP_SIZES = ("alpha", "eps_step", "abs_stepsize", "rel_stepsize", "stepsize", "step_size")
"""What the libraries call a number of steps, and the size of one."""


_PACKAGES = MappingProxyType({"foolbox": "foolbox", "torchattacks": "torchattacks",
                              "art": "adversarial-robustness-toolbox"})  # fmt: skip
_KINDS = MappingProxyType({
    "labels": ("boundary", "hopskip", "geoda", "signopt", "sign_opt", "pointwise", "blended", "contrast", "threshold"),
    "scores": ("square", "zoo", "simba", "onepixel", "pixle", "pixelattack", "genattack", "nes"),
    "noise": ("noise", "saltandpepper", "gaussianblur"),
})  # fmt: skip


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
            None where that cannot be had.
        arguments: of the library's attack, by name; with them two settings of one attack are two attacks.
        version: of the library.
    """

    name: str
    run: Run = field(repr=False)
    norm: str = "linf"
    eps: float | None = None
    remake: Callable[[float | None], Run] | None = field(default=None, repr=False)
    arguments: tuple[tuple[str, Any], ...] = ()
    version: str = ""

    def __post_init__(self) -> None:
        budget(self.norm, self.eps)
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
    def goes_by(self) -> str:
        """``"gradient"``, ``"scores"``, ``"labels"`` or ``"noise"``, by the name that its library gives it."""
        name = self.name.partition(":")[2].lower()
        return next((kind for kind, words in _KINDS.items() if any(word in name for word in words)), "gradient")

    def init(self, rows: Rows, rng: Rng) -> PeerState:
        """Not run yet."""
        return PeerState(torch.zeros(len(rows), dtype=torch.int64, device=rows.x.device))

    def step(self, rows: Rows, state: PeerState, oracle: Oracle, rng: Rng) -> Step[PeerState]:
        """Run the library, then look at what it made."""
        counted = _Counted(oracle.model)
        target = rows.goal.aim if bool(rows.goal.strict.all()) else None
        first = int(rows.key[0]) if len(rows) else 0  # another one for each restart
        with seeded((rng.seed + first) % 2**63, {rows.x.device}), torch.enable_grad():
            made = self.run(counted, rows.x.detach().clone(), rows.y.clone(), target)
        if not isinstance(made, Tensor) or made.shape != rows.x.shape:
            reject(self.name, f"images of shape {tuple(rows.x.shape)}", described(f"{type(made).__name__}"))
        image = made.detach().to(rows.x).clamp(0, 1)
        if self.geometry is not None:  # clipping and float rounding of the library
            image = (rows.x + self._within(image - rows.x, rows)).clamp(0, 1)
        share = -(-counted.images // max(len(rows), 1))
        oracle.bind(oracle.forwards + share, oracle.backwards + share * counted.gradients, oracle.nonfinite)
        logits = oracle.logits(image, rows)
        reached = rows.goal.reached(logits, image)
        cost = torch.where(reached, torch.linalg.vector_norm((image - rows.x).flatten(1), dim=1), torch.inf)
        return Step(PeerState(state.step + 1), image, reached, cost, torch.ones_like(reached))

    def describe(self) -> str:
        """Library, name, arguments and budget."""
        words = ",".join([self.name, *(f"{name}={value}" for name, value in self.arguments)])
        return words if self.geometry is None else f"{words} {self.geometry.describe()}"

    def times(self, names: tuple[str, ...], factor: float) -> "Peer":
        """The same with so many times the first of these arguments for which it has a number; itself without one."""
        known = {**_defaults(self.name), **dict(self.arguments)}
        for name in names:
            value = known.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                more = max(1, round(factor * value)) if isinstance(value, int) else factor * value
                return peer(self.name, self.eps, norm=self.norm, **{**dict(self.arguments), name: more})
        return self

    def _within(self, delta: Tensor, rows: Rows) -> Tensor:
        """A hair's breadth over the budget is brought back; more is left, for the referee to refuse."""
        geometry = self.geometry
        if geometry is None:
            return delta
        size = geometry.size(delta, rows)
        near = (size > 1) & (size < 1 + 1e-3)
        return torch.where(near.reshape(-1, 1, 1, 1), geometry.project(delta.clone(), rows), delta)


class _Counted(nn.Module):
    """The model, with a count of the images that pass through it."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.images, self.gradients = model, 0, False

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        self.gradients = self.gradients or x.requires_grad
        return self.model(x)


def peer(spec: str, eps: float | None = None, *, norm: str = "linf", **arguments: Any) -> Peer:
    """An attack of foolbox, torchattacks or the Adversarial Robustness Toolbox.

    Args:
        spec: ``library:attack``, such as ``"foolbox:LinfPGD"``, ``"torchattacks:PGD"`` or
            ``"art:ProjectedGradientDescent"``.
        eps: its budget in input units; None for an attack that minimises a distance.
        norm: of the budget.
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
    make = {"foolbox": _foolbox, "torchattacks": _torchattacks, "art": _art}[library]

    def remake(eps: float | None) -> Run:
        return make(name, eps, norm, arguments)

    return Peer(spec, remake(eps), norm, eps, remake, tuple(sorted(arguments.items())), _version(library))


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(_PACKAGES[library])
    except importlib.metadata.PackageNotFoundError:  # imported from a folder
        return ""


def _defaults(spec: str) -> dict[str, Any]:
    """What a library's attack takes where nothing is given; nothing for attacks of no known library."""
    library, _, name = spec.partition(":")
    place = {"foolbox": "foolbox.attacks", "torchattacks": "torchattacks", "art": "art.attacks.evasion"}.get(library)
    if place is None:
        return {}
    try:
        made = getattr(_import(place), name, None)
    except ImportError:
        return {}
    known = inspect.signature(made).parameters.values() if callable(made) else ()
    return {given.name: given.default for given in known}


def _lookup(module: Any, library: str, name: str) -> Any:
    found = getattr(module, name, None)
    if not callable(found):
        reject("spec", f"an attack of {library}, by the name of its class", name)
    return found


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as failure:
        raise ImportError(
            f"this attack runs {name.partition('.')[0]}, which cannot be imported: {failure}"
        ) from failure


def _foolbox(name: str, eps: float | None, norm: str, arguments: dict[str, Any]) -> Run:
    library = _import("foolbox")
    attack = _lookup(library.attacks, "foolbox.attacks", name)(**arguments)

    def run(model: nn.Module, x: Images, y: Labels, target: Labels | None) -> Images:
        wrapped = library.PyTorchModel(model.eval(), bounds=(0, 1), device=x.device)
        criterion = (
            library.criteria.Misclassification(y)
            if target is None
            else library.criteria.TargetedMisclassification(target)
        )
        raw, clipped, _ = attack(wrapped, x, criterion, epsilons=eps)
        images: Images = raw if eps is None else clipped
        return images

    return run


def _torchattacks(name: str, eps: float | None, norm: str, arguments: dict[str, Any]) -> Run:
    library = _import("torchattacks")
    kind = _lookup(library, "torchattacks", name)

    def run(model: nn.Module, x: Images, y: Labels, target: Labels | None) -> Images:
        attack = kind(model, **({} if eps is None else {"eps": eps}), **arguments)
        if target is not None:
            attack.set_mode_targeted_by_label(quiet=True)
        images: Images = attack(x, y if target is None else target)
        return images

    return run


def _art(name: str, eps: float | None, norm: str, arguments: dict[str, Any]) -> Run:
    kind = _lookup(_import("art.attacks.evasion"), "art.attacks.evasion", name)
    wrapper = _import("art.estimators.classification").PyTorchClassifier

    def run(model: nn.Module, x: Images, y: Labels, target: Labels | None) -> Images:
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        estimator = wrapper(model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), classes, clip_values=(0.0, 1.0),
                            device_type="cpu" if x.device.type == "cpu" else "gpu")  # fmt: skip
        given = {**({} if eps is None else {"eps": eps}), **({} if target is None else {"targeted": True}), **arguments}
        aim = y if target is None else target
        made = kind(estimator, **given).generate(x.cpu().numpy(), aim.cpu().numpy())
        return torch.from_numpy(made)

    return run
